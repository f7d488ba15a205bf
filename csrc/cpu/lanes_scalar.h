// Scalar lanes in portable C++: one Philox block, so two 32-bit values or one 64-bit value. Operations as in
// lanes_avx512.h. fma is the C library's: one rounding whether or not the processor has the instruction.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../maths/narrow.h"

namespace fastinit::scalar {

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
  using Int = scalar::Int;
  using Float = scalar::Float;
  using Double = scalar::Double;
  using Mask = scalar::Mask;
  static constexpr int kBlocks = 1;
  static constexpr int kWords = 2;
  static constexpr int kUnroll = 2;

  FASTINIT_INLINE static Int int32(uint32_t x) { return {x, x}; }
  FASTINIT_INLINE static Int int64(uint64_t x) { return {static_cast<uint32_t>(x), static_cast<uint32_t>(x >> 32)}; }
  FASTINIT_INLINE static Float f32(float x) { return {x, x}; }
  FASTINIT_INLINE static Double f64(double x) { return {x}; }
  FASTINIT_INLINE static Int iota() { return {0, 0}; }
  FASTINIT_INLINE static Int iota_interleaved() { return {0, 0}; }
  FASTINIT_INLINE static Int load(const uint32_t* from) { return {from[0], from[1]}; }
  FASTINIT_INLINE static Int load_rows(const uint32_t* from) { return load(from); }
};

// 32-bit integers
FASTINIT_INLINE Int operator+(Int a, Int b) { return {a.low + b.low, a.high + b.high}; }
FASTINIT_INLINE Int operator-(Int a, Int b) { return {a.low - b.low, a.high - b.high}; }
FASTINIT_INLINE Int operator*(Int a, Int b) { return {a.low * b.low, a.high * b.high}; }
FASTINIT_INLINE Int min(Int a, Int b) { return {std::min(a.low, b.low), std::min(a.high, b.high)}; }
FASTINIT_INLINE Int operator&(Int a, Int b) { return {a.low & b.low, a.high & b.high}; }
FASTINIT_INLINE Int operator|(Int a, Int b) { return {a.low | b.low, a.high | b.high}; }
FASTINIT_INLINE Int operator^(Int a, Int b) { return {a.low ^ b.low, a.high ^ b.high}; }
FASTINIT_INLINE Int xor3(Int a, Int b, Int c) { return a ^ b ^ c; }
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
FASTINIT_INLINE Int multiply_low(Int a, Int b) { return Lanes::int64(static_cast<uint64_t>(a.low) * b.low); }
FASTINIT_INLINE Int high_word(Int a) { return {a.high, a.high}; }
FASTINIT_INLINE Int high_words(Int a, Int b) { return {a.high, b.high}; }
FASTINIT_INLINE Int low_words(Int a, Int b) { return {a.low, b.low}; }

FASTINIT_INLINE Int shifted(Int a, Int b) { return {a.high, b.low}; }
FASTINIT_INLINE Int swap_words(Int a) { return {a.high, a.low}; }
FASTINIT_INLINE Int even_lanes(Int a, Int) { return a; }
FASTINIT_INLINE Int odd_lanes(Int, Int b) { return b; }

