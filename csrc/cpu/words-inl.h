// Words of MT19937 for the kernels of the torch stream, with the lane type V of the including file (see kernels-inl.h).
#pragma once

#include <algorithm>
#include <cstring>

#include "../maths/mt19937.h"
#include "../mt19937.h"

namespace fastinit::torch_stream {

// A window over the generator's words, untempered, that slides along: whole blocks, of which the last one is always
// there, since the next is made from it.
template <class V>
class Words {
 public:
  explicit Words(const Mt19937& state) : next_(state.next) {
    std::memcpy(words_, state.words, sizeof state.words);
    std::memset(words_ + kRoom, 0, sizeof words_ - kRoom * sizeof *words_);
  }

  // Makes `least` <= 600 words lie ahead. Returns how many do, of `wanted`.
  int64_t ahead(int64_t least, int64_t wanted) {
    while (end_ - next_ < least) make_block();
    return std::min(wanted, end_ - next_);
  }
  // What lies ahead, readable for two registers beyond that.
  const uint32_t* take(int64_t count) {
    const uint32_t* words = words_ + next_;
    next_ += count;
    return words;
  }
  void skip(uint64_t count) {
    while (count > 0) {
      const int64_t n = ahead(1, std::min<uint64_t>(count, kRoom));
      next_ += n, count -= n;
    }
  }
  void save(Mt19937& state) const {
    if (next_ == 0) return;
    const int64_t begin = (next_ - 1) / kBlock * kBlock;
    std::memcpy(state.words, words_ + begin, sizeof state.words);
    state.next = static_cast<int32_t>(next_ - begin);
  }

 private:
  static constexpr int64_t kBlock = Mt19937::kWords, kRoom = 5 * kBlock;

  // One at a time: while the next one is made, what was written on the way from the last one goes to memory.
  void make_block() {
    if (end_ == kRoom) {
      std::memcpy(words_, words_ + end_ - kBlock, kBlock * sizeof *words_);
      next_ -= end_ - kBlock;
      end_ = kBlock;
    }
    uint32_t* w = words_ + end_ - kBlock;
    auto x = V::load(w);
    for (int64_t i = 0; i < kBlock; i += V::kWords) {
      const auto following = V::load(w + i + V::kWords);  // cheaper than a load of x[i + 1] across cache lines
      store_words(w + i + kBlock, twist<V>(x, shifted(x, following), V::load(w + i + 397)));
      x = following;
    }
    end_ += kBlock;
  }

  int64_t next_, end_ = kBlock;
  alignas(64) uint32_t words_[kRoom + 64];
};

}  // namespace fastinit::torch_stream
