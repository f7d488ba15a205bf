// The torch stream as Python sees it: which calls are ordinary enough to be filled here, the generator's state under
// its lock, and what fastinit/self_check.py found. Everything else is torch's own.
#include "torch_stream.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/TensorIterator.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/csrc/Dtype.h>
#include <torch/csrc/Generator.h>
#include <torch/extension.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <mutex>
#include <optional>

#include "cpu/float_environment.h"
#include "laws.h"
#include "ordinary.h"
#include "tensor_layout.h"
#include "threads.h"
#include "torch_fill.h"
#include "torch_generator.h"
#include "torch_sparse.h"

namespace fastinit {
namespace {

enum Outcome { kLeft, kWritten, kUnchecked };
enum StreamLaw : int64_t {
  kUniformLaw = static_cast<int64_t>(LawCode::kUniform),
  kNormalLaw = static_cast<int64_t>(LawCode::kNormal),
  kTruncNormalLaw = static_cast<int64_t>(LawCode::kTruncNormal),
  kSparseLaw = static_cast<int64_t>(LawCode::kSparse)
};
constexpr at::ScalarType kTypes[] = {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf};

// ---- Verdicts

enum Verdict : int8_t { kNone, kFails, kHolds };
std::atomic<Verdict> verdicts[kSparseLaw][std::size(kTypes)];

std::atomic<Verdict>& verdict(int64_t law, at::ScalarType type) {
  const int64_t place = std::find(std::begin(kTypes), std::end(kTypes), type) - std::begin(kTypes);
  TORCH_CHECK_VALUE(law >= kUniformLaw && law <= kSparseLaw && place < 4, "there is no verdict on law ", law,
                    " in type ", type);
  return verdicts[law - 1][place];
}

// ---- What is ordinary

// The tensor, if torch would fill it by its CPU kernel and nothing else had a say in it.
const at::Tensor* ordinary_tensor(py::handle object) {
  if (!THPVariable_Check(object.ptr())) return nullptr;
  const at::Tensor& t = THPVariable_Unpack(object.ptr());
  const bool ordinary = is_ordinary(t) &&
                        std::find(std::begin(kTypes), std::end(kTypes), t.scalar_type()) != std::end(kTypes) &&
                        is_default_float_environment();
  return ordinary ? &t : nullptr;
}

at::CPUGeneratorImpl* cpu_generator(py::handle object) {
  if (object.is_none()) return at::check_generator<at::CPUGeneratorImpl>(at::detail::getDefaultCPUGenerator());
  if (Py_TYPE(object.ptr()) != reinterpret_cast<PyTypeObject*>(THPGeneratorClass)) return nullptr;
  const at::Generator& generator = reinterpret_cast<THPGenerator*>(object.ptr())->cdata;
  return generator.device().is_cpu() ? at::check_generator<at::CPUGeneratorImpl>(generator) : nullptr;
}

std::optional<double> ordinary_number(py::handle object) {
  double value = NAN;
  if (PyFloat_CheckExact(object.ptr())) {
    value = PyFloat_AS_DOUBLE(object.ptr());
  } else if (PyLong_CheckExact(object.ptr())) {
    value = PyLong_AsDouble(object.ptr());
    if (PyErr_Occurred() != nullptr) {  // too large: torch says so
      PyErr_Clear();
      return std::nullopt;
    }
  }
  if (!std::isfinite(value)) return std::nullopt;
  return value;
}

double greatest(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return std::numeric_limits<float>::max();
    case at::kBFloat16:
      return std::numeric_limits<at::BFloat16>::max();
    case at::kHalf:
      return std::numeric_limits<at::Half>::max();
    default:
      return std::numeric_limits<double>::max();
  }
}

bool uniform_takes(at::ScalarType type, double from, double to) {
  const double most = greatest(type);
  const bool in_float32 = type == at::kDouble || std::isfinite(static_cast<float>(to) - static_cast<float>(from));
  return from >= -most && from <= to && to <= most && to - from <= most && in_float32;
}

bool normal_takes(at::ScalarType type, double mean, double std) {
  return std >= 0 &&
         (type == at::kDouble || (std::isfinite(static_cast<float>(mean)) && std::isfinite(static_cast<float>(std))));
}

// ---- Fills

Workers workers() {
  return {usable_threads(), [](int64_t tasks, const std::function<void(int64_t)>& run) {
            if (tasks == 1 || is_forked) {
              for (int64_t task = 0; task < tasks; ++task) run(task);
              return;
            }
            at::parallel_for(0, tasks, 1, [&](int64_t begin, int64_t end) {
              const DefaultFloatEnvironment environment;  // as on the calling thread: see ordinary_tensor
              for (int64_t task = begin; task < end; ++task) run(task);
            });
          }};
}

// As far as the verdict goes.
Outcome foreseen(int64_t law, const at::Tensor& tensor, bool unchecked) {
  const Verdict found = unchecked ? kHolds : verdict(law, tensor.scalar_type()).load();
  return found == kHolds ? kWritten : found == kNone ? kUnchecked : kLeft;
}

// `fill` with the tensor as a target and the generator's state, unless the verdict or the state is against it.
template <class Fill>
Outcome filled(const at::Tensor& tensor, int64_t law, at::CPUGeneratorImpl* generator, bool unchecked,
               const Fill& fill) {
  if (const Outcome outcome = foreseen(law, tensor, unchecked); outcome != kWritten) return outcome;
  const py::gil_scoped_release released;
  LockedGenerator locked(generator);
  if (!locked.is_ordinary()) return kLeft;
  const TorchTarget target = target_of(tensor);  // before the version: memory that is not there throws
  tensor.unsafeGetTensorImpl()->bump_version();
  fill(target, locked.state);
  locked.save();
  return kWritten;
}

bool takes(py::handle tensor, py::handle generator) {
  return ordinary_tensor(tensor) != nullptr && cpu_generator(generator) != nullptr;
}

int fill(py::handle object, int64_t law, py::handle first, py::handle second, py::handle generator, bool unchecked) {
  const at::Tensor* tensor = ordinary_tensor(object);
  at::CPUGeneratorImpl* words = cpu_generator(generator);
  const std::optional<double> a = ordinary_number(first), b = ordinary_number(second);
  if (tensor == nullptr || words == nullptr || !a || !b) return kLeft;
  if (law == kUniformLaw) {
    if (!uniform_takes(tensor->scalar_type(), *a, *b)) return kLeft;
    return filled(*tensor, law, words, unchecked, [&](const TorchTarget& target, TorchGenerator& state) {
      torch_uniform(target, *a, *b, state, workers());
    });
  }
  TORCH_CHECK_VALUE(law == kNormalLaw, "law must be 1 (uniform) or 2 (normal), got ", law);
  if (!normal_takes(tensor->scalar_type(), *a, *b)) return kLeft;
  return filled(*tensor, law, words, unchecked, [&](const TorchTarget& target, TorchGenerator& state) {
    torch_normal(target, {*a, *b}, state, workers());
  });
}

// Whether no normal number that float32 can make may lie in [a, b]: the mean is beside it, and the standard deviation
// is lost in the mean's rounding. torch then draws until it is interrupted, which a native fill cannot be.
bool may_miss_for_ever(double mean, double deviation, double a, double b) {
  const float centre = static_cast<float>(mean);
  const bool is_beside = centre < static_cast<float>(a) || static_cast<float>(b) < centre;
  return is_beside && deviation < std::abs(mean) * 0x1p-20 + 0x1p-140;
}

int fill_trunc_normal(py::handle object, py::handle mean, py::handle std, py::handle a, py::handle b,
                      py::handle generator, bool unchecked) {
  const at::Tensor* tensor = ordinary_tensor(object);
  at::CPUGeneratorImpl* words = cpu_generator(generator);
  const std::optional<double> m = ordinary_number(mean), s = ordinary_number(std), low = ordinary_number(a),
                              high = ordinary_number(b);
  if (tensor == nullptr || words == nullptr || !m || !s || !low || !high) return kLeft;
  const double most = greatest(tensor->scalar_type());
  if (!normal_takes(tensor->scalar_type(), *m, *s) || std::abs(*low) > most || std::abs(*high) > most) return kLeft;
  if (!tensor->is_non_overlapping_and_dense()) return kLeft;  // torch's later rounds draw in another order
  if (tensor->scalar_type() != at::kDouble && may_miss_for_ever(*m, *s, *low, *high)) return kLeft;
  return filled(*tensor, kTruncNormalLaw, words, unchecked, [&](const TorchTarget& target, TorchGenerator& state) {
    const bool redrawn = torch_trunc_normal(target, {*m, *s}, *low, *high, state, workers());
    if (redrawn) tensor->unsafeGetTensorImpl()->bump_version();  // torch copies the last round's tensor
  });
}

// Normal values and then `zeros` of them zero in each column, at rows of torch.randperm by the generator
// `permutations`.
int fill_sparse(py::handle object, int64_t zeros, py::handle std, py::handle generator, py::handle permutations,
                bool unchecked) {
  const at::Tensor* tensor = ordinary_tensor(object);
  at::CPUGeneratorImpl *words = cpu_generator(generator), *others = cpu_generator(permutations);
  const std::optional<double> s = ordinary_number(std);
  if (tensor == nullptr || words == nullptr || others == nullptr || !s) return kLeft;
  if (!normal_takes(tensor->scalar_type(), 0.0, *s) || tensor->dim() != 2 || tensor->size(0) > kMostRows) return kLeft;
  if (zeros < 0 || zeros > tensor->size(0)) return kLeft;
  if (const Outcome outcome = foreseen(kSparseLaw, *tensor, unchecked); outcome != kWritten) return outcome;
  const py::gil_scoped_release released;
  at::CPUGeneratorImpl *lower = std::min(words, others), *upper = std::max(words, others);
  LockedGenerator one(lower);  // in this order whichever is which, so that no two calls wait for each other
  std::optional<LockedGenerator> two;
  if (lower != upper) two.emplace(upper);
  if (!one.is_ordinary() || (two && !two->is_ordinary())) return kLeft;
  const TorchTarget target = target_of(*tensor);
  for (int64_t i = 0; i <= tensor->size(1); ++i)
    tensor->unsafeGetTensorImpl()->bump_version();  // torch goes by columns
  torch_normal(target, {0.0, *s}, (words == lower ? one : *two).state, workers());
  torch_sparse({target.data, tensor->size(0), tensor->size(1), tensor->stride(0), tensor->stride(1)},
               static_cast<int>(tensor->element_size()), zeros, (others == lower ? one : *two).state.engine, workers());
  one.save();
  if (two) two->save();
  return kWritten;
}

uint64_t draw_seed(py::handle object) {
  at::CPUGeneratorImpl* generator = cpu_generator(object);
  TORCH_CHECK_TYPE(generator != nullptr, "generator must be None or a torch.Generator on the CPU, got ",
                   std::string(py::repr(object)));
  const py::gil_scoped_release released;
  const std::lock_guard<std::mutex> lock(generator->mutex_);
  return generator->random64();
}

py::object python_type(at::ScalarType type) {
  return py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(torch::getTHPDtype(type)));
}

