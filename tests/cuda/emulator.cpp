#include "emulator.h"

#include <cuda_runtime_api.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif

namespace emulator {

Index thread_index, block_index, block_size, grid_size;
uint64_t epoch = 0;

namespace {

constexpr size_t kStackBytes = 256 * 1024, kParameterBytes = 4096, kWarp = 32;

Schedule schedule;
unsigned last_blocks = 0;
bool any_stream = true;
void* expected_stream = nullptr;
uint64_t random_state = 1;
int launch_count = 0, fail_after = -1, fail_error = 0;
cudaError_t last_error = cudaSuccess;
const KernelFacts* running = nullptr;
std::vector<void (*)(const KernelFacts*)> block_hooks;
std::set<std::string> launched;

std::map<void (*)(const void*), KernelFacts>& kernels() {
  static std::map<void (*)(const void*), KernelFacts> all;
  return all;
}

// ---- fibers: each runs threads of the block, one after another, until one of them waits

enum class State { kIdle, kWaiting };

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[kStackBytes]};
  State state = State::kIdle;
  unsigned thread = 0;  // that waits
  int site = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
};

struct Block {
  void (*kernel)(const void*);
  const void* table;
  std::vector<unsigned> order;  // of its threads
  size_t next = 0;              // of those that have not started
  size_t finished = 0;
};

ucontext_t scheduler;
void* scheduler_fake_stack = nullptr;
const void* scheduler_stack = nullptr;
size_t scheduler_stack_size = 0;
std::vector<std::unique_ptr<Fiber>> fibers;
Fiber* current = nullptr;
Block block;

void set_thread(unsigned thread) {
  thread_index = {thread % block_size.x, thread / block_size.x % block_size.y, thread / block_size.x / block_size.y};
}

void arrived_on_fiber() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(current->fake_stack, &scheduler_stack, &scheduler_stack_size);
#endif
}

void switch_to(Fiber& fiber) {
  current = &fiber;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.stack.get(), kStackBytes);
#endif
  swapcontext(&scheduler, &fiber.context);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
  current = nullptr;
}

void switch_to_scheduler() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&current->fake_stack, scheduler_stack, scheduler_stack_size);
#endif
  swapcontext(&current->context, &scheduler);
  arrived_on_fiber();
}

void fiber_main() {
  arrived_on_fiber();
  for (;;) {
    while (block.next < block.order.size()) {
      current->thread = block.order[block.next++];
      set_thread(current->thread);
      block.kernel(block.table);
      ++block.finished;
    }
    current->state = State::kIdle;
    switch_to_scheduler();
  }
}

Fiber& idle_fiber() {
  for (auto& fiber : fibers) {
    if (fiber->state == State::kIdle) return *fiber;
  }
  fibers.push_back(std::make_unique<Fiber>());
  Fiber& fiber = *fibers.back();
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = fiber.stack.get();
  fiber.context.uc_stack.ss_size = kStackBytes;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, fiber_main, 0);
  return fiber;
}

// ---- blocks

uint64_t mixed(uint64_t x) {  // splitmix64
  x += 0x9E3779B97F4A7C15;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9;
  x = (x ^ x >> 27) * 0x94D049BB133111EB;
  return x ^ x >> 31;
}

std::vector<unsigned> in_order(unsigned first, unsigned last, uint64_t salt) {
  std::vector<unsigned> all(last - first);
  std::iota(all.begin(), all.end(), first);
  if (schedule.order == Order::kReverse) std::reverse(all.begin(), all.end());
  if (schedule.order == Order::kShuffled) {
    uint64_t state = mixed(schedule.seed) ^ mixed(salt);
    for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[(state = mixed(state)) % i]);
  }
  return all;
}

// Lets the threads go on that wait at a barrier, once all do.
void release(std::vector<Fiber*>& waiting) {
  if (waiting.size() != block.order.size()) {
    set_thread(waiting[0]->thread);
    die("threads wait at a barrier that others never reach, because they have ended", waiting[0]->site);
  }
  std::vector<int> sites(block.order.size());
  for (const Fiber* fiber : waiting) sites[fiber->thread] = fiber->site;
  for (size_t i = 1; i < sites.size(); ++i) {
    if (i % kWarp != 0 && sites[i] != sites[i - 1]) {
      set_thread(static_cast<unsigned>(i));
      die("threads of one warp wait at different barriers", sites[i]);
    }
  }
  ++epoch;
  std::vector<Fiber*> of_thread(waiting.size());
  for (Fiber* fiber : waiting) of_thread[fiber->thread] = fiber;
  for (const unsigned thread : in_order(0, static_cast<unsigned>(waiting.size()), epoch)) {
    of_thread[thread]->state = State::kIdle;  // until it waits again
    set_thread(thread);
    switch_to(*of_thread[thread]);
  }
}

