// Several registers as one lane type, in lockstep: between an operation and the next one that needs its result stand
// the same operations on the other registers. For chains longer than a processor looks ahead.
#pragma once

#include "../maths/inline.h"

namespace fastinit {

template <class V, int N>
struct Wide {
  struct Float;
  struct Mask;

#define FASTINIT_EACH(expression)                                              \
  _Pragma("GCC unroll 8") for (int u = 0; u < N; ++u) { r.v[u] = expression; } \
  return r

  struct Int {
    typename V::Int v[N];

    FASTINIT_INLINE friend Int operator+(Int a, Int b) {
      Int r;
      FASTINIT_EACH(a.v[u] + b.v[u]);
    }
    FASTINIT_INLINE friend Int operator-(Int a, Int b) {
      Int r;
      FASTINIT_EACH(a.v[u] - b.v[u]);
    }
    FASTINIT_INLINE friend Int operator&(Int a, Int b) {
      Int r;
      FASTINIT_EACH(a.v[u] & b.v[u]);
    }
    FASTINIT_INLINE friend Int operator|(Int a, Int b) {
      Int r;
      FASTINIT_EACH(a.v[u] | b.v[u]);
    }
    FASTINIT_INLINE friend Int operator^(Int a, Int b) {
      Int r;
      FASTINIT_EACH(a.v[u] ^ b.v[u]);
    }
    template <int n>
    FASTINIT_INLINE friend Int shift_left(Int a) {
      Int r;
      FASTINIT_EACH(shift_left<n>(a.v[u]));
    }
    template <int n>
    FASTINIT_INLINE friend Int shift_right(Int a) {
      Int r;
      FASTINIT_EACH(shift_right<n>(a.v[u]));
    }
    FASTINIT_INLINE friend Float to_float(Int a) {
      Float r;
      FASTINIT_EACH(to_float(a.v[u]));
    }
    FASTINIT_INLINE friend Float from_bits(Int a) {
      Float r;
      FASTINIT_EACH(from_bits(a.v[u]));
    }
  };

  struct Float {
    typename V::Float v[N];

    FASTINIT_INLINE friend Float operator+(Float a, Float b) {
      Float r;
      FASTINIT_EACH(a.v[u] + b.v[u]);
    }
    FASTINIT_INLINE friend Float operator-(Float a, Float b) {
      Float r;
      FASTINIT_EACH(a.v[u] - b.v[u]);
    }
    FASTINIT_INLINE friend Float operator*(Float a, Float b) {
      Float r;
      FASTINIT_EACH(a.v[u] * b.v[u]);
    }
    FASTINIT_INLINE friend Float fma(Float a, Float b, Float c) {
      Float r;
      FASTINIT_EACH(fma(a.v[u], b.v[u], c.v[u]));
    }
    FASTINIT_INLINE friend Float sqrt(Float a) {
      Float r;
      FASTINIT_EACH(sqrt(a.v[u]));
    }
    FASTINIT_INLINE friend Int bits(Float a) {
      Int r;
      FASTINIT_EACH(bits(a.v[u]));
    }
    FASTINIT_INLINE friend Int truncated(Float a) {
      Int r;
      FASTINIT_EACH(truncated(a.v[u]));
    }
    FASTINIT_INLINE friend Float flip_sign(Float a, Int s) {
      Float r;
      FASTINIT_EACH(flip_sign(a.v[u], s.v[u]));
    }
    FASTINIT_INLINE friend Float select_top(Int s, Float a, Float b) {
      Float r;
      FASTINIT_EACH(select_top(s.v[u], a.v[u], b.v[u]));
    }
    FASTINIT_INLINE friend Mask operator<(Float a, Float b) {
      Mask r;
      FASTINIT_EACH(a.v[u] < b.v[u]);
    }
    FASTINIT_INLINE friend Float select(Mask m, Float a, Float b) {
      Float r;
      FASTINIT_EACH(select(m.v[u], a.v[u], b.v[u]));
    }
  };

  struct Mask {
    typename V::Mask v[N];
  };

  FASTINIT_INLINE static Int int32(uint32_t x) {
    Int r;
    FASTINIT_EACH(V::int32(x));
  }
  FASTINIT_INLINE static Float f32(float x) {
    Float r;
    FASTINIT_EACH(V::f32(x));
  }
#undef FASTINIT_EACH
};

}  // namespace fastinit
