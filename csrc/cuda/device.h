// What a kernel needs of its compiler: nvcc, or g++ with the shim of tests/cuda, which runs the same source on the CPU.
#pragma once

#include <cstdint>

// A kernel takes one table by value, in its parameters.
#if defined(__CUDACC__)
#define FASTINIT_KERNEL(name, Table, threads, blocks_per_sm) \
  extern "C" __global__ void __launch_bounds__(threads, blocks_per_sm) name(const __grid_constant__ Table table)
#define FASTINIT_DEVICE __device__ __forceinline__  // of what only a device can do: barriers and atomic additions
#else
#include "cuda_shim.h"
#define FASTINIT_DEVICE FASTINIT_INLINE
#define FASTINIT_KERNEL(name, Table, threads, blocks_per_sm) extern "C" void name(const Table& table)
#endif

#include "tables.h"

namespace fastinit::cuda {

// The number of the tensor that this block of threads works on.
template <class Table>
FASTINIT_INLINE int tensor_of_block(const Table& table) {
  int i = 0;
  FASTINIT_UNROLL
  for (int step = 32; step > 0; step /= 2) {
    if (i + step < table.count && table.starts[i + step] <= blockIdx.x) i += step;
  }
  return i;
}

}  // namespace fastinit::cuda
