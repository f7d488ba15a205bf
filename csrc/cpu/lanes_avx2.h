// AVX2 lanes (with FMA and F16C): eight 32-bit or four 64-bit values a register. Operations as in lanes_avx512.h.
#pragma once

#include "../maths/inline.h"

namespace fastinit::avx2 {

struct Int {
  __m256i v;
};
struct Float {
  __m256 v;
};
struct Double {
  __m256d v;
};
struct Mask {  // all bits of a lane, or at least its top bit
  __m256 v;
};
struct Mask64 {
  __m256d v;
};

struct Lanes {
  using Int = avx2::Int;
  using Float = avx2::Float;
  using Double = avx2::Double;
  using Mask = avx2::Mask;
  static constexpr int kBlocks = 4;
  static constexpr int kWords = 8;
  static constexpr int kUnroll = 2;  // sixteen registers hold no more

  FASTINIT_INLINE static Int int32(uint32_t x) { return {_mm256_set1_epi32(static_cast<int>(x))}; }
  FASTINIT_INLINE static Int int64(uint64_t x) { return {_mm256_set1_epi64x(static_cast<long long>(x))}; }
  FASTINIT_INLINE static Float f32(float x) { return {_mm256_set1_ps(x)}; }
  FASTINIT_INLINE static Double f64(double x) { return {_mm256_set1_pd(x)}; }
  FASTINIT_INLINE static Int iota() { return {_mm256_set_epi64x(3, 2, 1, 0)}; }
  FASTINIT_INLINE static Int iota_interleaved() { return {_mm256_set_epi64x(3, 1, 2, 0)}; }
  FASTINIT_INLINE static Int load(const uint32_t* from) {
    return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))};
  }
  FASTINIT_INLINE static Int load_rows(const uint32_t* from) { return load(from); }
};

// 32-bit integers
FASTINIT_INLINE Int operator+(Int a, Int b) { return {_mm256_add_epi32(a.v, b.v)}; }
FASTINIT_INLINE Int operator-(Int a, Int b) { return {_mm256_sub_epi32(a.v, b.v)}; }
FASTINIT_INLINE Int operator*(Int a, Int b) { return {_mm256_mullo_epi32(a.v, b.v)}; }
FASTINIT_INLINE Int min(Int a, Int b) { return {_mm256_min_epu32(a.v, b.v)}; }
FASTINIT_INLINE Int operator&(Int a, Int b) { return {_mm256_and_si256(a.v, b.v)}; }
FASTINIT_INLINE Int operator|(Int a, Int b) { return {_mm256_or_si256(a.v, b.v)}; }
FASTINIT_INLINE Int operator^(Int a, Int b) { return {_mm256_xor_si256(a.v, b.v)}; }
FASTINIT_INLINE Int xor3(Int a, Int b, Int c) { return a ^ b ^ c; }
template <int n>
FASTINIT_INLINE Int shift_left(Int a) {
  return {_mm256_slli_epi32(a.v, n)};
}
template <int n>
FASTINIT_INLINE Int shift_right(Int a) {
  return {_mm256_srli_epi32(a.v, n)};
}

// 64-bit integers
FASTINIT_INLINE Int add64(Int a, Int b) { return {_mm256_add_epi64(a.v, b.v)}; }
template <int n>
FASTINIT_INLINE Int shift_left64(Int a) {
  return {_mm256_slli_epi64(a.v, n)};
}
template <int n>
FASTINIT_INLINE Int shift_right64(Int a) {
  return {_mm256_srli_epi64(a.v, n)};
}
FASTINIT_INLINE Int multiply_low(Int a, Int b) { return {_mm256_mul_epu32(a.v, b.v)}; }
FASTINIT_INLINE Int high_word(Int a) { return {_mm256_shuffle_epi32(a.v, 0xF5)}; }
FASTINIT_INLINE Int high_words(Int a, Int b) {
  return {_mm256_blend_epi32(_mm256_shuffle_epi32(a.v, 0xF5), b.v, 0xAA)};
}
FASTINIT_INLINE Int low_words(Int a, Int b) { return {_mm256_blend_epi32(a.v, _mm256_shuffle_epi32(b.v, 0xA0), 0xAA)}; }

