// The draws themselves, as 32-bit words, in the bytes of a float32.
#pragma once

#include "inline.h"
#include "numbers.h"

namespace fastinit {

template <class V>
struct Draws {
  static constexpr int kPerBlock = 4;

  struct State {
    typename V::Float even, odd;
  };

  FASTINIT_INLINE explicit Draws(const LawNumbers&) {}

  FASTINIT_INLINE void start(typename V::Int even, typename V::Int odd, State& state) const {
    state = {from_bits(even), from_bits(odd)};
  }
  FASTINIT_INLINE void middle(State&) const {}
  FASTINIT_INLINE void finish(State&) const {}
};

}  // namespace fastinit
