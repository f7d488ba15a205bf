// Fills that a block of fastinit.batched has recorded and not yet run, by the storage that they write.
#pragma once

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/core/Tensor.h>
#include <c10/core/Storage.h>

#include <array>
#include <memory>
#include <unordered_map>
#include <variant>
#include <vector>

#include "../laws.h"
#include "../torch_fill.h"

namespace fastinit::batched {

// A tensor's elements, without a hold on the memory: what the program frees, nobody can look at, and need not be
// filled.
struct Place {
  at::DimVector sizes, strides;
  int64_t offset;  // elements
  at::ScalarType dtype;
  int64_t elements, begin, end;  // the last two in bytes of the storage
  bool dense;                    // every byte between them is an element's

  explicit Place(const at::Tensor& tensor);
  at::Tensor in(c10::Storage storage) const;
  bool covers(const Place& other) const;
  bool overlaps(const Place& other) const { return begin < other.end && other.begin < end; }
  bool operator==(const Place& other) const;
};

struct TorchDraw {
  LawCode law;  // kUniform or kNormal
  double first, second;
  TorchGenerator start;  // the generator's state before it; the generator itself is already past it
};

struct KeyedDraw {
  int64_t law;
  std::array<double, 4> numbers;
  uint64_t seed, offset;
  std::vector<int64_t> shard;
  int64_t parameter = -1;  // whose live fills are counted, or none: the key is as it is
};

struct Constant {
  uint64_t bits;  // of an element
};

// An elementwise operation in place that follows the fill, by torch's own kernel.
struct Step {
  c10::OperatorHandle op;
  torch::jit::Stack arguments;  // all but the tensor
};

struct Record {
  Place place;
  std::variant<std::unique_ptr<TorchDraw>, KeyedDraw, Constant> fill;
  std::vector<Step> steps;
};

// A record and, until it has run, a hold on the memory.
struct Ready {
  Record record;
  at::Tensor tensor;
  int64_t level;  // after all of lower levels; those of one level write different memory
};

// Runs them on torch's threads.
void run_fills(std::vector<Ready>& fills);

class Pending {
 public:
  Pending() = default;
  Pending(const Pending&) = delete;
  Pending& operator=(const Pending&) = delete;
  ~Pending();

  bool empty() const { return waiting_ == 0; }
  // Whether a fill of the storage may wait: the memory is torch's own, and nobody holds its address.
  bool may_wait(const c10::Storage& storage);
  void add(const c10::Storage& storage, Record record);
  // The last fill of the very same elements, if nothing was recorded over them since.
  Record* last_of(const c10::Storage& storage, const Place& place);
  // Fills of one parameter wait in one storage only, and so run in their order: before one, those elsewhere run.
  void keep_order(const KeyedDraw& draw, const c10::Storage& storage);
  // Its key, as that of a fill which runs now.
  void count(KeyedDraw& draw);

  void settle(const c10::StorageImpl* storage);
  void settle_all();
  // Settles, and from now on fills of the storage run at once.
  void pin(const c10::Storage& storage);
  // The same, where anything was ever known of it. Returns whether it was.
  bool pin_known(c10::StorageImpl* storage);

  int64_t recorded() const { return recorded_; }
  int64_t computed() const { return computed_; }
  int64_t dead() const { return dead_; }  // overwritten or freed before anyone looked

 private:
  struct OfStorage {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage;  // as long as it is here, the address stands for no other
    std::vector<Record> records;
    bool pinned = false;
    bool hooked = false;  // torch calls on_raw_access
  };
  friend class Overwriting;

  OfStorage* find(const c10::StorageImpl* storage);
  void hook(OfStorage& of, bool on);
  OfStorage& entry(const c10::Storage& storage);
  void drop_covered(OfStorage& of, const Place& place);
  void take(OfStorage& of, std::vector<Ready>& fills);
  void run(std::vector<Ready>& fills);
  void sweep();

  std::unordered_map<const c10::StorageImpl*, OfStorage> storages_;
  std::unordered_map<int64_t, uint64_t> live_;  // random fills of each parameter that have run
  std::unordered_map<int64_t, c10::weak_intrusive_ptr<c10::StorageImpl>> last_of_;  // the storage of its latest
  int64_t recorded_ = 0, computed_ = 0, dead_ = 0, waiting_ = 0;
  size_t sweep_at_ = 1024;
};

// While a tensor is overwritten as a whole by something that reads none of it. What waits for the same memory is
// dropped if that succeeds, and waits on if it does not; what waits for memory beside it runs before.
class Overwriting {
 public:
  Overwriting(Pending& pending, const at::Tensor& tensor);
  Overwriting(const Overwriting&) = delete;
  Overwriting& operator=(const Overwriting&) = delete;
  ~Overwriting();
  void succeeded();

 private:
  Pending& pending_;
  c10::Storage storage_;
  Place place_;
};

}  // namespace fastinit::batched