py::dict found_verdicts() {
  py::dict found;
  for (int64_t law = kUniformLaw; law <= kSparseLaw; ++law) {
    for (const at::ScalarType type : kTypes) {
      const Verdict of_pair = verdict(law, type);
      if (of_pair != kNone) found[py::make_tuple(law, python_type(type))] = of_pair == kHolds;
    }
  }
  return found;
}

}  // namespace

TorchTarget extent_of(const at::Tensor& tensor) {
  return {nullptr, dtype_of(tensor), tensor.numel(), {}, tensor.numel() >= 16 && tensor.is_contiguous()};
}

TorchTarget target_of(const at::Tensor& tensor) {
  TorchTarget target = extent_of(tensor);
  target.data = static_cast<char*>(tensor.mutable_data_ptr());
  if (!tensor.is_non_overlapping_and_dense()) {
    const auto order = at::TensorIterator::borrowing_nullary_op(tensor);  // torch's own
    for (int64_t i = 0; i < order.ndim(); ++i) {
      target.axes.push_back({order.shape()[i], order.strides(0)[i] / tensor.element_size()});
    }
  }
  return target;
}

bool draws_natively(LawCode law, at::ScalarType type, double first, double second) {
  const bool known = std::find(std::begin(kTypes), std::end(kTypes), type) != std::end(kTypes);
  if (!known || !std::isfinite(first) || !std::isfinite(second)) return false;
  const bool takes = law == LawCode::kUniform ? uniform_takes(type, first, second) : normal_takes(type, first, second);
  return takes && verdict(static_cast<int64_t>(law), type) == kHolds;
}

