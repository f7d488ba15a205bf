// How many of torch's threads a fill may use.
#pragma once

#include <ATen/Parallel.h>
#include <pthread.h>

#include <algorithm>
#include <atomic>

namespace fastinit {

// A forked process has none of its parent's threads, and OpenMP may wait for them for ever: torch, which fills on one
// thread, does not.
inline bool is_forked = false;
inline const int fork_handler = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

inline int usable_threads() { return is_forked || at::in_parallel_region() ? 1 : at::get_num_threads(); }

// run(unit) for all units, which the threads take as they come. What runs on this thread alone is in no parallel
// region, and may use all threads itself.
template <class Run>
void for_each_unit(int64_t units, const Run& run) {
  const int64_t threads = std::min<int64_t>(units, usable_threads());
  std::atomic<int64_t> next{0};
  auto take = [&](int64_t, int64_t) {
    for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < units;) run(unit);
  };
  if (threads < 2) return take(0, 1);
  at::parallel_for(0, threads, 1, take);
}

}  // namespace fastinit
