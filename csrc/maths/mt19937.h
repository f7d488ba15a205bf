// The recurrence and the output function of MT19937 (Matsumoto and Nishimura 1998), lane by lane.
#pragma once

#include "inline.h"

namespace fastinit {

// x[i + 624] from x[i], x[i + 1] and x[i + 397].
template <class V>
FASTINIT_INLINE typename V::Int twist(typename V::Int x0, typename V::Int x1, typename V::Int x397) {
  const auto y = (x0 & V::int32(0x80000000u)) | (x1 & V::int32(0x7FFFFFFFu));
  return x397 ^ shift_right<1>(y) ^ ((V::int32(0) - (x1 & V::int32(1))) & V::int32(0x9908B0DFu));
}

template <class V>
FASTINIT_INLINE typename V::Int temper(typename V::Int y) {
  y = y ^ shift_right<11>(y);
  y = y ^ (shift_left<7>(y) & V::int32(0x9D2C5680u));
  y = y ^ (shift_left<15>(y) & V::int32(0xEFC60000u));
  return y ^ shift_right<18>(y);
}

}  // namespace fastinit