FASTINIT_INLINE Int shifted(Int a, Int b) {
  return {_mm256_alignr_epi8(_mm256_permute2x128_si256(a.v, b.v, 0x21), a.v, 4)};
}
FASTINIT_INLINE Int swap_words(Int a) { return {_mm256_shuffle_epi32(a.v, 0xB1)}; }
FASTINIT_INLINE Int even_lanes(Int a, Int b) { return {_mm256_unpacklo_epi64(a.v, b.v)}; }
FASTINIT_INLINE Int odd_lanes(Int a, Int b) { return {_mm256_unpackhi_epi64(a.v, b.v)}; }

// float32
FASTINIT_INLINE Float operator+(Float a, Float b) { return {_mm256_add_ps(a.v, b.v)}; }
FASTINIT_INLINE Float operator-(Float a, Float b) { return {_mm256_sub_ps(a.v, b.v)}; }
FASTINIT_INLINE Float operator*(Float a, Float b) { return {_mm256_mul_ps(a.v, b.v)}; }
FASTINIT_INLINE Float operator/(Float a, Float b) { return {_mm256_div_ps(a.v, b.v)}; }
FASTINIT_INLINE Float fma(Float a, Float b, Float c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
FASTINIT_INLINE Float sqrt(Float a) { return {_mm256_sqrt_ps(a.v)}; }
FASTINIT_INLINE Float min(Float a, Float b) { return {_mm256_min_ps(a.v, b.v)}; }
FASTINIT_INLINE Float max(Float a, Float b) { return {_mm256_max_ps(a.v, b.v)}; }
FASTINIT_INLINE Int bits(Float a) { return {_mm256_castps_si256(a.v)}; }
FASTINIT_INLINE Float from_bits(Int a) { return {_mm256_castsi256_ps(a.v)}; }
FASTINIT_INLINE Float to_float(Int a) { return {_mm256_cvtepi32_ps(a.v)}; }
FASTINIT_INLINE Int truncated(Float a) { return {_mm256_cvttps_epi32(a.v)}; }
// Both halves are exact with their exponents put on, and so is the constants' removal: the last addition alone rounds.
FASTINIT_INLINE Float to_float_unsigned(Int a) {
  const __m256i low = _mm256_blend_epi16(a.v, _mm256_set1_epi32(0x4B000000), 0xAA);  // 2^23 + low half
  const __m256i high =
      _mm256_blend_epi16(_mm256_srli_epi32(a.v, 16), _mm256_set1_epi32(0x53000000), 0xAA);  // 2^39 + 2^16 high half
  const __m256 upper = _mm256_sub_ps(_mm256_castsi256_ps(high), _mm256_set1_ps(0x1.0001p39f));
  return {_mm256_add_ps(_mm256_castsi256_ps(low), upper)};
}
FASTINIT_INLINE Float flip_sign(Float a, Int s) {
  return {_mm256_xor_ps(a.v, _mm256_and_ps(_mm256_castsi256_ps(s.v), _mm256_set1_ps(-0.0f)))};
}
FASTINIT_INLINE Mask operator<(Float a, Float b) { return {_mm256_cmp_ps(a.v, b.v, _CMP_LT_OQ)}; }
FASTINIT_INLINE Mask operator|(Mask a, Mask b) { return {_mm256_or_ps(a.v, b.v)}; }
FASTINIT_INLINE bool any(Mask m) { return _mm256_movemask_ps(m.v) != 0; }
FASTINIT_INLINE Float select(Mask m, Float a, Float b) { return {_mm256_blendv_ps(b.v, a.v, m.v)}; }
FASTINIT_INLINE Int select(Mask m, Int a, Int b) { return bits(select(m, from_bits(a), from_bits(b))); }
FASTINIT_INLINE Float select_top(Int s, Float a, Float b) {
  return {_mm256_blendv_ps(b.v, a.v, _mm256_castsi256_ps(s.v))};
}
// For each mask of 8 lanes, the numbers of those it marks, one a byte.
struct MarkedLanes {
  uint64_t of[256];
  constexpr MarkedLanes() : of{} {
    for (int mask = 0; mask < 256; ++mask) {
      for (int lane = 0, n = 0; lane < 8; ++lane) {
        if ((mask >> lane & 1) != 0) of[mask] |= static_cast<uint64_t>(lane) << (8 * n++);
      }
    }
  }
};
inline constexpr MarkedLanes kMarkedLanes;
FASTINIT_INLINE int append(uint32_t* to, Mask m, Int a) {
  const int mask = _mm256_movemask_ps(m.v);
  const __m256i order = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(static_cast<long long>(kMarkedLanes.of[mask])));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_permutevar8x32_epi32(a.v, order));
  return __builtin_popcount(mask);
}
FASTINIT_INLINE Int to_half(Float a) {
  return {_mm256_cvtepu16_epi32(_mm256_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))};
}

