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
  if (count < kJumpFrom) return isa().torch.skip(*this, count);
  const uint64_t position = next + count, blocks = (position - 1) / kWords;
  uint32_t block[kWords];
  std::memcpy(block, words, sizeof words);
  mt19937_jump(block, blocks * kWords, words);
  next = static_cast<int32_t>(position - blocks * kWords);
}

}  // namespace fastinit
