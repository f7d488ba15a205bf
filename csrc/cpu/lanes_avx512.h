// AVX-512 lanes (F, DQ, BW, VL): sixteen 32-bit or eight 64-bit values a register.
// The same operations stand in every lanes_*.h; each is exact integer arithmetic or one IEEE-754 operation.
#pragma once

#include "../maths/inline.h"

namespace fastinit::avx512 {

struct Int {
  __m512i v;
};
struct Float {
  __m512 v;
};
struct Double {
  __m512d v;
};
struct Mask {
  __mmask16 v;
};
struct Mask64 {
  __mmask8 v;
};

struct Lanes {
  using Int = avx512::Int;
  using Float = avx512::Float;
  using Double = avx512::Double;
  using Mask = avx512::Mask;
  static constexpr int kBlocks = 8;  // Philox blocks at a time, one a 64-bit lane
  static constexpr int kWords = 16;  // 32-bit values a register
  static constexpr int kUnroll = 3;  // sets of lanes in lockstep: as many as hide the multiplier's latency

  FASTINIT_INLINE static Int int32(uint32_t x) { return {_mm512_set1_epi32(static_cast<int>(x))}; }
  FASTINIT_INLINE static Int int64(uint64_t x) { return {_mm512_set1_epi64(static_cast<long long>(x))}; }
  FASTINIT_INLINE static Float f32(float x) { return {_mm512_set1_ps(x)}; }
  FASTINIT_INLINE static Double f64(double x) { return {_mm512_set1_pd(x)}; }
  // 0, 1, 2, ... in the 64-bit lanes; interleaved: in the order that store_pairs undoes
  FASTINIT_INLINE static Int iota() { return {_mm512_set_epi64(7, 6, 5, 4, 3, 2, 1, 0)}; }
  FASTINIT_INLINE static Int iota_interleaved() { return {_mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0)}; }
  FASTINIT_INLINE static Int load(const uint32_t* from) { return {_mm512_loadu_si512(from)}; }
  // Rows of 8: the first from here, a second one (where a register has room for it) from 16 words on.
  FASTINIT_INLINE static Int load_rows(const uint32_t* from) {
    const __m256i row = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
    return {_mm512_inserti64x4(_mm512_castsi256_si512(row),
                               _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 16)), 1)};
  }
};

// 32-bit integers
FASTINIT_INLINE Int operator+(Int a, Int b) { return {_mm512_add_epi32(a.v, b.v)}; }
FASTINIT_INLINE Int operator-(Int a, Int b) { return {_mm512_sub_epi32(a.v, b.v)}; }
FASTINIT_INLINE Int operator*(Int a, Int b) { return {_mm512_mullo_epi32(a.v, b.v)}; }
FASTINIT_INLINE Int min(Int a, Int b) { return {_mm512_min_epu32(a.v, b.v)}; }
FASTINIT_INLINE Int operator&(Int a, Int b) { return {_mm512_and_si512(a.v, b.v)}; }
FASTINIT_INLINE Int operator|(Int a, Int b) { return {_mm512_or_si512(a.v, b.v)}; }
FASTINIT_INLINE Int operator^(Int a, Int b) { return {_mm512_xor_si512(a.v, b.v)}; }
FASTINIT_INLINE Int xor3(Int a, Int b, Int c) { return {_mm512_ternarylogic_epi64(a.v, b.v, c.v, 0x96)}; }
template <int n>
FASTINIT_INLINE Int shift_left(Int a) {
  return {_mm512_slli_epi32(a.v, n)};
}
template <int n>
FASTINIT_INLINE Int shift_right(Int a) {
  return {_mm512_srli_epi32(a.v, n)};
}

