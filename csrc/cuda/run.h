// From a plan to kernel launches. Neither torch nor nvcc: of the CUDA runtime cudaLaunchKernel and cudaGetLastError
// alone, which tests/cuda puts in place of its own.
#pragma once

#include "../plan.h"

namespace fastinit {

// Launches what fills the plan's tensors, which lie on the current device, on `stream` (a cudaStream_t). Allocates
// nothing on the device and waits for nothing. Throws std::runtime_error if a launch fails.
void fill_on_device(const FillPlan& plan, void* stream);

}  // namespace fastinit
