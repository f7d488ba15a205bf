// The CUDA kernels as the CPU part sees them: one function, in a module of its own that may not be there.
#pragma once

#include "plan.h"

namespace fastinit {

// Launches what fills the plan's tensors, which lie on this CUDA device, on the thread's current stream of it.
using FillCuda = void(const FillPlan& plan, int device);

inline constexpr const char* kFillCudaName = "fastinit::FillCuda";  // of the capsule fastinit._C_cuda.fill

// The function, from the module fastinit._C_cuda, which the first call imports; a ValueError that says what to do where
// that is not to be had.
FillCuda* cuda_kernels();

}  // namespace fastinit
