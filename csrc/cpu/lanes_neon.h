// NEON lanes (aarch64): four 32-bit or two 64-bit values a register. Operations as in lanes_avx512.h.
#pragma once

#include <arm_neon.h>

#include "../maths/inline.h"

namespace fastinit::neon {

struct Int {
  uint32x4_t v;
};
struct Float {
  float32x4_t v;
};
struct Double {
  float64x2_t v;
};
struct Mask {
  uint32x4_t v;
};
struct Mask64 {
  uint64x2_t v;
};

FASTINIT_INLINE uint64x2_t u64(Int a) { return vreinterpretq_u64_u32(a.v); }
FASTINIT_INLINE Int from_u64(uint64x2_t v) { return {vreinterpretq_u32_u64(v)}; }

struct Lanes {
  using Int = neon::Int;
  using Float = neon::Float;
  using Double = neon::Double;
  using Mask = neon::Mask;
  static constexpr int kBlocks = 2;
  static constexpr int kWords = 4;
  static constexpr int kUnroll = 2;

  FASTINIT_INLINE static Int int32(uint32_t x) { return {vdupq_n_u32(x)}; }
  FASTINIT_INLINE static Int int64(uint64_t x) { return from_u64(vdupq_n_u64(x)); }
  FASTINIT_INLINE static Float f32(float x) { return {vdupq_n_f32(x)}; }
  FASTINIT_INLINE static Double f64(double x) { return {vdupq_n_f64(x)}; }
  FASTINIT_INLINE static Int iota() { return from_u64(vcombine_u64(vcreate_u64(0), vcreate_u64(1))); }
  FASTINIT_INLINE static Int iota_interleaved() { return iota(); }  // the zips below cross the whole register
  FASTINIT_INLINE static Int load(const uint32_t* from) { return {vld1q_u32(from)}; }
  FASTINIT_INLINE static Int load_rows(const uint32_t* from) { return load(from); }
};

// 32-bit integers
FASTINIT_INLINE Int operator+(Int a, Int b) { return {vaddq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int operator-(Int a, Int b) { return {vsubq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int operator*(Int a, Int b) { return {vmulq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int min(Int a, Int b) { return {vminq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int operator&(Int a, Int b) { return {vandq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int operator|(Int a, Int b) { return {vorrq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int operator^(Int a, Int b) { return {veorq_u32(a.v, b.v)}; }
FASTINIT_INLINE Int xor3(Int a, Int b, Int c) { return a ^ b ^ c; }
template <int n>
FASTINIT_INLINE Int shift_left(Int a) {
  return {vshlq_n_u32(a.v, n)};
}
template <int n>
FASTINIT_INLINE Int shift_right(Int a) {
  return {vshrq_n_u32(a.v, n)};
}

// 64-bit integers
FASTINIT_INLINE Int add64(Int a, Int b) { return from_u64(vaddq_u64(u64(a), u64(b))); }
template <int n>
FASTINIT_INLINE Int shift_left64(Int a) {
  return from_u64(vshlq_n_u64(u64(a), n));
}
template <int n>
FASTINIT_INLINE Int shift_right64(Int a) {
  return from_u64(vshrq_n_u64(u64(a), n));
}
FASTINIT_INLINE Int multiply_low(Int a, Int b) { return from_u64(vmull_u32(vmovn_u64(u64(a)), vmovn_u64(u64(b)))); }
FASTINIT_INLINE Int high_word(Int a) { return from_u64(vshrq_n_u64(u64(a), 32)); }
FASTINIT_INLINE Int high_words(Int a, Int b) { return {vtrn2q_u32(a.v, b.v)}; }
FASTINIT_INLINE Int low_words(Int a, Int b) { return {vtrn1q_u32(a.v, b.v)}; }

FASTINIT_INLINE Int shifted(Int a, Int b) { return {vextq_u32(a.v, b.v, 1)}; }
FASTINIT_INLINE Int swap_words(Int a) { return {vrev64q_u32(a.v)}; }
FASTINIT_INLINE Int even_lanes(Int a, Int b) { return from_u64(vzip1q_u64(u64(a), u64(b))); }
FASTINIT_INLINE Int odd_lanes(Int a, Int b) { return from_u64(vzip2q_u64(u64(a), u64(b))); }

// float32
FASTINIT_INLINE Float operator+(Float a, Float b) { return {vaddq_f32(a.v, b.v)}; }
FASTINIT_INLINE Float operator-(Float a, Float b) { return {vsubq_f32(a.v, b.v)}; }
FASTINIT_INLINE Float operator*(Float a, Float b) { return {vmulq_f32(a.v, b.v)}; }
FASTINIT_INLINE Float operator/(Float a, Float b) { return {vdivq_f32(a.v, b.v)}; }
FASTINIT_INLINE Float fma(Float a, Float b, Float c) { return {vfmaq_f32(c.v, a.v, b.v)}; }
FASTINIT_INLINE Float sqrt(Float a) { return {vsqrtq_f32(a.v)}; }
FASTINIT_INLINE Int bits(Float a) { return {vreinterpretq_u32_f32(a.v)}; }
FASTINIT_INLINE Float from_bits(Int a) { return {vreinterpretq_f32_u32(a.v)}; }
FASTINIT_INLINE Float to_float(Int a) { return {vcvtq_f32_s32(vreinterpretq_s32_u32(a.v))}; }
FASTINIT_INLINE Int truncated(Float a) { return {vreinterpretq_u32_s32(vcvtq_s32_f32(a.v))}; }
FASTINIT_INLINE Float to_float_unsigned(Int a) { return {vcvtq_f32_u32(a.v)}; }
FASTINIT_INLINE Float flip_sign(Float a, Int s) { return from_bits(bits(a) ^ (s & Lanes::int32(0x80000000u))); }
FASTINIT_INLINE Mask operator<(Float a, Float b) { return {vcltq_f32(a.v, b.v)}; }
FASTINIT_INLINE Mask operator|(Mask a, Mask b) { return {vorrq_u32(a.v, b.v)}; }
FASTINIT_INLINE bool any(Mask m) { return vmaxvq_u32(m.v) != 0; }
FASTINIT_INLINE Float select(Mask m, Float a, Float b) { return {vbslq_f32(m.v, a.v, b.v)}; }
// not the instructions: these give b where a and b are zeros of either sign, as x86 does
FASTINIT_INLINE Float min(Float a, Float b) { return select(a < b, a, b); }
FASTINIT_INLINE Float max(Float a, Float b) { return select(b < a, a, b); }
FASTINIT_INLINE Int select(Mask m, Int a, Int b) { return {vbslq_u32(m.v, a.v, b.v)}; }
FASTINIT_INLINE Float select_top(Int s, Float a, Float b) {
  return {vbslq_f32(vreinterpretq_u32_s32(vshrq_n_s32(vreinterpretq_s32_u32(s.v), 31)), a.v, b.v)};
}
FASTINIT_INLINE int append(uint32_t* to, Mask m, Int a) {
  if (!any(m)) return 0;
  uint32_t marked[4], values[4];
  vst1q_u32(marked, m.v);
  vst1q_u32(values, a.v);
  int n = 0;
  for (int lane = 0; lane < 4; ++lane) {
    if (marked[lane] != 0) to[n++] = values[lane];
  }
  return n;
}
FASTINIT_INLINE Int to_half(Float a) { return {vmovl_u16(vreinterpret_u16_f16(vcvt_f16_f32(a.v)))}; }

// float64
FASTINIT_INLINE Double operator+(Double a, Double b) { return {vaddq_f64(a.v, b.v)}; }
FASTINIT_INLINE Double operator-(Double a, Double b) { return {vsubq_f64(a.v, b.v)}; }
FASTINIT_INLINE Double operator*(Double a, Double b) { return {vmulq_f64(a.v, b.v)}; }
FASTINIT_INLINE Double operator/(Double a, Double b) { return {vdivq_f64(a.v, b.v)}; }
FASTINIT_INLINE Double fma(Double a, Double b, Double c) { return {vfmaq_f64(c.v, a.v, b.v)}; }
FASTINIT_INLINE Double sqrt(Double a) { return {vsqrtq_f64(a.v)}; }
FASTINIT_INLINE Int bits(Double a) { return {vreinterpretq_u32_f64(a.v)}; }
FASTINIT_INLINE Double double_from_bits(Int a) { return {vreinterpretq_f64_u32(a.v)}; }
FASTINIT_INLINE Double to_double(Int a) { return {vcvtq_f64_u64(u64(a))}; }
FASTINIT_INLINE Double flip_sign(Double a, Int s) {
  return double_from_bits(bits(a) ^ (s & Lanes::int64(uint64_t{1} << 63)));
}
FASTINIT_INLINE Mask64 operator<(Double a, Double b) { return {vcltq_f64(a.v, b.v)}; }
FASTINIT_INLINE bool any(Mask64 m) { return vmaxvq_u32(vreinterpretq_u32_u64(m.v)) != 0; }
FASTINIT_INLINE Double select(Mask64 m, Double a, Double b) { return {vbslq_f64(m.v, a.v, b.v)}; }
// not the instructions: these give b where a and b are zeros of either sign, as x86 does
FASTINIT_INLINE Double min(Double a, Double b) { return select(a < b, a, b); }
FASTINIT_INLINE Double max(Double a, Double b) { return select(b < a, a, b); }

// Stores
FASTINIT_INLINE void store_pairs(float* out, Float even, Float odd) {
  vst1q_f32(out, vzip1q_f32(even.v, odd.v));
  vst1q_f32(out + 4, vzip2q_f32(even.v, odd.v));
}
FASTINIT_INLINE void store_pairs(double* out, Double even, Double odd) {
  vst1q_f64(out, vzip1q_f64(even.v, odd.v));
  vst1q_f64(out + 2, vzip2q_f64(even.v, odd.v));
}
FASTINIT_INLINE void store_rows(float* out, Float a) { vst1q_f32(out, a.v); }
FASTINIT_INLINE void store_words(void* out, Int a) { vst1q_u32(static_cast<uint32_t*>(out), a.v); }
FASTINIT_INLINE void store_halfwords(void* out, Int a) { vst1_u16(static_cast<uint16_t*>(out), vmovn_u32(a.v)); }
FASTINIT_INLINE void store_halfword_rows(uint16_t* out, Int a) { store_halfwords(out, a); }

}  // namespace fastinit::neon
