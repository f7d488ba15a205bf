// A grid of threads on one processor: what tests/cuda puts in place of the CUDA runtime and of a device.
//
// A kernel is a function `void name(const void* table)` that runs one thread: the .cu file compiled as C++
// (cuda_shim.h) or nvcc's PTX translated (ptx_to_cpp.py). Blocks run one after another, and so do the threads of a
// block, in an order that the schedule gives; a thread that waits at a barrier is left on a stack of its own, so that
// kernels without barriers cost no switches. Whatever no device would do reliably ends the program with a message and
// status 3.
#pragma once

#include <cstddef>
#include <cstdint>

namespace emulator {

struct Index {
  unsigned x, y, z;
};

// Of the thread that runs now.
extern Index thread_index, block_index, block_size, grid_size;
// Grows by one whenever all threads of a block have met at a barrier, and with every block.
extern uint64_t epoch;

enum class Order { kForward, kReverse, kShuffled };

// In which order blocks, and the threads of each, run. `seed` is that of the shuffle and of every other choice that a
// device leaves open (rsqrt.approx in ptx_runtime.h).
struct Schedule {
  Order order = Order::kForward;
  uint64_t seed = 1;
};
void set_schedule(Schedule schedule);

// Only the last `blocks` blocks of each grid run from now on; 0: all. For tensors whose other elements have no memory.
void run_last_blocks_only(unsigned blocks);

// Launches on any other stream end the program from now on.
void expect_stream(void* stream);

// The next launch but `after` fails with this error code of the runtime, as a device without memory would let it.
void fail_launch(int after, int error);
int launches();         // since the program started
void print_launched();  // the names of the kernels that were, as far as they are registered

// A pseudo-random number that depends on the schedule's seed and on how many were taken.
uint64_t next_random();

// Waits for the other threads of the block. `site` tells the barriers of a kernel apart: threads of a warp must meet at
// one.
void barrier(int site);

[[noreturn]] void die(const char* what, int site);

// What is known of a translated kernel; the launch is checked against it.
struct KernelFacts {
  const char* name;
  size_t parameter_bytes;
  unsigned max_threads;  // 0: any
  size_t shared_bytes;
};
void register_kernel(void (*kernel)(const void*), const KernelFacts& facts);

struct Registration {
  Registration(void (*kernel)(const void*), const KernelFacts& facts) { register_kernel(kernel, facts); }
};

// To be called before each block, to make shared memory hold what a kernel must not rely on.
void at_block_start(void (*hook)(const KernelFacts* facts));

}  // namespace emulator
