// What a kernel needs of its compiler: nvcc, or g++ with the shim of tests/cuda, which runs the same source on the CPU.
#pragma once

#include <cstdint>

// A kernel takes one table by value, in its parameters.
#if defined(__CUDACC__)
#define FASTINIT_KERNEL(name, Table, threads, blocks_per_sm) \
  extern "C" __global__ void __launch_bounds__(threads, blocks_per_sm) name(const __grid_constant__ Table table)
#else
#include "cuda_shim.h"
#define FASTINIT_KERNEL(name, Table, threads, blocks_per_sm) extern "C" void name(const Table& table)
#endif
