// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11).
// Two forms of the same function: one block of four words, and one block a 64-bit lane of V.
#pragma once

#include "inline.h"

namespace fastinit {

inline constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;  // multipliers
inline constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;  // Weyl increments of the key
inline constexpr int kPhiloxRounds = 10;

// Words of the counter (block low, block high, 0, 0) under the key (seed low, seed high).
FASTINIT_INLINE void philox_block(uint64_t seed, uint64_t block, uint32_t words[4]) {
  uint32_t c0 = static_cast<uint32_t>(block), c1 = static_cast<uint32_t>(block >> 32), c2 = 0, c3 = 0;
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxM0) * c0, p1 = static_cast<uint64_t>(kPhiloxM1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  words[0] = c0, words[1] = c1, words[2] = c2, words[3] = c3;
}

// Blocks of consecutive numbers that share their high 32 bits, one a 64-bit lane. A lane's low half holds the word in
// work; what stands in a high half does not matter until the last round. Words 2 and 3 of the counter are `stream` and
// zero, so the second product of round 1 and the first one of round 2 are the same for every lane.
template <class V>
struct PhiloxLanes {
  using Int = typename V::Int;

  // The four words of one block a lane, between rounds.
  struct State {
    Int x0, x1, x2, x3;
  };

  Int m0, m1, key0[kPhiloxRounds], key1[kPhiloxRounds], last_key, product, step;

  // `order` holds the block numbers of the lanes relative to `block`.
  FASTINIT_INLINE PhiloxLanes(uint64_t seed, uint64_t block, Int order, uint32_t stream) {
    m0 = V::int64(kPhiloxM0);
    m1 = V::int64(kPhiloxM1);
    uint32_t k0[kPhiloxRounds], k1[kPhiloxRounds];
    for (int r = 0; r < kPhiloxRounds; ++r) {
      k0[r] = static_cast<uint32_t>(seed) + kPhiloxW0 * r;
      k1[r] = static_cast<uint32_t>(seed >> 32) + kPhiloxW1 * r;
    }
    const uint64_t of_stream = static_cast<uint64_t>(kPhiloxM1) * stream;
    const uint32_t x0 = static_cast<uint32_t>(of_stream >> 32) ^ static_cast<uint32_t>(block >> 32) ^ k0[0];
    const uint64_t shared = static_cast<uint64_t>(kPhiloxM0) * x0;
    k0[1] ^= static_cast<uint32_t>(of_stream);
    last_key = V::int64(k0[9] | static_cast<uint64_t>(k1[9]) << 32);
    k1[1] ^= static_cast<uint32_t>(shared >> 32);
    k1[2] ^= static_cast<uint32_t>(shared);
    for (int r = 0; r < kPhiloxRounds; ++r) {
      key0[r] = V::int64(k0[r]);
      key1[r] = V::int64(k1[r]);
    }
    // M0 times the block number goes from one set of lanes to the next by an addition.
    product = multiply_low(add64(V::int64(static_cast<uint32_t>(block)), order), m0);
    step = V::int64(static_cast<uint64_t>(kPhiloxM0) * V::kBlocks);
  }

  // Rounds 1 to 3 of the next V::kBlocks blocks.
  FASTINIT_INLINE State start() {
    const Int p0 = product;
    product = add64(product, step);
    const Int p1 = multiply_low(high_word(p0) ^ key1[0], m1);
    const Int x0 = high_word(p1) ^ key0[1], x2 = p0 ^ key1[1];
    const Int q0 = multiply_low(x0, m0), q1 = multiply_low(x2, m1);
    return {xor3(high_word(q1), p1, key0[2]), q1, high_word(q0) ^ key1[2], q0};
  }

  FASTINIT_INLINE void round(int r, State& s) const {
    const Int p0 = multiply_low(s.x0, m0), p1 = multiply_low(s.x2, m1);
    s = {xor3(high_word(p1), s.x1, key0[r]), p1, xor3(high_word(p0), s.x3, key1[r]), p0};
  }

  // Round 10. Of the four words of a lane's block, `even` gets [0, 2] and `odd` [1, 3] as its 32-bit lanes.
  FASTINIT_INLINE void finish(const State& s, Int& even, Int& odd) const {
    const Int p0 = multiply_low(s.x0, m0), p1 = multiply_low(s.x2, m1);
    even = xor3(high_words(p1, p0), low_words(s.x1, s.x3), last_key);
    odd = low_words(p1, p0);
  }
};

// The two 64-bit draws of a block for float64, from finish()'s words: word 0 << 32 | word 1, and word 2 << 32 | word 3.
template <class V>
FASTINIT_INLINE typename V::Int first_draw64(typename V::Int even, typename V::Int odd) {
  return shift_left64<32>(even) | (odd & V::int64(0xFFFFFFFFu));
}
template <class V>
FASTINIT_INLINE typename V::Int second_draw64(typename V::Int even, typename V::Int odd) {
  return (even & V::int64(uint64_t{0xFFFFFFFFu} << 32)) | shift_right64<32>(odd);
}

inline constexpr uint64_t kLow53Bits = (uint64_t{1} << 53) - 1;

}  // namespace fastinit
