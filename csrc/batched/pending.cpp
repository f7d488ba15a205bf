#include "pending.h"

#include <c10/core/CPUAllocator.h>

#include <algorithm>

#include "../keys.h"
#include "../pages.h"
#include "block.h"

namespace fastinit::batched {
namespace {

constexpr size_t kMostWaiting = 128;                     // fills of one storage: each new one is compared with them
constexpr int64_t kMostWaitingInAll = int64_t{1} << 16;  // a random fill holds 2.5 KB: its generator's state

// Of the fills of one storage, in their order.
int64_t level_of(const Place& place, const std::vector<Ready>& fills, size_t first) {
  int64_t level = 0;
  for (size_t i = first; i < fills.size(); ++i) {
    if (fills[i].record.place.overlaps(place)) level = std::max(level, fills[i].level + 1);
  }
  return level;
}

}  // namespace

Place::Place(const at::Tensor& tensor)
    : sizes(tensor.sizes()),
      strides(tensor.strides()),
      offset(tensor.storage_offset()),
      dtype(tensor.scalar_type()),
      elements(tensor.numel()),
      dense(tensor.is_non_overlapping_and_dense()) {
  const int64_t item = static_cast<int64_t>(tensor.element_size());
  int64_t last = 0;
  for (size_t d = 0; d < sizes.size(); ++d) last += (sizes[d] - 1) * strides[d];
  begin = offset * item;
  end = (offset + last + 1) * item;
}

at::Tensor Place::in(c10::Storage storage) const {
  return tensor_in(std::move(storage), dtype, sizes, strides, offset);
}

bool Place::operator==(const Place& other) const {
  return offset == other.offset && dtype == other.dtype && sizes == other.sizes && strides == other.strides;
}

bool Place::covers(const Place& other) const {
  return dense ? begin <= other.begin && other.end <= end : *this == other;
}

Pending::~Pending() {
  for (auto& [address, of] : storages_) hook(of, false);
}

// While fills wait, torch is to tell who takes the memory's address.
void Pending::hook(OfStorage& of, bool on) {
  if (of.hooked == on) return;
  of.hooked = on;
  const auto alive = of.storage.lock();
  if (!alive) return;
  if (on) {
    alive->set_materializer(on_raw_access);
  } else {
    alive->clear_materializer();
  }
}

Pending::OfStorage* Pending::find(const c10::StorageImpl* storage) {
  const auto found = storages_.find(storage);
  return found == storages_.end() ? nullptr : &found->second;
}

Pending::OfStorage& Pending::entry(const c10::Storage& storage) {
  if (OfStorage* known = find(storage.unsafeGetStorageImpl())) return *known;
  sweep();
  return storages_.emplace(storage.unsafeGetStorageImpl(), OfStorage{storage.getWeakStorageImpl(), {}, false, false})
      .first->second;
}

// A program may make and free storages for as long as it likes in one block.
void Pending::sweep() {
  if (storages_.size() < sweep_at_) return;
  std::erase_if(storages_, [&](const auto& item) {
    const OfStorage& of = item.second;
    if (!of.storage.expired()) return false;
    dead_ += of.records.size();
    waiting_ -= of.records.size();
    return true;
  });
  sweep_at_ = std::max<size_t>(sweep_at_, 2 * storages_.size());
}

bool Pending::may_wait(const c10::Storage& storage) {
  c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
  const OfStorage* known = find(impl);
  if (known != nullptr && (known->pinned || !known->records.empty())) return !known->pinned;
  if (impl->has_materializer()) return false;  // copied on write, or waiting in another thread's block
  const c10::DataPtr& data = impl->_mutable_data_ptr_no_checks();
  return !data.device().is_cpu() || data.get_deleter() == c10::GetCPUAllocator()->raw_deleter() || is_huge(data);
}

void Pending::add(const c10::Storage& storage, Record record) {
  if (waiting_ == kMostWaitingInAll) settle_all();
  if (const auto* draw = std::get_if<KeyedDraw>(&record.fill)) keep_order(*draw, storage);
  OfStorage& of = entry(storage);
  drop_covered(of, record.place);
  if (of.records.size() == kMostWaiting) settle(storage.unsafeGetStorageImpl());
  hook(of, true);
  of.records.push_back(std::move(record));
  ++recorded_;
  ++waiting_;
}

void Pending::drop_covered(OfStorage& of, const Place& place) {
  const auto dropped = std::erase_if(of.records, [&](const Record& earlier) { return place.covers(earlier.place); });
  dead_ += dropped;
  waiting_ -= dropped;
  if (of.records.empty()) hook(of, false);
}

Record* Pending::last_of(const c10::Storage& storage, const Place& place) {
  OfStorage* of = find(storage.unsafeGetStorageImpl());
  if (of == nullptr) return nullptr;
  for (auto record = of->records.rbegin(); record != of->records.rend(); ++record) {
    if (record->place == place) return &*record;
    if (record->place.overlaps(place)) return nullptr;
  }
  return nullptr;
}

void Pending::keep_order(const KeyedDraw& draw, const c10::Storage& storage) {
  if (draw.parameter < 0) return;
  c10::StorageImpl* const now = storage.unsafeGetStorageImpl();
  if (const auto last = last_of_.find(draw.parameter); last != last_of_.end()) {
    const auto before = last->second.lock();
    if (before.get() != now) settle(before.get());
  }
  last_of_.insert_or_assign(draw.parameter, storage.getWeakStorageImpl());
}

void Pending::count(KeyedDraw& draw) {
  if (draw.parameter < 0) return;
  const uint64_t earlier = live_[draw.parameter]++;
  if (earlier > 0) std::tie(draw.seed, draw.offset) = child(draw.seed, draw.offset, earlier);
}

void Pending::take(OfStorage& of, std::vector<Ready>& fills) {
  std::vector<Record> records = std::move(of.records);
  of.records.clear();
  waiting_ -= records.size();
  hook(of, false);
  const auto alive = of.storage.lock();
  if (!alive) {
    dead_ += records.size();
    return;
  }
  const size_t first = fills.size();
  for (Record& record : records) {
    const Place& place = record.place;
    if (place.end > static_cast<int64_t>(alive->nbytes())) {  // freed by who had hold of the storage before the block
      ++dead_;
      continue;
    }
    if (KeyedDraw* draw = std::get_if<KeyedDraw>(&record.fill)) count(*draw);
    const int64_t level = level_of(place, fills, first);
    at::Tensor tensor = place.in(c10::Storage(alive));
    fills.push_back({std::move(record), std::move(tensor), level});
  }
}

void Pending::run(std::vector<Ready>& fills) {
  computed_ += fills.size();
  run_fills(fills);
}

void Pending::settle(const c10::StorageImpl* storage) {
  OfStorage* of = find(storage);
  if (of == nullptr || of->records.empty()) return;
  std::vector<Ready> fills;
  take(*of, fills);
  run(fills);
}

void Pending::settle_all() {
  if (empty()) return;
  std::vector<Ready> fills;
  for (auto& [address, of] : storages_) take(of, fills);
  std::erase_if(storages_, [](const auto& item) { return !item.second.pinned; });  // the next time they are not there
  run(fills);
}

void Pending::pin(const c10::Storage& storage) {
  entry(storage);
  pin_known(storage.unsafeGetStorageImpl());
}

bool Pending::pin_known(c10::StorageImpl* storage) {
  OfStorage* of = find(storage);
  if (of == nullptr) return false;
  settle(storage);
  return of->pinned = true;
}

Overwriting::Overwriting(Pending& pending, const at::Tensor& tensor)
    : pending_(pending), storage_(tensor.storage()), place_(tensor) {
  Pending::OfStorage* of = pending_.find(storage_.unsafeGetStorageImpl());
  if (of == nullptr || of->records.empty()) return;
  const bool covered = std::all_of(of->records.begin(), of->records.end(),
                                   [&](const Record& record) { return place_.covers(record.place); });
  if (covered) {
    pending_.hook(*of, false);  // who writes now is known
  } else {
    pending_.settle(storage_.unsafeGetStorageImpl());
  }
}

void Overwriting::succeeded() {
  if (auto* of = pending_.find(storage_.unsafeGetStorageImpl())) pending_.drop_covered(*of, place_);
}

Overwriting::~Overwriting() {
  auto* of = pending_.find(storage_.unsafeGetStorageImpl());
  if (of != nullptr && !of->records.empty()) pending_.hook(*of, true);
}

}  // namespace fastinit::batched
