// Philox4x32-10 (maths/philox.h) for one thread: a block at a time, under round keys that the host has formed, since
// the compiler would form them anew for every block.
#pragma once

#include "../maths/philox.h"
#include "lanes.h"
#include "tables.h"

namespace fastinit::cuda {

// Blocks with one high half of their number. Words 2 and 3 of the counter are kStream and zero, so the second product
// of the first round and the first one of the second are the same for all of them.
template <uint32_t kStream = 0>
class Philox {
 public:
  FASTINIT_INLINE Philox(const PhiloxKeys& keys, uint32_t block_high) : keys_(keys) {
    constexpr uint64_t kOfStream = static_cast<uint64_t>(kPhiloxM1) * kStream;
    const uint32_t x0 = static_cast<uint32_t>(kOfStream >> 32) ^ block_high ^ keys.k0[0];
    uint32_t low, high;
    multiply_words(kPhiloxM0, x0, low, high);
    k0_1_ = static_cast<uint32_t>(kOfStream) ^ keys.k0[1];
    k1_1_ = high ^ keys.k1[1];
    k1_2_ = low ^ keys.k1[2];
  }

  // The words [0, 2] of the block as `even` and [1, 3] as `odd`.
  FASTINIT_INLINE void block(uint32_t block_low, Int& even, Int& odd) const {
    uint32_t x0, x1, x2, x3, low0, high0, low1, high1;
    multiply_words(kPhiloxM0, block_low, low0, high0);
    multiply_words(kPhiloxM1, high0 ^ keys_.k1[0], low1, high1);
    x0 = high1 ^ k0_1_, x1 = low1, x2 = low0 ^ k1_1_;
    multiply_words(kPhiloxM0, x0, low0, high0);
    multiply_words(kPhiloxM1, x2, low1, high1);
    x0 = high1 ^ x1 ^ keys_.k0[2], x1 = low1, x2 = high0 ^ k1_2_, x3 = low0;
    FASTINIT_UNROLL
    for (int r = 3; r < kPhiloxRounds; ++r) {
      multiply_words(kPhiloxM0, x0, low0, high0);
      multiply_words(kPhiloxM1, x2, low1, high1);
      x0 = high1 ^ x1 ^ keys_.k0[r], x1 = low1, x2 = high0 ^ x3 ^ keys_.k1[r], x3 = low0;
    }
    even = {x0, x2}, odd = {x1, x3};
  }

 private:
  const PhiloxKeys& keys_;
  uint32_t k0_1_, k1_1_, k1_2_;  // round keys with what all blocks share
};

// Any block of the stream.
template <uint32_t kStream = 0>
FASTINIT_INLINE void draw_block(const PhiloxKeys& keys, uint64_t block, Int& even, Int& odd) {
  Philox<kStream>(keys, static_cast<uint32_t>(block >> 32)).block(static_cast<uint32_t>(block), even, odd);
}

// The values that a law makes of a block's words.
template <class Law>
FASTINIT_INLINE typename Law::State values_of(const Law& law, Int even, Int odd) {
  typename Law::State state;
  law.start(even, odd, state);
  law.middle(state);
  law.finish(state);
  return state;
}

}  // namespace fastinit::cuda
