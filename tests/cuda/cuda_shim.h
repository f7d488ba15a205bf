// What a .cu file needs to be an ordinary C++ file (csrc/cuda/device.h includes this when its compiler is not nvcc):
// the words of CUDA C++, for kernels that run one thread a call on the emulator.
#pragma once

#include "emulator.h"

#define __device__
#define __host__
#define __global__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(bytes) alignas(bytes)

// One block runs at a time, so one copy will do. The section's ends, which the linker gives, let every block start with
// noise in it.
#define __shared__ static __attribute__((section("fastinit_shared")))

#define threadIdx ::emulator::thread_index
#define blockIdx ::emulator::block_index
#define blockDim ::emulator::block_size
#define gridDim ::emulator::grid_size

#define __syncthreads() ::emulator::barrier(__LINE__)

// Threads change only at barriers.
inline uint32_t atomicAdd(uint32_t* address, uint32_t value) {
  const uint32_t old = *address;
  *address = old + value;
  return old;
}
