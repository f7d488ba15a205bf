// The kernels of this folder by name and address, for launches from plain C++. The address of a kernel is all that
// cudaLaunchKernel wants of it: what it takes is said where it is defined, and in run.cpp.
#pragma once

#include "../maths/numbers.h"

namespace fastinit::cuda {

struct Kernel {
  const char* name;
  void (*function)();
};

#define FASTINIT_FOR_EACH_TYPE(X, family, law) \
  X(family##_##law##_float32)                  \
  X(family##_##law##_float64)                  \
  X(family##_##law##_bfloat16)                 \
  X(family##_##law##_float16) X(family##_##law##_float8_e4m3fn) X(family##_##law##_float8_e5m2)
#define FASTINIT_DECLARE(name) extern "C" void fastinit_##name();
#define FASTINIT_ENTRY(name) {#name, &fastinit_##name},

FASTINIT_FOR_EACH_TYPE(FASTINIT_DECLARE, dense, uniform)
FASTINIT_FOR_EACH_TYPE(FASTINIT_DECLARE, dense, normal)
FASTINIT_FOR_EACH_TYPE(FASTINIT_DECLARE, dense, trunc_normal)

// By type, in the order of DType.
inline constexpr Kernel kDenseUniform[] = {FASTINIT_FOR_EACH_TYPE(FASTINIT_ENTRY, dense, uniform)};
inline constexpr Kernel kDenseNormal[] = {FASTINIT_FOR_EACH_TYPE(FASTINIT_ENTRY, dense, normal)};
inline constexpr Kernel kDenseTruncNormal[] = {FASTINIT_FOR_EACH_TYPE(FASTINIT_ENTRY, dense, trunc_normal)};

#define FASTINIT_KERNEL_NAMED(variable, name) \
  FASTINIT_DECLARE(name)                      \
  inline constexpr Kernel variable = {#name, &fastinit_##name};

// By the type of the arithmetic.
FASTINIT_KERNEL_NAMED(kGeneralUniform, general_uniform_float32)
FASTINIT_KERNEL_NAMED(kGeneralUniform64, general_uniform_float64)
FASTINIT_KERNEL_NAMED(kGeneralNormal, general_normal_float32)
FASTINIT_KERNEL_NAMED(kGeneralNormal64, general_normal_float64)
FASTINIT_KERNEL_NAMED(kGeneralTruncNormal, general_trunc_normal_float32)
FASTINIT_KERNEL_NAMED(kGeneralTruncNormal64, general_trunc_normal_float64)
FASTINIT_KERNEL_NAMED(kGeneralTruncNormalTail, general_trunc_normal_tail_float32)
FASTINIT_KERNEL_NAMED(kSparse, sparse_float32)
FASTINIT_KERNEL_NAMED(kSparse64, sparse_float64)

FASTINIT_KERNEL_NAMED(kDenseConstant, dense_constant)
FASTINIT_KERNEL_NAMED(kDenseDiagonal, dense_diagonal)
FASTINIT_KERNEL_NAMED(kGeneralPattern, general_pattern)

}  // namespace fastinit::cuda
