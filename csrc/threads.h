// How many of torch's threads a fill may use.
#pragma once

#include <ATen/Parallel.h>
#include <pthread.h>

namespace fastinit {

// A forked process has none of its parent's threads, and OpenMP may wait for them for ever: torch, which fills on one
// thread, does not.
inline bool is_forked = false;
inline const int fork_handler = pthread_atfork(nullptr, nullptr, [] { is_forked = true; });

inline int usable_threads() { return is_forked || at::in_parallel_region() ? 1 : at::get_num_threads(); }

}  // namespace fastinit