// float32
FASTINIT_INLINE uint32_t bits(float x) {
  uint32_t b;
  std::memcpy(&b, &x, sizeof b);
  return b;
}
FASTINIT_INLINE float float_from_bits(uint32_t b) {
  float x;
  std::memcpy(&x, &b, sizeof x);
  return x;
}
FASTINIT_INLINE Float operator+(Float a, Float b) { return {a.low + b.low, a.high + b.high}; }
FASTINIT_INLINE Float operator-(Float a, Float b) { return {a.low - b.low, a.high - b.high}; }
FASTINIT_INLINE Float operator*(Float a, Float b) { return {a.low * b.low, a.high * b.high}; }
FASTINIT_INLINE Float operator/(Float a, Float b) { return {a.low / b.low, a.high / b.high}; }
FASTINIT_INLINE Float fma(Float a, Float b, Float c) {
  return {std::fma(a.low, b.low, c.low), std::fma(a.high, b.high, c.high)};
}
FASTINIT_INLINE Float sqrt(Float a) { return {std::sqrt(a.low), std::sqrt(a.high)}; }
FASTINIT_INLINE Float min(Float a, Float b) {
  return {a.low < b.low ? a.low : b.low, a.high < b.high ? a.high : b.high};
}
FASTINIT_INLINE Float max(Float a, Float b) {
  return {a.low > b.low ? a.low : b.low, a.high > b.high ? a.high : b.high};
}
FASTINIT_INLINE Int bits(Float a) { return {bits(a.low), bits(a.high)}; }
FASTINIT_INLINE Float from_bits(Int a) { return {float_from_bits(a.low), float_from_bits(a.high)}; }
FASTINIT_INLINE Float to_float(Int a) {
  return {static_cast<float>(static_cast<int32_t>(a.low)), static_cast<float>(static_cast<int32_t>(a.high))};
}
FASTINIT_INLINE Int truncated(Float a) {
  return {static_cast<uint32_t>(static_cast<int32_t>(a.low)), static_cast<uint32_t>(static_cast<int32_t>(a.high))};
}
FASTINIT_INLINE Float to_float_unsigned(Int a) { return {static_cast<float>(a.low), static_cast<float>(a.high)}; }
FASTINIT_INLINE Float flip_sign(Float a, Int s) { return from_bits(bits(a) ^ (s & Lanes::int32(0x80000000u))); }
FASTINIT_INLINE Mask operator<(Float a, Float b) { return {a.low < b.low, a.high < b.high}; }
FASTINIT_INLINE Mask operator|(Mask a, Mask b) { return {a.low || b.low, a.high || b.high}; }
FASTINIT_INLINE bool any(Mask m) { return m.low || m.high; }
FASTINIT_INLINE Float select(Mask m, Float a, Float b) { return {m.low ? a.low : b.low, m.high ? a.high : b.high}; }
FASTINIT_INLINE Int select(Mask m, Int a, Int b) { return {m.low ? a.low : b.low, m.high ? a.high : b.high}; }
FASTINIT_INLINE Float select_top(Int s, Float a, Float b) {
  return select(Mask{s.low >> 31 != 0, s.high >> 31 != 0}, a, b);
}
FASTINIT_INLINE int append(uint32_t* to, Mask m, Int a) {
  int n = 0;
  if (m.low) to[n++] = a.low;
  if (m.high) to[n++] = a.high;
  return n;
}
FASTINIT_INLINE Int to_half(Float a) { return to_float16_portable<Lanes>(a); }

// float64
FASTINIT_INLINE Double operator+(Double a, Double b) { return {a.v + b.v}; }
FASTINIT_INLINE Double operator-(Double a, Double b) { return {a.v - b.v}; }
FASTINIT_INLINE Double operator*(Double a, Double b) { return {a.v * b.v}; }
FASTINIT_INLINE Double operator/(Double a, Double b) { return {a.v / b.v}; }
FASTINIT_INLINE Double fma(Double a, Double b, Double c) { return {std::fma(a.v, b.v, c.v)}; }
FASTINIT_INLINE Double sqrt(Double a) { return {std::sqrt(a.v)}; }
FASTINIT_INLINE Double min(Double a, Double b) { return {a.v < b.v ? a.v : b.v}; }
FASTINIT_INLINE Double max(Double a, Double b) { return {a.v > b.v ? a.v : b.v}; }
FASTINIT_INLINE Int bits(Double a) {
  uint64_t b;
  std::memcpy(&b, &a.v, sizeof b);
  return Lanes::int64(b);
}
FASTINIT_INLINE Double double_from_bits(Int a) {
  const uint64_t b = joined(a);
  Double x;
  std::memcpy(&x.v, &b, sizeof b);
  return x;
}
FASTINIT_INLINE Double to_double(Int a) { return {static_cast<double>(joined(a))}; }
FASTINIT_INLINE Double flip_sign(Double a, Int s) { return {(s.high >> 31) != 0 ? -a.v : a.v}; }
FASTINIT_INLINE Mask64 operator<(Double a, Double b) { return {a.v < b.v}; }
FASTINIT_INLINE bool any(Mask64 m) { return m.v; }
FASTINIT_INLINE Double select(Mask64 m, Double a, Double b) { return m.v ? a : b; }

// Stores
FASTINIT_INLINE void store_pairs(float* out, Float even, Float odd) {
  out[0] = even.low, out[1] = odd.low, out[2] = even.high, out[3] = odd.high;
}
FASTINIT_INLINE void store_pairs(double* out, Double even, Double odd) { out[0] = even.v, out[1] = odd.v; }
FASTINIT_INLINE void store_rows(float* out, Float a) { out[0] = a.low, out[1] = a.high; }
FASTINIT_INLINE void store_words(void* out, Int a) { std::memcpy(out, &a, sizeof a); }
FASTINIT_INLINE void store_halfwords(void* out, Int a) {
  const uint16_t halves[2] = {static_cast<uint16_t>(a.low), static_cast<uint16_t>(a.high)};
  std::memcpy(out, halves, sizeof halves);
}
FASTINIT_INLINE void store_halfword_rows(uint16_t* out, Int a) { store_halfwords(out, a); }

}  // namespace fastinit::scalar
