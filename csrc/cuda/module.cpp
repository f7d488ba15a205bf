// The module fastinit._C_cuda: lends the kernels to fastinit._C, which loads it at the first fill of a CUDA tensor.
// With run.cpp apart from torch, this is all that knows both torch and CUDA.
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <pybind11/pybind11.h>

#include "../cuda_kernels.h"
#include "run.h"

namespace fastinit {
namespace {

// On the stream that is torch's current one of the device for this thread.
void fill(const FillPlan& plan, int device) {
  const c10::cuda::CUDAGuard guard(static_cast<c10::DeviceIndex>(device));
  fill_on_device(plan, c10::cuda::getCurrentCUDAStream().stream());
}

}  // namespace

PYBIND11_MODULE(_C_cuda, m) {
  m.attr("fill") = pybind11::capsule(reinterpret_cast<void*>(static_cast<FillCuda*>(fill)), kFillCudaName);
}

}  // namespace fastinit
