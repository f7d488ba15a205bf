// A CPU generator of torch's as the fills of the torch stream take it.
#pragma once

#include <ATen/CPUGeneratorImpl.h>

#include <algorithm>
#include <cmath>
#include <mutex>

#include "torch_fill.h"

namespace fastinit {

// Its state while this thread holds its lock. Written back by `save` only: after an exception it is what it was.
class LockedGenerator {
 public:
  explicit LockedGenerator(at::CPUGeneratorImpl* generator)
      : generator_(generator), lock_(generator->mutex_), engine_(generator->engine()), data_(engine_.data()) {
    std::copy(data_.state_.begin(), data_.state_.end(), state.engine.words);
    state.engine.next = data_.left_ == 1 ? Mt19937::kWords : static_cast<int32_t>(data_.next_);
    state.next_normal = generator->next_double_normal_sample();
  }
  // Whether the words not yet drawn are those up to the end of the block; set_state accepts other states too, a normal
  // number that is none, and words that are all zero, with which every block is like the last and `save` cannot tell
  // what was drawn.
  bool is_ordinary() const {
    return data_.seeded_ &&
           (data_.left_ == 1 || data_.left_ + static_cast<int64_t>(data_.next_) == Mt19937::kWords + 1) &&
           std::isfinite(state.next_normal.value_or(0.0)) &&
           std::any_of(data_.state_.begin(), data_.state_.end(), [](uint32_t word) { return word != 0; });
  }
  void save() {
    generator_->set_next_double_normal_sample(state.next_normal);
    if (std::equal(data_.state_.begin(), data_.state_.end(), state.engine.words) &&
        (data_.left_ == 1 ? Mt19937::kWords : static_cast<int32_t>(data_.next_)) == state.engine.next) {
      return;  // nothing was drawn: a fresh seed's counters are not those of a used-up block
    }
    std::copy(std::begin(state.engine.words), std::end(state.engine.words), data_.state_.begin());
    data_.next_ = state.engine.next;
    data_.left_ = Mt19937::kWords + 1 - state.engine.next;
    engine_.set_data(data_);
    generator_->set_engine(engine_);
  }

  TorchGenerator state;

 private:
  at::CPUGeneratorImpl* generator_;
  std::lock_guard<std::mutex> lock_;
  at::mt19937 engine_;  // kept, since a new one is seeded first
  at::mt19937_data_pod data_;
};

}  // namespace fastinit
