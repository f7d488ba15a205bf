// The laws of the torch stream: what torch's CPU kernels compute from their words, operation for operation as its
// builds for x86-64 with AVX2 round them. Frozen: a change here is a departure from torch.
#pragma once

#include <cmath>

#include "elementary.h"
#include "inline.h"

namespace fastinit::torch_stream {

// from + k 2^-24 (to - from) in float32, k the word's low 24 bits. Where that, rounded to the destination type, equals
// `to`, which is from `top` on, the value is `from`.
template <class V>
struct Uniform {
  typename V::Float from, range, top;

  FASTINIT_INLINE typename V::Float operator()(typename V::Int word) const {
    const auto x = to_float(word & V::int32(0x00FFFFFFu)) * V::f32(0x1p-24f);
    const auto value = fma(x, range, from);
    return select(value < top, value, from);
  }
};

// The same where no value reaches `top` and the range times 2^-24 is exact.
template <class V>
struct PlainUniform {
  typename V::Float from, scale;

  FASTINIT_INLINE typename V::Float operator()(typename V::Int word) const {
    return fma(to_float(word & V::int32(0x00FFFFFFu)), scale, from);
  }
};

// Uniform in float64 from 53 of the 64 bits of two words, the first of them the high one.
template <class V>
struct Uniform64 {
  typename V::Double from, range, to;

  FASTINIT_INLINE typename V::Double operator()(typename V::Int words) const {
    const auto x = to_double(swap_words(words) & V::int64((uint64_t{1} << 53) - 1)) * V::f64(0x1p-53);
    const auto value = fma(x, range, from);
    return select(value < to, value, from);
  }
};

// sqrt(-2 ln(n 2^-24)) for an integer n in [1, 2^24], by Cephes' logf.
template <class V>
FASTINIT_INLINE typename V::Float radius(typename V::Float n) {
  const auto b = bits(n);
  auto e = to_float(shift_right<23>(b) - V::int32(126 + 24));
  auto x = from_bits((b & V::int32(0x007FFFFFu)) | V::int32(0x3F000000u));  // [1/2, 1)
  const auto low = x < V::f32(0.707106781186547524f);
  e = select(low, e - V::f32(1.0f), e);
  x = (x - V::f32(1.0f)) + select(low, x, V::f32(0.0f));
  static constexpr float kP[] = {3.3333331174e-1f,  -2.4999993993e-1f, 2.0000714765e-1f,
                                 -1.6668057665e-1f, 1.4249322787e-1f,  -1.2420140846e-1f,
                                 1.1676998740e-1f,  -1.1514610310e-1f, 7.0376836292e-2f};
  const auto z = x * x;
  auto y = horner<V, kP>(x) * x;
  y = fma(y, z, e * V::f32(-2.12194440e-4f));
  y = fma(z, V::f32(-0.5f), y);
  const auto log = fma(e, V::f32(0.693359375f), x + y);
  return sqrt(V::f32(-2.0f) * log);
}

// Sine and cosine of an angle in [0, 2 pi], by Cephes' sinf and cosf.
template <class V>
FASTINIT_INLINE void sine_cosine(typename V::Float angle, typename V::Float& sine, typename V::Float& cosine) {
  const auto octant = truncated(angle * V::f32(1.27323954473516f));
  const auto j = (octant + V::int32(1)) & V::int32(~1u);
  const auto y = to_float(j);
  auto x = fma(y, V::f32(-0.78515625f), angle);
  x = fma(y, V::f32(-2.4187564849853515625e-4f), x);
  x = fma(y, V::f32(-3.77489497744594108e-8f), x);
  const auto z = x * x;
  static constexpr float kCos[] = {4.166664568298827e-2f, -1.388731625493765e-3f, 2.443315711809948e-5f};
  static constexpr float kSin[] = {-1.6666654611e-1f, 8.3321608736e-3f, -1.9515295891e-4f};
  auto c = horner<V, kCos>(z) * z;
  c = fma(c, z, z * V::f32(-0.5f)) + V::f32(1.0f);
  auto s = horner<V, kSin>(z) * z;
  s = fma(s, x, x);
  const auto swapped = shift_left<30>(j);  // sine and cosine change places where j has the bit 2
  sine = flip_sign(select_top(swapped, c, s), shift_left<29>(j));
  cosine = flip_sign(select_top(swapped, s, c), shift_left<29>(V::int32(1) - j));
}

// Two normal values from two words, by Box and Muller's transformation: u1 = 1 - k1 2^-24 and u2 = k2 2^-24, whose
// powers of two go into the radius' exponent and the angle's factor without a change of any rounding.
template <class V>
struct Normal {
  typename V::Float mean, std;

  FASTINIT_INLINE void operator()(typename V::Int word1, typename V::Int word2, typename V::Float& first,
                                  typename V::Float& second) const {
    const auto low24 = V::int32(0x00FFFFFFu);
    const auto r = radius<V>(to_float(V::int32(1u << 24) - (word1 & low24)));
    const auto angle = to_float(word2 & low24) * V::f32(6.283185307179586f * 0x1p-24f);
    typename V::Float sine, cosine;
    sine_cosine<V>(angle, sine, cosine);
    first = fma(r * cosine, std, mean);
    second = fma(r * sine, std, mean);
  }
};

// What torch's serial kernel computes in float64 with the C library's functions, to within `error`: enough to know the
// float32 that the value rounds to, but for one in 10^5, which the library must decide.
template <class V>
struct SerialNormal {
  typename V::Double mean, std, error_scale, error_floor;

  SerialNormal(double m, double s)
      : mean(V::f64(m)),
        std(V::f64(s)),
        // Both values are within radius 2^-48 of z (the angle rounded: 2^-50, cosine and sine: 2^-49, radius: 2^-50)
        // and each final fma within 2^-53 of its result; four times that. The floor keeps 0 in doubt, whose sign may
        // differ.
        error_scale(V::f64(std::abs(s) * 0x1p-46)),
        error_floor(V::f64(std::abs(m) * 0x1p-50 + 0x1p-1000)) {}

  // From the words of two pairs of 64-bit draws each: `even` holds the first draws, `odd` the second ones.
  FASTINIT_INLINE void operator()(typename V::Int even, typename V::Int odd, typename V::Double& first,
                                  typename V::Double& second, typename V::Double& error) const {
    const auto k1 = swap_words(even), k2 = swap_words(odd) & V::int64((uint64_t{1} << 53) - 1);
    const auto r = sqrt(minus_two_log<V>(V::f64(1.0) - to_double(k2) * V::f64(0x1p-53)));
    // 2 pi k1 2^-53 = h pi + pi / 2 + s pi / 2 with h the top bit of the 53, s in [-1, 1) of the others: see normal.h.
    const auto s = fma(to_double(k1 & V::int64((uint64_t{1} << 52) - 1)), V::f64(0x1p-51), V::f64(-1.0));
    const auto square = s * s, signed_r = flip_sign(r, shift_left64<11>(k1));
    first = fma(signed_r * (horner<V, coefficients::kMinusSin64>(square) * s), std, mean);
    second = fma(signed_r * horner<V, coefficients::kCos64>(square), std, mean);
    error = fma(r, error_scale, error_floor);
  }
};

}  // namespace fastinit::torch_stream
