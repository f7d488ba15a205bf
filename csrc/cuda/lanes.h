// The lanes of a CUDA thread, for the laws of maths/: one Philox block, so two 32-bit values or one 64-bit value in
// each of the two halves that a law works on. The operations are those of cpu/lanes_scalar.h that the laws use.
#pragma once

#include "arithmetic.h"

namespace fastinit::cuda {

struct Int {
  uint32_t low, high;
};
struct Float {
  float low, high;
};
struct Double {
  double v;
};
struct Mask {
  bool low, high;
};
struct Mask64 {
  bool v;
};

struct Lanes {
  using Int = cuda::Int;
  using Float = cuda::Float;
  using Double = cuda::Double;

  FASTINIT_INLINE static Int int32(uint32_t x) { return {x, x}; }
  FASTINIT_INLINE static Int int64(uint64_t x) { return {static_cast<uint32_t>(x), static_cast<uint32_t>(x >> 32)}; }
  FASTINIT_INLINE static Float f32(float x) { return {x, x}; }
  FASTINIT_INLINE static Double f64(double x) { return {x}; }
};

// 32-bit integers
FASTINIT_INLINE Int operator+(Int a, Int b) { return {a.low + b.low, a.high + b.high}; }
FASTINIT_INLINE Int operator-(Int a, Int b) { return {a.low - b.low, a.high - b.high}; }
FASTINIT_INLINE Int operator&(Int a, Int b) { return {a.low & b.low, a.high & b.high}; }
FASTINIT_INLINE Int operator|(Int a, Int b) { return {a.low | b.low, a.high | b.high}; }
FASTINIT_INLINE Int operator^(Int a, Int b) { return {a.low ^ b.low, a.high ^ b.high}; }
template <int n>
FASTINIT_INLINE Int shift_left(Int a) {
  return {a.low << n, a.high << n};
}
template <int n>
FASTINIT_INLINE Int shift_right(Int a) {
  return {a.low >> n, a.high >> n};
}

// 64-bit integers
FASTINIT_INLINE uint64_t joined(Int a) { return a.low | static_cast<uint64_t>(a.high) << 32; }
FASTINIT_INLINE Int add64(Int a, Int b) { return Lanes::int64(joined(a) + joined(b)); }
template <int n>
FASTINIT_INLINE Int shift_left64(Int a) {
  return Lanes::int64(joined(a) << n);
}
template <int n>
FASTINIT_INLINE Int shift_right64(Int a) {
  return Lanes::int64(joined(a) >> n);
}

// float32
FASTINIT_INLINE Float operator+(Float a, Float b) { return {add(a.low, b.low), add(a.high, b.high)}; }
FASTINIT_INLINE Float operator-(Float a, Float b) { return {subtract(a.low, b.low), subtract(a.high, b.high)}; }
FASTINIT_INLINE Float operator*(Float a, Float b) { return {multiply(a.low, b.low), multiply(a.high, b.high)}; }
FASTINIT_INLINE Float operator/(Float a, Float b) { return {divide(a.low, b.low), divide(a.high, b.high)}; }
FASTINIT_INLINE Float fma(Float a, Float b, Float c) {
  return {multiply_add(a.low, b.low, c.low), multiply_add(a.high, b.high, c.high)};
}
FASTINIT_INLINE Float sqrt(Float a) { return {square_root(a.low), square_root(a.high)}; }
FASTINIT_INLINE Float min(Float a, Float b) { return {smaller(a.low, b.low), smaller(a.high, b.high)}; }
FASTINIT_INLINE Float max(Float a, Float b) { return {larger(a.low, b.low), larger(a.high, b.high)}; }
FASTINIT_INLINE Int bits(Float a) { return {bits_of(a.low), bits_of(a.high)}; }
FASTINIT_INLINE Float from_bits(Int a) { return {float_of_bits(a.low), float_of_bits(a.high)}; }
FASTINIT_INLINE Float to_float(Int a) {
  return {float_of(static_cast<int32_t>(a.low)), float_of(static_cast<int32_t>(a.high))};
}
FASTINIT_INLINE Float to_float_unsigned(Int a) { return {float_of(a.low), float_of(a.high)}; }
FASTINIT_INLINE Float flip_sign(Float a, Int s) { return from_bits(bits(a) ^ (s & Lanes::int32(0x80000000u))); }
FASTINIT_INLINE Mask operator<(Float a, Float b) { return {a.low < b.low, a.high < b.high}; }
FASTINIT_INLINE Mask operator|(Mask a, Mask b) { return {a.low || b.low, a.high || b.high}; }
FASTINIT_INLINE bool any(Mask m) { return m.low || m.high; }
FASTINIT_INLINE Float select(Mask m, Float a, Float b) { return {m.low ? a.low : b.low, m.high ? a.high : b.high}; }
FASTINIT_INLINE Int select(Mask m, Int a, Int b) { return {m.low ? a.low : b.low, m.high ? a.high : b.high}; }

// float64
FASTINIT_INLINE Double operator+(Double a, Double b) { return {add(a.v, b.v)}; }
FASTINIT_INLINE Double operator-(Double a, Double b) { return {subtract(a.v, b.v)}; }
FASTINIT_INLINE Double operator*(Double a, Double b) { return {multiply(a.v, b.v)}; }
FASTINIT_INLINE Double operator/(Double a, Double b) { return {divide(a.v, b.v)}; }
FASTINIT_INLINE Double fma(Double a, Double b, Double c) { return {multiply_add(a.v, b.v, c.v)}; }
FASTINIT_INLINE Double sqrt(Double a) { return {square_root(a.v)}; }
FASTINIT_INLINE Double min(Double a, Double b) { return {smaller(a.v, b.v)}; }
FASTINIT_INLINE Double max(Double a, Double b) { return {larger(a.v, b.v)}; }
FASTINIT_INLINE Int bits(Double a) { return Lanes::int64(bits_of(a.v)); }
FASTINIT_INLINE Double double_from_bits(Int a) { return {double_of_bits(joined(a))}; }
FASTINIT_INLINE Double to_double(Int a) { return {double_of(joined(a))}; }
FASTINIT_INLINE Double flip_sign(Double a, Int s) {
  return double_from_bits(bits(a) ^ (s & Lanes::int64(uint64_t{1} << 63)));
}
FASTINIT_INLINE Mask64 operator<(Double a, Double b) { return {a.v < b.v}; }
FASTINIT_INLINE bool any(Mask64 m) { return m.v; }
FASTINIT_INLINE Double select(Mask64 m, Double a, Double b) { return {m.v ? a.v : b.v}; }

}  // namespace fastinit::cuda
