// The uniform law on [low, low + span): low 24 (float64: 53) bits k of the draw, x = k 2^-24, value fma(x, span, low).
// A value at or above the upper bound becomes `high`, the largest number of the destination type below the bound.
#pragma once

#include "inline.h"
#include "numbers.h"
#include "philox.h"

namespace fastinit {

// Every law has the same three steps, so that the CPU can compute them between the rounds of the next draws (see
// kernels-inl.h). `even` and `odd` are the draws 0, 2 and 1, 3 of the blocks, then their values.
template <class V>
struct Uniform {
  using Value = typename V::Float;
  static constexpr int kPerBlock = 4;  // elements that one Philox block serves

  struct State {
    Value even, odd;
  };

  Value span, low, high;

  template <class Numbers>
  FASTINIT_INLINE explicit Uniform(const Numbers& n)
      : span(V::f32(static_cast<float>(n.uniform.span))),
        low(V::f32(static_cast<float>(n.uniform.low))),
        high(V::f32(static_cast<float>(n.uniform.high))) {}

  FASTINIT_INLINE void start(typename V::Int even, typename V::Int odd, State& s) const {
    s.even = value(even);
    s.odd = value(odd);
  }
  FASTINIT_INLINE void middle(State&) const {}
  FASTINIT_INLINE void finish(State&) const {}

 private:
  FASTINIT_INLINE Value value(typename V::Int word) const {
    const auto x = to_float(word & V::int32(0x00FFFFFFu)) * V::f32(0x1p-24f);
    return min(fma(x, span, low), high);
  }
};

template <class V>
struct Uniform64 {
  using Value = typename V::Double;
  static constexpr int kPerBlock = 2;

  struct State {
    Value even, odd;
  };

  Value span, low, high;

  template <class Numbers>
  FASTINIT_INLINE explicit Uniform64(const Numbers& n)
      : span(V::f64(n.uniform.span)), low(V::f64(n.uniform.low)), high(V::f64(n.uniform.high)) {}

  FASTINIT_INLINE void start(typename V::Int even, typename V::Int odd, State& s) const {
    s.even = value(first_draw64<V>(even, odd));
    s.odd = value(second_draw64<V>(even, odd));
  }
  FASTINIT_INLINE void middle(State&) const {}
  FASTINIT_INLINE void finish(State&) const {}

 private:
  FASTINIT_INLINE Value value(typename V::Int draw) const {
    return min(fma(to_double(draw & V::int64(kLow53Bits)) * V::f64(0x1p-53), span, low), high);
  }
};

}  // namespace fastinit
