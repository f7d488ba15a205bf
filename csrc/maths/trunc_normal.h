// The normal law truncated to a window, by the inverse of the normal distribution function: one draw an element.
// p and q = 1 - p are formed apart from the integer draw, so that both tails are exact to their last draw.
//   pq >= 0.00069:  z = (p - q) N(y)/D(y), y = sqrt(pq)         (no logarithm: about half the cost of the usual forms)
//   else:           z = +-(r - N(r)/D(r)), r = sqrt(-2 ln min(p, q))
// Error of z at most 2.0e-6 out to 12 standard deviations; then fma(z, std, mean), clamped to the window.
// A polynomial in -ln 4pq instead of the square root and the division takes a fifth longer with AVX-512 (0.75 against
// 0.61 ns an element) and 10% fewer instructions on a GPU (40 against 44 issue slots on sm_90): the CPU decided.
#pragma once

#include "elementary.h"
#include "normal_quantile64.h"
#include "numbers.h"
#include "philox.h"

namespace fastinit {

inline constexpr float kTailProduct = 0.00069f;  // pq below this is the tail, |z| > 3.2
inline constexpr uint32_t kBitsOfOne = 0x3F800000u, kBitsOf2To64 = 0x5F800000u;

// -z of the lower tail probability t / unit.
template <class V>
FASTINIT_INLINE typename V::Float tail_quantile(typename V::Float t, uint32_t unit) {
  const auto r = sqrt(minus_two_log<V>(t, unit));
  return r - horner<V, coefficients::kTailN>(r) / horner<V, coefficients::kTailD>(r);
}

template <class V>
struct TruncNormal {
  using Value = typename V::Float;
  using Int = typename V::Int;
  static constexpr int kPerBlock = 4;

  struct State {
    Value even_p, even_q, odd_p, odd_q, even, odd;
  };

  Value width, lower, upper, mean, std, low, high;

  template <class Numbers>
  FASTINIT_INLINE explicit TruncNormal(const Numbers& numbers) {
    const auto& n = numbers.trunc_normal;
    width = V::f32(static_cast<float>(n.width));
    lower = V::f32(static_cast<float>(n.lower));
    upper = V::f32(static_cast<float>(n.upper));
    mean = V::f32(static_cast<float>(n.mean));
    std = V::f32(static_cast<float>(n.std));
    low = V::f32(static_cast<float>(n.low));
    high = V::f32(static_cast<float>(n.high));
  }

  FASTINIT_INLINE void start(Int even, Int odd, State& s) const {
    s.even_p = fma(to_float_unsigned(even), width, lower);
    s.even_q = fma(to_float_unsigned(even ^ V::int32(~0u)), width, upper);
    s.odd_p = fma(to_float_unsigned(odd), width, lower);
    s.odd_q = fma(to_float_unsigned(odd ^ V::int32(~0u)), width, upper);
    s.even = sqrt(s.even_p * s.even_q);
    s.odd = sqrt(s.odd_p * s.odd_q);
  }
  FASTINIT_INLINE void middle(State& s) const {
    s.even = horner<V, coefficients::kCentralN>(s.even) / horner<V, coefficients::kCentralD>(s.even);
    s.odd = horner<V, coefficients::kCentralN>(s.odd) / horner<V, coefficients::kCentralD>(s.odd);
  }
  FASTINIT_INLINE void finish(State& s) const {
    s.even = (s.even_p - s.even_q) * s.even;
    s.odd = (s.odd_p - s.odd_q) * s.odd;
    const auto limit = V::f32(kTailProduct);
    if (__builtin_expect(any((s.even_p * s.even_q < limit) | (s.odd_p * s.odd_q < limit)), 0)) patch_tails(s);
    s.even = max(min(fma(s.even, std, mean), high), low);
    s.odd = max(min(fma(s.odd, std, mean), high), low);
  }

 private:
  // Out of line, for the fast path's sake: with a window of +-100 std, one pair of sixteen-lane vectors in 23 comes
  // here.
  static FASTINIT_RARE void patch_tails(State& s) {
    s.even = patched(s.even_p, s.even_q, s.even);
    s.odd = patched(s.odd_p, s.odd_q, s.odd);
  }
  FASTINIT_INLINE static Value patched(Value p, Value q, Value z) {
    const auto tail = flip_sign(tail_quantile<V>(min(p, q), kBitsOfOne), bits(p - q));
    return select(p * q < V::f32(kTailProduct), tail, z);
  }
};

// A window wholly in one tail: probabilities times 2^64, so that none is subnormal.
template <class V>
struct TruncNormalTail {
  using Value = typename V::Float;
  using Int = typename V::Int;
  static constexpr int kPerBlock = 4;

  struct State {
    Value even, odd;
  };

  Int mirror;
  Value width, lower, sign, mean, std, low, high;

  template <class Numbers>
  FASTINIT_INLINE explicit TruncNormalTail(const Numbers& numbers) {
    const auto& n = numbers.trunc_normal;
    mirror = V::int32(n.mirrored ? ~0u : 0u);
    width = V::f32(static_cast<float>(n.width));
    lower = V::f32(static_cast<float>(n.lower));
    sign = V::f32(n.mirrored ? 1.0f : -1.0f);
    mean = V::f32(static_cast<float>(n.mean));
    std = V::f32(static_cast<float>(n.std));
    low = V::f32(static_cast<float>(n.low));
    high = V::f32(static_cast<float>(n.high));
  }

  FASTINIT_INLINE void start(Int even, Int odd, State& s) const {
    s.even = fma(to_float_unsigned(even ^ mirror), width, lower);
    s.odd = fma(to_float_unsigned(odd ^ mirror), width, lower);
  }
  FASTINIT_INLINE void middle(State& s) const {
    s.even = tail_quantile<V>(s.even, kBitsOf2To64) * sign;
    s.odd = tail_quantile<V>(s.odd, kBitsOf2To64) * sign;
  }
  FASTINIT_INLINE void finish(State& s) const {
    s.even = max(min(fma(s.even, std, mean), high), low);
    s.odd = max(min(fma(s.odd, std, mean), high), low);
  }
};

// float64 needs no scaling: one form serves every window.
template <class V>
struct TruncNormal64 {
  using Value = typename V::Double;
  using Int = typename V::Int;
  static constexpr int kPerBlock = 2;

  struct State {
    Value even, odd;
  };

  Value width, lower, upper, mean, std, low, high;

  template <class Numbers>
  FASTINIT_INLINE explicit TruncNormal64(const Numbers& numbers) {
    const auto& n = numbers.trunc_normal;
    width = V::f64(n.width);
    lower = V::f64(n.lower);
    upper = V::f64(n.upper);
    mean = V::f64(n.mean);
    std = V::f64(n.std);
    low = V::f64(n.low);
    high = V::f64(n.high);
  }

  FASTINIT_INLINE void start(Int even, Int odd, State& s) const {
    s.even = value(first_draw64<V>(even, odd));
    s.odd = value(second_draw64<V>(even, odd));
  }
  FASTINIT_INLINE void middle(State&) const {}
  FASTINIT_INLINE void finish(State&) const {}

 private:
  FASTINIT_INLINE Value value(Int draw) const {
    const auto k = draw & V::int64(kLow53Bits);
    const auto p = fma(to_double(k), width, lower);
    const auto q = fma(to_double(k ^ V::int64(kLow53Bits)), width, upper);
    return max(min(fma(normal_quantile<V>(p, q), std, mean), high), low);
  }
};

}  // namespace fastinit
