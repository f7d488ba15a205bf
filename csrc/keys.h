// Keys and their children, as two words each.
#pragma once

#include <cstdint>
#include <utility>

#include "maths/philox.h"

namespace fastinit {

// The four words of Philox block `block` under `seed`, as two integers, first word low.
inline std::pair<uint64_t, uint64_t> philox(uint64_t seed, uint64_t block) {
  uint32_t w[4];
  philox_block(seed, block, w);
  return {w[0] | static_cast<uint64_t>(w[1]) << 32, w[2] | static_cast<uint64_t>(w[3]) << 32};
}

// The key's child for a number, seed and offset.
inline std::pair<uint64_t, uint64_t> child(uint64_t seed, uint64_t offset, uint64_t data) {
  return philox(seed, offset + data);
}

}  // namespace fastinit
