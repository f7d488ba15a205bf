#include "mt19937.h"

#include <cstring>

#include "cpu/isa.h"
#include "mt19937_jump.h"

namespace fastinit {
namespace {

constexpr uint64_t kJumpFrom =
    4'000'000;  // words: where a jump, about 0.4 ms whatever its length, is as quick as steps

}  // namespace

void Mt19937::discard(uint64_t count) {
  const auto skip = isa().torch.skip;
  if (count < kJumpFrom) return skip(*this, count);
  // To a new block first: the first word of a seed's block does not follow the recurrence.
  const uint64_t first = kWords - next + 1;
  skip(*this, first);
  const uint64_t position = next + (count - first), blocks = (position - 1) / kWords;
  uint32_t block[kWords];
  std::memcpy(block, words, sizeof words);
  mt19937_jump(block, blocks * kWords, words);
  next = static_cast<int32_t>(position - blocks * kWords);
}

}  // namespace fastinit