// 64-bit integers
FASTINIT_INLINE Int add64(Int a, Int b) { return {_mm512_add_epi64(a.v, b.v)}; }
template <int n>
FASTINIT_INLINE Int shift_left64(Int a) {
  return {_mm512_slli_epi64(a.v, n)};
}
template <int n>
FASTINIT_INLINE Int shift_right64(Int a) {
  return {_mm512_srli_epi64(a.v, n)};
}
// low words multiplied, 64-bit products
FASTINIT_INLINE Int multiply_low(Int a, Int b) { return {_mm512_mul_epu32(a.v, b.v)}; }
// the high word brought low; what then stands high is unspecified
FASTINIT_INLINE Int high_word(Int a) { return {_mm512_shuffle_epi32(a.v, static_cast<_MM_PERM_ENUM>(0xF5))}; }
// [high of a, high of b] and [low of a, low of b], low word first
FASTINIT_INLINE Int high_words(Int a, Int b) {
  return {_mm512_mask_shuffle_epi32(b.v, 0x5555, a.v, static_cast<_MM_PERM_ENUM>(0xF5))};
}
FASTINIT_INLINE Int low_words(Int a, Int b) {
  return {_mm512_mask_shuffle_epi32(a.v, 0xAAAA, b.v, static_cast<_MM_PERM_ENUM>(0xA0))};
}

// the words of a but the first, and then the first of b
FASTINIT_INLINE Int shifted(Int a, Int b) { return {_mm512_alignr_epi32(b.v, a.v, 1)}; }
// the two words of each 64-bit lane in each other's place
FASTINIT_INLINE Int swap_words(Int a) { return {_mm512_shuffle_epi32(a.v, static_cast<_MM_PERM_ENUM>(0xB1))}; }
// of the 64-bit lanes of a and then b: those with even and those with odd numbers, in the order that store_pairs undoes
FASTINIT_INLINE Int even_lanes(Int a, Int b) { return {_mm512_unpacklo_epi64(a.v, b.v)}; }
FASTINIT_INLINE Int odd_lanes(Int a, Int b) { return {_mm512_unpackhi_epi64(a.v, b.v)}; }

// float32
FASTINIT_INLINE Float operator+(Float a, Float b) { return {_mm512_add_ps(a.v, b.v)}; }
FASTINIT_INLINE Float operator-(Float a, Float b) { return {_mm512_sub_ps(a.v, b.v)}; }
FASTINIT_INLINE Float operator*(Float a, Float b) { return {_mm512_mul_ps(a.v, b.v)}; }
FASTINIT_INLINE Float operator/(Float a, Float b) { return {_mm512_div_ps(a.v, b.v)}; }
FASTINIT_INLINE Float fma(Float a, Float b, Float c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
FASTINIT_INLINE Float sqrt(Float a) { return {_mm512_sqrt_ps(a.v)}; }
FASTINIT_INLINE Float min(Float a, Float b) { return {_mm512_min_ps(a.v, b.v)}; }
FASTINIT_INLINE Float max(Float a, Float b) { return {_mm512_max_ps(a.v, b.v)}; }
FASTINIT_INLINE Int bits(Float a) { return {_mm512_castps_si512(a.v)}; }
FASTINIT_INLINE Float from_bits(Int a) { return {_mm512_castsi512_ps(a.v)}; }
FASTINIT_INLINE Float to_float(Int a) { return {_mm512_cvtepi32_ps(a.v)}; }
FASTINIT_INLINE Float to_float_unsigned(Int a) { return {_mm512_cvtepu32_ps(a.v)}; }
FASTINIT_INLINE Int truncated(Float a) { return {_mm512_cvttps_epi32(a.v)}; }
// the sign flipped where the top bit of s is set
FASTINIT_INLINE Float flip_sign(Float a, Int s) {
  const __m512i top = _mm512_set1_epi32(INT32_MIN);
  return {_mm512_castsi512_ps(_mm512_ternarylogic_epi32(_mm512_castps_si512(a.v), s.v, top, 0x78))};
}
FASTINIT_INLINE Mask operator<(Float a, Float b) { return {_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ)}; }
FASTINIT_INLINE Mask operator|(Mask a, Mask b) { return {static_cast<__mmask16>(a.v | b.v)}; }
FASTINIT_INLINE bool any(Mask m) { return m.v != 0; }
FASTINIT_INLINE Float select(Mask m, Float a, Float b) { return {_mm512_mask_blend_ps(m.v, b.v, a.v)}; }
FASTINIT_INLINE Int select(Mask m, Int a, Int b) { return {_mm512_mask_blend_epi32(m.v, b.v, a.v)}; }
// a where the top bit of s is set
FASTINIT_INLINE Float select_top(Int s, Float a, Float b) {
  return {_mm512_mask_blend_ps(_mm512_movepi32_mask(s.v), b.v, a.v)};
}
// The lanes of a that m marks, written one after another (and what follows overwritten, up to a register); their count.
FASTINIT_INLINE int append(uint32_t* to, Mask m, Int a) {
  _mm512_storeu_si512(to, _mm512_maskz_compress_epi32(m.v, a.v));
  return __builtin_popcount(m.v);
}
// IEEE binary16 in the low half of each 32-bit lane, rounded to nearest even
FASTINIT_INLINE Int to_half(Float a) {
  return {_mm512_cvtepu16_epi32(_mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC))};
}

