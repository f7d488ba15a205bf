// Inlining markers of all shared maths, for host and device compilers.
// Everything here must be inlined: a copy compiled for AVX-512 must never be the one the linker keeps for other code.
#pragma once

#include <cstdint>

#if defined(__CUDACC__)
#define FASTINIT_INLINE __host__ __device__ __forceinline__
#define FASTINIT_UNROLL _Pragma("unroll")
#define FASTINIT_RARE __host__ __device__ __forceinline__  // a call would put its arguments into memory
#else
#define FASTINIT_INLINE inline __attribute__((always_inline))
#define FASTINIT_UNROLL _Pragma("GCC unroll 32")
#define FASTINIT_RARE __attribute__((noinline, cold))  // only for members of templates over the lane type
#endif
