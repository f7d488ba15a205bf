// Logarithm, sine, cosine and square root's neighbours for the laws: each result follows from IEEE-754 operations
// alone, every fused multiply-add written out, so that host and device agree bit for bit.
#pragma once

#include "coefficients.h"
#include "inline.h"

namespace fastinit {

// c[0] + c[1] x + ... by Horner's rule, one fma a degree.
template <class V, int N>
FASTINIT_INLINE typename V::Float horner(typename V::Float x, const float (&c)[N]) {
  typename V::Float p = V::f32(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) p = fma(p, x, V::f32(c[i]));
  return p;
}

template <class V, int N>
FASTINIT_INLINE typename V::Double horner(typename V::Double x, const double (&c)[N]) {
  typename V::Double p = V::f64(c[N - 1]);
#pragma GCC unroll 16
  for (int i = N - 2; i >= 0; --i) p = fma(p, x, V::f64(c[i]));
  return p;
}

// -2 ln(x / unit) >= 2^-80 for normal x <= unit, `unit` the bits of a power of two. bits(x) - unit is 2^23 (e + m - 1),
// exponent and a linear log2 in one conversion; the polynomial adds the rest. Absolute error of the root, for
// x / unit = u of the normal law: 5.5e-7 over all 2^32 draws.
template <class V>
FASTINIT_INLINE typename V::Float minus_two_log(typename V::Float x, uint32_t unit = 0x3F800000u) {
  const auto b = bits(x);
  const auto linear = to_float(b - V::int32(unit));
  const auto d = from_bits((b & V::int32(0x007FFFFFu)) | V::int32(0x3F800000u)) - V::f32(2.0f);
  const auto p = fma(horner<V>(d, coefficients::kLog), d, V::f32(0x1p-80f));
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
  const auto log_m = fma(s * z, horner<V>(z, coefficients::kLog64), s + s);
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;  // exponent * high is exact
  const auto sum = fma(exponent, V::f64(kLn2High), fma(exponent, V::f64(kLn2Low), log_m));
  return sum * V::f64(-2.0);
}

}  // namespace fastinit
