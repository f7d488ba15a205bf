// MT19937 (Matsumoto and Nishimura 1998) as torch's generator keeps it between draws. Torch-free.
#pragma once

#include <cstdint>

namespace fastinit {

struct Mt19937 {
  static constexpr int kWords = 624;

  uint32_t words[kWords];  // the current block, untempered
  int32_t next;            // of them are drawn; at 624 the block is used up, and the next draw makes a new one

  // Leaves out `count` words, as if they had been drawn: in steps, or by a jump where that is sooner.
  void discard(uint64_t count);
};

}  // namespace fastinit