// float64
FASTINIT_INLINE Double operator+(Double a, Double b) { return {_mm512_add_pd(a.v, b.v)}; }
FASTINIT_INLINE Double operator-(Double a, Double b) { return {_mm512_sub_pd(a.v, b.v)}; }
FASTINIT_INLINE Double operator*(Double a, Double b) { return {_mm512_mul_pd(a.v, b.v)}; }
FASTINIT_INLINE Double operator/(Double a, Double b) { return {_mm512_div_pd(a.v, b.v)}; }
FASTINIT_INLINE Double fma(Double a, Double b, Double c) { return {_mm512_fmadd_pd(a.v, b.v, c.v)}; }
FASTINIT_INLINE Double sqrt(Double a) { return {_mm512_sqrt_pd(a.v)}; }
FASTINIT_INLINE Double min(Double a, Double b) { return {_mm512_min_pd(a.v, b.v)}; }
FASTINIT_INLINE Double max(Double a, Double b) { return {_mm512_max_pd(a.v, b.v)}; }
FASTINIT_INLINE Int bits(Double a) { return {_mm512_castpd_si512(a.v)}; }
FASTINIT_INLINE Double double_from_bits(Int a) { return {_mm512_castsi512_pd(a.v)}; }
FASTINIT_INLINE Double to_double(Int a) { return {_mm512_cvtepu64_pd(a.v)}; }  // unsigned
FASTINIT_INLINE Double flip_sign(Double a, Int s) {
  const __m512i top = _mm512_set1_epi64(INT64_MIN);
  return {_mm512_castsi512_pd(_mm512_ternarylogic_epi64(_mm512_castpd_si512(a.v), s.v, top, 0x78))};
}
FASTINIT_INLINE Mask64 operator<(Double a, Double b) { return {_mm512_cmp_pd_mask(a.v, b.v, _CMP_LT_OQ)}; }
FASTINIT_INLINE bool any(Mask64 m) { return m.v != 0; }
FASTINIT_INLINE Double select(Mask64 m, Double a, Double b) { return {_mm512_mask_blend_pd(m.v, b.v, a.v)}; }

// Stores. Pairs: even[0], odd[0], even[1], odd[1], ... once iota_interleaved's order is undone.
FASTINIT_INLINE void store_pairs(float* out, Float even, Float odd) {
  _mm512_storeu_ps(out, _mm512_unpacklo_ps(even.v, odd.v));
  _mm512_storeu_ps(out + 16, _mm512_unpackhi_ps(even.v, odd.v));
}
FASTINIT_INLINE void store_pairs(double* out, Double even, Double odd) {
  _mm512_storeu_pd(out, _mm512_unpacklo_pd(even.v, odd.v));
  _mm512_storeu_pd(out + 8, _mm512_unpackhi_pd(even.v, odd.v));
}
FASTINIT_INLINE void store_rows(float* out, Float a) {
  _mm256_storeu_ps(out, _mm512_castps512_ps256(a.v));
  _mm256_storeu_ps(out + 16, _mm512_extractf32x8_ps(a.v, 1));
}
FASTINIT_INLINE void store_halfword_rows(uint16_t* out, Int a) {
  const __m256i packed = _mm512_cvtepi32_epi16(a.v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(packed));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16), _mm256_extracti128_si256(packed, 1));
}
// all 32 bits of each lane, and the low 16 bits of each
FASTINIT_INLINE void store_words(void* out, Int a) { _mm512_storeu_si512(out, a.v); }
FASTINIT_INLINE void store_halfwords(void* out, Int a) {
  _mm256_storeu_si256(static_cast<__m256i*>(out), _mm512_cvtepi32_epi16(a.v));
}

}  // namespace fastinit::avx512
