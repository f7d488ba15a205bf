// The normal law by Box and Muller (1958), two values from two draws, without a swap of sine and cosine:
// u = (r + 1/2) 2^-32 rounded once, angle 2 pi (v + 1/2) 2^-32 = k pi + pi/2 + pi/2 s with k the top bit of v and s in
// (-1, 1), so cos = -(-1)^k sin(pi/2 s), sin = (-1)^k cos(pi/2 s): one sign, put on the radius.
// float64 has the same form with 64-bit r and v.
// Values: radius cos, radius sin, then fma(z, std, mean). Error of z at most 1.4e-6, |z| <= 6.77 (float64:
// 4e-15, 9.50).
#pragma once

#include "elementary.h"
#include "numbers.h"
#include "philox.h"

namespace fastinit {

template <class V>
struct Normal {
  using Value = typename V::Float;
  using Int = typename V::Int;
  static constexpr int kPerBlock = 4;

  struct State {
    Int angle;
    Value radius, s, even, odd;
  };

  Value mean, std;

  template <class Numbers>
  FASTINIT_INLINE explicit Normal(const Numbers& n)
      : mean(V::f32(static_cast<float>(n.normal.mean))), std(V::f32(static_cast<float>(n.normal.std))) {}

  FASTINIT_INLINE void start(Int even, Int odd, State& state) const {
    const auto u = fma(to_float_unsigned(even), V::f32(0x1p-32f), V::f32(0x1p-33f));
    state.angle = odd;
    state.radius = minus_two_log<V>(u);
    // 2 v + 1 - 2^31 modulo 2^32 as a signed integer is 2^31 s
    state.s = to_float(shift_left<1>(odd) + V::int32(0x80000001u)) * V::f32(0x1p-31f);
  }
  FASTINIT_INLINE void middle(State& state) const {
    state.radius = flip_sign(sqrt(state.radius), state.angle);
    const auto square = state.s * state.s;
    state.even = horner<V, coefficients::kMinusSin>(square) * state.s;
    state.odd = horner<V, coefficients::kCos>(square);
  }
  FASTINIT_INLINE void finish(State& state) const {
    state.even = fma(state.radius * state.even, std, mean);
    state.odd = fma(state.radius * state.odd, std, mean);
  }
};

template <class V>
struct Normal64 {
  using Value = typename V::Double;
  using Int = typename V::Int;
  static constexpr int kPerBlock = 2;

  struct State {
    Int angle;
    Value radius, even, odd;
  };

  Value mean, std;

  template <class Numbers>
  FASTINIT_INLINE explicit Normal64(const Numbers& n) : mean(V::f64(n.normal.mean)), std(V::f64(n.normal.std)) {}

  FASTINIT_INLINE void start(Int even, Int odd, State& state) const {
    const auto u = fma(to_double(first_draw64<V>(even, odd)), V::f64(0x1p-64), V::f64(0x1p-65));
    state.radius = minus_two_log<V>(u);
    state.angle = second_draw64<V>(even, odd);
  }
  FASTINIT_INLINE void middle(State& state) const {
    const auto s = fma(to_double(shift_left64<1>(state.angle) | V::int64(1)), V::f64(0x1p-63), V::f64(-1.0));
    const auto square = s * s;
    state.radius = flip_sign(sqrt(state.radius), state.angle);
    state.even = horner<V, coefficients::kMinusSin64>(square) * s;
    state.odd = horner<V, coefficients::kCos64>(square);
  }
  FASTINIT_INLINE void finish(State& state) const {
    state.even = fma(state.radius * state.even, std, mean);
    state.odd = fma(state.radius * state.odd, std, mean);
  }
};

}  // namespace fastinit
