#include "cuda_kernels.h"

#include <c10/util/Exception.h>
#include <pybind11/pybind11.h>

#include <atomic>
#include <string>

namespace fastinit {
namespace {

namespace py = pybind11;

FillCuda* import_kernels() {
  const py::gil_scoped_acquire with_python;
  std::string reason;
  try {
    const py::capsule fill = py::module_::import("fastinit._C_cuda").attr("fill");
    return reinterpret_cast<FillCuda*>(fill.get_pointer());
  } catch (py::error_already_set& error) {
    reason = error.matches(PyExc_ModuleNotFoundError) ? "they were not built" : error.what();
  }
  TORCH_CHECK_VALUE(false, "the keyed stream's CUDA kernels are not here (", reason,
                    "): build fastinit with FASTINIT_CUDA=1, which needs a CUDA build of torch and nvcc and says how "
                    "to get them, or fill a CPU tensor and copy it: the values are the same");
}

}  // namespace

FillCuda* cuda_kernels() {
  // Not a static local variable: who waited for that one would hold the GIL, which the import needs.
  static std::atomic<FillCuda*> kernels{nullptr};
  FillCuda* known = kernels.load(std::memory_order_acquire);
  if (known == nullptr) kernels.store(known = import_kernels(), std::memory_order_release);
  return known;
}

}  // namespace fastinit
