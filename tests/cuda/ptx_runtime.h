// Memory as translated kernels see it. Every access is checked: aligned to its size and within what was registered;
// every stored byte is counted; and two threads may not touch one byte of shared memory, one of them writing, without a
// barrier between. What is wrong ends the program, with the line of the PTX.
#pragma once

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

#include "ptx_arithmetic.h"

namespace ptx {

// ---- kernel parameters: the space .param starts at address 0

struct Parameters {
  const unsigned char* data;
  uint64_t size;

  template <class T>
  T load(uint64_t address, uint64_t vector_bytes, int line) const {
    if (address % vector_bytes != 0) emulator::die("misaligned load of a kernel parameter", line);
    if (address >= size || size - address < sizeof(T)) emulator::die("load beyond the kernel's parameters", line);
    T value;
    std::memcpy(&value, data + address, sizeof value);
    return value;
  }
};

// ---- global memory

struct Region {
  uint64_t begin, size;
  std::vector<uint8_t> writes;  // how often each byte was stored to
  uint64_t vectors = 0;         // stores of 16 bytes
};

// The regions that kernels may write, and nothing else of the process.
class GlobalMemory {
 public:
  void clear() { regions_.clear(), last_ = 0; }
  void add(const void* begin, uint64_t size) {
    regions_.push_back({reinterpret_cast<uint64_t>(begin), size, std::vector<uint8_t>(size)});
  }
  const std::vector<Region>& regions() const { return regions_; }

  // The vector of `bytes` at `address` is about to be written.
  void store(uint64_t address, uint64_t bytes, int line) {
    Region& region = find(address, bytes, line, "store");
    region.vectors += bytes == 16;
    uint8_t* writes = &region.writes[address - region.begin];
    for (uint64_t i = 0; i < bytes; ++i) writes[i] += writes[i] < 255;
  }
  void load(uint64_t address, uint64_t bytes, int line) { find(address, bytes, line, "load"); }

 private:
  Region& find(uint64_t address, uint64_t bytes, int line, const char* what) {
    if (address % bytes != 0) die(what, "misaligned", address, line);
    const auto holds = [&](const Region& r) {
      return address - r.begin < r.size && bytes <= r.size - (address - r.begin);
    };
    if (last_ < regions_.size() && holds(regions_[last_])) return regions_[last_];
    for (last_ = 0; last_ < regions_.size(); ++last_) {
      if (holds(regions_[last_])) return regions_[last_];
    }
    die(what, "out of bounds", address, line);
  }
  [[noreturn]] static void die(const char* what, const char* how, uint64_t address, int line) {
    std::fprintf(stderr, "global %s at %#llx: ", what, static_cast<unsigned long long>(address));
    emulator::die(how, line);
  }

  std::vector<Region> regions_;
  size_t last_ = 0;
};
inline GlobalMemory global_memory;

template <class T>
void store_global(uint64_t address, T value) {
  std::memcpy(reinterpret_cast<void*>(address), &value, sizeof value);
}
template <class T>
T load_global(uint64_t address) {
  T value;
  std::memcpy(&value, reinterpret_cast<const void*>(address), sizeof value);
  return value;
}

// ---- shared memory: the space .shared starts at address 0

class SharedMemory {
 public:
  enum class Access : uint8_t { kRead, kWrite, kAtomic };
  static constexpr size_t kBytes = 48 * 1024;

  void start_block(size_t size) {
    size_ = size;
    for (size_t i = 0; i < size; ++i) {
      data_[i] = static_cast<unsigned char>(emulator::next_random());
      bytes_[i] = {};
    }
  }

  template <class T>
  T load(uint64_t address, uint64_t vector_bytes, int line) {
    note(address, sizeof(T), vector_bytes, Access::kRead, line);
    return get<T>(address);
  }
  template <class T>
  void store(uint64_t address, T value, uint64_t vector_bytes, int line) {
    note(address, sizeof(T), vector_bytes, Access::kWrite, line);
    std::memcpy(data_ + address, &value, sizeof value);
  }
  // Returns what was there. Atomics are ordered among themselves, not with plain loads and stores.
  template <class T, class Change>
  T atomic(uint64_t address, int line, const Change& change) {
    note(address, sizeof(T), sizeof(T), Access::kAtomic, line);
    const T old = get<T>(address), changed = change(old);
    std::memcpy(data_ + address, &changed, sizeof changed);
    return old;
  }

 private:
  // Since the last barrier: who last wrote, and who read (kMany: several threads).
  static constexpr int32_t kNobody = -1, kMany = -2;
  struct Byte {
    uint64_t write_epoch = 0, atomic_epoch = 0, read_epoch = 0;
    int32_t writer = kNobody, changer = kNobody, reader = kNobody;
    bool holds_noise = true;
  };

  template <class T>
  T get(uint64_t address) const {
    T value;
    std::memcpy(&value, data_ + address, sizeof value);
    return value;
  }

  static void join(uint64_t& epoch, int32_t& who, int32_t thread) {
    who = epoch == emulator::epoch && who != thread ? kMany : thread;
    epoch = emulator::epoch;
  }

  void note(uint64_t address, uint64_t bytes, uint64_t vector_bytes, Access access, int line) {
    if (address % vector_bytes != 0) emulator::die("misaligned access to shared memory", line);
    if (address >= size_ || size_ - address < bytes) emulator::die("access beyond shared memory", line);
    const emulator::Index& t = emulator::thread_index;
    const emulator::Index& n = emulator::block_size;
    const auto thread = static_cast<int32_t>(t.x + n.x * (t.y + n.y * t.z));
    for (uint64_t i = address; i < address + bytes; ++i) {
      Byte& b = bytes_[i];
      const auto by_other = [&](uint64_t epoch, int32_t who) { return epoch == emulator::epoch && who != thread; };
      if (by_other(b.write_epoch, b.writer)) emulator::die("race: shared memory that another thread has written", line);
      if (access != Access::kAtomic && by_other(b.atomic_epoch, b.changer)) {
        emulator::die("race: shared memory that another thread has changed atomically", line);
      }
      if (access != Access::kRead && by_other(b.read_epoch, b.reader)) {
        emulator::die("race: writes shared memory that another thread has read", line);
      }
      if (access != Access::kWrite && b.holds_noise) emulator::die("reads shared memory that nobody has written", line);
      if (access == Access::kRead) join(b.read_epoch, b.reader, thread);
      if (access == Access::kWrite) join(b.write_epoch, b.writer, thread), b.holds_noise = false;
      if (access == Access::kAtomic) join(b.atomic_epoch, b.changer, thread);
    }
  }

  size_t size_ = 0;
  unsigned char data_[kBytes];
  Byte bytes_[kBytes];
};
inline SharedMemory shared_memory;

inline const bool shared_memory_is_hooked = [] {
  emulator::at_block_start([](const emulator::KernelFacts* facts) { shared_memory.start_block(facts->shared_bytes); });
  return true;
}();

}  // namespace ptx