void forget_verdicts() {
  for (auto& law : verdicts) {
    for (auto& of_pair : law) of_pair = kNone;
  }
}

void bind_torch_stream(py::module_& m) {
  m.attr("LEFT") = static_cast<int>(kLeft);
  m.attr("WRITTEN") = static_cast<int>(kWritten);
  m.attr("UNCHECKED") = static_cast<int>(kUnchecked);
  m.def("torch_takes", torch::wrap_pybind_function(takes));
  m.def("torch_fill", torch::wrap_pybind_function(fill), py::arg("tensor"), py::arg("law"), py::arg("first"),
        py::arg("second"), py::arg("generator"), py::arg("unchecked") = false);
  m.def("torch_trunc_normal", torch::wrap_pybind_function(fill_trunc_normal), py::arg("tensor"), py::arg("mean"),
        py::arg("std"), py::arg("a"), py::arg("b"), py::arg("generator"), py::arg("unchecked") = false);
  m.def("torch_sparse", torch::wrap_pybind_function(fill_sparse), py::arg("tensor"), py::arg("zeros"), py::arg("std"),
        py::arg("generator"), py::arg("permutations"), py::arg("unchecked") = false);
  m.def("torch_verdict",
        [](int64_t law, at::ScalarType type, bool holds) { verdict(law, type) = holds ? kHolds : kFails; });
  m.def("torch_verdicts", found_verdicts);
  m.def("draw_seed", torch::wrap_pybind_function(draw_seed));
}

}  // namespace fastinit