void run_block(unsigned number) {
  block_index = {number % grid_size.x, number / grid_size.x % grid_size.y, number / grid_size.x / grid_size.y};
  ++epoch;
  for (auto hook : block_hooks) hook(running);
  block.order = in_order(0, block_size.x * block_size.y * block_size.z, number + 1);
  block.next = block.finished = 0;
  while (block.next < block.order.size()) switch_to(idle_fiber());
  while (block.finished < block.order.size()) {
    std::vector<Fiber*> waiting;
    for (auto& fiber : fibers) {
      if (fiber->state == State::kWaiting) waiting.push_back(fiber.get());
    }
    release(waiting);
  }
}

cudaError_t check(dim3 grid, dim3 threads, void** args, size_t shared) {
  const uint64_t count = uint64_t{threads.x} * threads.y * threads.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || count == 0) return cudaErrorInvalidConfiguration;
  if (grid.x > 0x7FFFFFFFu || grid.y > 65535 || grid.z > 65535) return cudaErrorInvalidConfiguration;
  if (count > 1024 || threads.z > 64 || shared > 48 * 1024) return cudaErrorInvalidConfiguration;
  if (args == nullptr || args[0] == nullptr) return cudaErrorInvalidValue;
  if (running != nullptr && running->parameter_bytes > kParameterBytes) return cudaErrorInvalidValue;
  if (running != nullptr && running->max_threads != 0 && count > running->max_threads) return cudaErrorInvalidValue;
  return cudaSuccess;
}

}  // namespace

void set_schedule(Schedule s) {
  schedule = s;
  random_state = mixed(s.seed);
}

void run_last_blocks_only(unsigned blocks) { last_blocks = blocks; }

void expect_stream(void* stream) { any_stream = false, expected_stream = stream; }

void fail_launch(int after, int error) { fail_after = after, fail_error = error; }

int launches() { return launch_count; }

void print_launched() {
  for (const std::string& name : launched) std::printf("launched %s\n", name.c_str());
}

uint64_t next_random() { return random_state = mixed(random_state); }

void register_kernel(void (*kernel)(const void*), const KernelFacts& facts) { kernels()[kernel] = facts; }

void at_block_start(void (*hook)(const KernelFacts*)) { block_hooks.push_back(hook); }

void barrier(int site) {
  Fiber& self = *current;
  self.state = State::kWaiting;
  self.site = site;
  switch_to_scheduler();
}

void die(const char* what, int site) {
  std::fflush(stdout);
  std::fprintf(stderr, "emulator: %s (launch %d, %s, block %u, thread %u, line %d)\n", what, launch_count,
               running != nullptr ? running->name : "kernel", block_index.x, thread_index.x, site);
  std::fflush(stderr);
  std::_Exit(3);
}

}  // namespace emulator

// ---- the runtime's own names, which csrc/cuda/run.cpp calls

using namespace emulator;

cudaError_t cudaLaunchKernel(const void* function, dim3 grid, dim3 threads, void** args, size_t shared,
                             cudaStream_t stream) {
  const auto kernel = reinterpret_cast<void (*)(const void*)>(const_cast<void*>(function));
  const auto facts = kernels().find(kernel);
  running = facts == kernels().end() ? nullptr : &facts->second;
  ++launch_count;
  if (!any_stream && stream != expected_stream) die("a launch on another stream than the caller's", 0);
  cudaError_t error = check(grid, threads, args, shared);
  if (fail_after >= 0 && fail_after-- == 0) error = static_cast<cudaError_t>(fail_error);
  if (error != cudaSuccess) return last_error = error;

  std::vector<char> copy;  // of the parameters: what the caller does with its own from now on does not matter
  const void* table = args[0];
  if (running != nullptr) {
    const char* bytes = static_cast<const char*>(args[0]);
    copy.assign(bytes, bytes + running->parameter_bytes);
    table = copy.data();
  }
  if (running != nullptr) launched.insert(running->name);
  grid_size = {grid.x, grid.y, grid.z};
  block_size = {threads.x, threads.y, threads.z};
  block.kernel = kernel;
  block.table = table;
  const unsigned blocks = grid.x * grid.y * grid.z;
  const unsigned first = last_blocks != 0 && last_blocks < blocks ? blocks - last_blocks : 0;
  for (const unsigned number : in_order(first, blocks, 0)) run_block(number);
  return cudaSuccess;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error;
  last_error = cudaSuccess;
  return error;
}

const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidValue:
      return "invalid argument";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    default:
      return "unrecognized error code";
  }
}