// float64
FASTINIT_INLINE Double operator+(Double a, Double b) { return {_mm256_add_pd(a.v, b.v)}; }
FASTINIT_INLINE Double operator-(Double a, Double b) { return {_mm256_sub_pd(a.v, b.v)}; }
FASTINIT_INLINE Double operator*(Double a, Double b) { return {_mm256_mul_pd(a.v, b.v)}; }
FASTINIT_INLINE Double operator/(Double a, Double b) { return {_mm256_div_pd(a.v, b.v)}; }
FASTINIT_INLINE Double fma(Double a, Double b, Double c) { return {_mm256_fmadd_pd(a.v, b.v, c.v)}; }
FASTINIT_INLINE Double sqrt(Double a) { return {_mm256_sqrt_pd(a.v)}; }
FASTINIT_INLINE Double min(Double a, Double b) { return {_mm256_min_pd(a.v, b.v)}; }
FASTINIT_INLINE Double max(Double a, Double b) { return {_mm256_max_pd(a.v, b.v)}; }
FASTINIT_INLINE Int bits(Double a) { return {_mm256_castpd_si256(a.v)}; }
FASTINIT_INLINE Double double_from_bits(Int a) { return {_mm256_castsi256_pd(a.v)}; }
// unsigned: the two words with their exponents put on; the last addition alone rounds
FASTINIT_INLINE Double to_double(Int a) {
  const __m256i low = _mm256_blend_epi32(a.v, _mm256_set1_epi64x(0x4330000000000000), 0xAA);  // 2^52 + low word
  const __m256i high =
      _mm256_or_si256(_mm256_srli_epi64(a.v, 32), _mm256_set1_epi64x(0x4530000000000000));  // 2^84 + 2^32 high word
  const __m256d upper = _mm256_sub_pd(_mm256_castsi256_pd(high), _mm256_set1_pd(0x1.00000001p84));
  return {_mm256_add_pd(_mm256_castsi256_pd(low), upper)};
}
FASTINIT_INLINE Double flip_sign(Double a, Int s) {
  return {_mm256_xor_pd(a.v, _mm256_and_pd(_mm256_castsi256_pd(s.v), _mm256_set1_pd(-0.0)))};
}
FASTINIT_INLINE Mask64 operator<(Double a, Double b) { return {_mm256_cmp_pd(a.v, b.v, _CMP_LT_OQ)}; }
FASTINIT_INLINE bool any(Mask64 m) { return _mm256_movemask_pd(m.v) != 0; }
FASTINIT_INLINE Double select(Mask64 m, Double a, Double b) { return {_mm256_blendv_pd(b.v, a.v, m.v)}; }

// Stores
FASTINIT_INLINE void store_pairs(float* out, Float even, Float odd) {
  _mm256_storeu_ps(out, _mm256_unpacklo_ps(even.v, odd.v));
  _mm256_storeu_ps(out + 8, _mm256_unpackhi_ps(even.v, odd.v));
}
FASTINIT_INLINE void store_pairs(double* out, Double even, Double odd) {
  _mm256_storeu_pd(out, _mm256_unpacklo_pd(even.v, odd.v));
  _mm256_storeu_pd(out + 4, _mm256_unpackhi_pd(even.v, odd.v));
}
FASTINIT_INLINE void store_rows(float* out, Float a) { _mm256_storeu_ps(out, a.v); }
FASTINIT_INLINE void store_words(void* out, Int a) { _mm256_storeu_si256(static_cast<__m256i*>(out), a.v); }
FASTINIT_INLINE void store_halfwords(void* out, Int a) {
  const __m256i low = _mm256_and_si256(a.v, _mm256_set1_epi32(0xFFFF));
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, low), 0x08);
  _mm_storeu_si128(static_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
}
FASTINIT_INLINE void store_halfword_rows(uint16_t* out, Int a) { store_halfwords(out, a); }

}  // namespace fastinit::avx2
