// Logarithm, sine, cosine and square root's neighbours for the laws: each result follows from IEEE-754 operations
// alone, every fused multiply-add written out, so that host and device agree bit for bit.
#pragma once

#include <type_traits>

#include "coefficients.h"
#include "inline.h"

namespace fastinit {

template <class V>
FASTINIT_INLINE typename V::Float lanes_of(float x) {
  return V::f32(x);
}
template <class V>
FASTINIT_INLINE typename V::Double lanes_of(double x) {
  return V::f64(x);
}

// c[i] + c[i + 1] x + ... by Horner's rule, one fma a degree. Device code may use the elements of a host's array by
// value alone, so that the array is an argument of the template.
template <class V, const auto& c, int i = 0, class Value>
FASTINIT_INLINE Value horner(Value x) {
  constexpr auto coefficient = c[i];
  if constexpr (i + 1 == std::extent_v<std::remove_reference_t<decltype(c)>>) {
    return lanes_of<V>(coefficient);
  } else {
    return fma(horner<V, c, i + 1>(x), x, lanes_of<V>(coefficient));
  }
}

// -2 ln(x / unit) >= 2^-80 for normal x <= unit, `unit` the bits of a power of two. bits(x) - unit is 2^23 (e + m - 1),
// exponent and a linear log2 in one conversion; the polynomial adds the rest. Absolute error of the root, for
// x / unit = u of the normal law: 5.5e-7 over all 2^32 draws.
template <class V>
FASTINIT_INLINE typename V::Float minus_two_log(typename V::Float x, uint32_t unit = 0x3F800000u) {
  const auto b = bits(x);
  const auto linear = to_float(b - V::int32(unit));
  const auto d = from_bits((b & V::int32(0x007FFFFFu)) | V::int32(0x3F800000u)) - V::f32(2.0f);
  const auto p = fma(horner<V, coefficients::kLog>(d), d, V::f32(0x1p-80f));
  return fma(linear, V::f32(-0x1.62e43p-23f), p);
}

// -2 ln x for normal x in (0, 1], within 2 units in the last place.
template <class V>
FASTINIT_INLINE typename V::Double minus_two_log(typename V::Double x) {
  constexpr uint64_t kRootHalf =
      0x3FE6A09E667F3BCDu;  // the bits of sqrt(1/2): the mantissa goes to [sqrt(1/2), sqrt(2))
  const auto b = bits(x);
  const auto up = add64(b, V::int64(0x3FF0000000000000u - kRootHalf));
  const auto exponent = to_double(shift_right64<52>(up)) - V::f64(1023.0);
  const auto m = double_from_bits(add64(up & V::int64(0x000FFFFFFFFFFFFFu), V::int64(kRootHalf)));
  const auto s = (m - V::f64(1.0)) / (m + V::f64(1.0));
  const auto z = s * s;
  const auto log_m = fma(s * z, horner<V, coefficients::kLog64>(z), s + s);
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;  // exponent * high is exact
  const auto sum = fma(exponent, V::f64(kLn2High), fma(exponent, V::f64(kLn2Low), log_m));
  return sum * V::f64(-2.0);
}

}  // namespace fastinit
