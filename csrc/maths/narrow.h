// float32 to the narrow floating types, rounded once to nearest even, in integer arithmetic: equal to
// float32_tensor.to(dtype). Results stand in the low bits of each 32-bit lane. Finite values only.
#pragma once

#include "inline.h"

namespace fastinit {

template <class V>
FASTINIT_INLINE typename V::Int to_bfloat16(typename V::Float x) {
  const auto b = bits(x);
  return shift_right<16>(b + V::int32(0x7FFFu) + (shift_right<16>(b) & V::int32(1u)));
}

// A type of 1 sign, kExponent exponent and kMantissa mantissa bits with IEEE's bias; from `overflow` up (as float32
// bits of the magnitude, after rounding to the type's precision) the result is `top`.
template <class V, int kExponent, int kMantissa>
FASTINIT_INLINE typename V::Int to_small_float(typename V::Float x, uint32_t overflow, uint32_t top) {
  constexpr int kBias = (1 << (kExponent - 1)) - 1, kDropped = 23 - kMantissa;
  constexpr uint32_t kRebias = static_cast<uint32_t>(127 - kBias) << 23;
  // Adding 2^(kDropped + 1 - kBias) leaves the multiple of the smallest subnormal number in the low mantissa bits.
  constexpr uint32_t kAligner = static_cast<uint32_t>(127 + kDropped + 1 - kBias) << 23;
  const auto b = bits(x);
  const auto sign = b & V::int32(0x80000000u);
  const auto magnitude = b ^ sign;
  const auto rounded =
      magnitude + V::int32((1u << (kDropped - 1)) - 1) + (shift_right<kDropped>(magnitude) & V::int32(1u));
  const auto normal = shift_right<kDropped>(rounded - V::int32(kRebias));
  const auto aligner = from_bits(V::int32(kAligner));
  const auto subnormal = bits(from_bits(magnitude) + aligner) - V::int32(kAligner);
  auto code = select(from_bits(magnitude) < from_bits(V::int32(kRebias + (1u << 23))), subnormal, normal);
  code = select(from_bits(rounded) < from_bits(V::int32(overflow)), code, V::int32(top));
  return code | shift_right<31 - kExponent - kMantissa>(sign);
}

// IEEE binary16; lanes with an instruction for it use that (to_half in lanes_*.h).
template <class V>
FASTINIT_INLINE typename V::Int to_float16_portable(typename V::Float x) {
  return to_small_float<V, 5, 10>(x, 0x47800000u, 0x7C00u);  // 65536 and above: infinity
}

template <class V>
FASTINIT_INLINE typename V::Int to_float8_e5m2(typename V::Float x) {
  return to_small_float<V, 5, 2>(x, 0x47800000u, 0x7Cu);  // infinity
}

template <class V>
FASTINIT_INLINE typename V::Int to_float8_e4m3fn(typename V::Float x) {
  return to_small_float<V, 4, 3>(x, 0x43F00000u, 0x7Eu);  // no infinity: saturates at 448
}

}  // namespace fastinit
