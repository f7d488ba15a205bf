// The op fastinit::fill_ and the module fastinit._C: argument checks, then a plan of plain structs, then the kernels on
// torch's threads.
#include <ATen/core/dispatch/Dispatcher.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <atomic>

#include "cpu/float_environment.h"
#include "cpu/isa.h"
#include "laws.h"
#include "maths/philox.h"
#include "plan.h"
#include "tensor_layout.h"
#include "threads.h"
#include "torch_stream.h"

namespace fastinit {
namespace {

// Laws as they stand in the op's schema; fastinit/laws.py has the same order.
enum class LawCode : int64_t { kConstant, kUniform, kNormal, kTruncNormal };
constexpr int64_t kNumbers = 4;  // of each law

struct Arguments {
  at::TensorList tensors;
  at::IntArrayRef laws;          // a LawCode for each tensor
  at::ArrayRef<double> numbers;  // kNumbers for each tensor
  at::IntArrayRef keys;          // seed and offset for each tensor, uint64 as int64
  at::IntArrayRef shards;        // empty, or for each tensor its global sizes and then its start
};

template <class T>
uint64_t bytes_of(T value) {
  uint64_t bytes = 0;
  std::memcpy(&bytes, &value, sizeof value);
  return bytes;
}

// The bytes of `value` in the type, converted as tensor.fill_ does.
uint64_t constant_pattern(DType dtype, double value) {
  const at::Scalar scalar(value);
  switch (dtype) {
    case DType::kFloat32:
      return bytes_of(scalar.to<float>());
    case DType::kFloat64:
      return bytes_of(value);
    case DType::kBFloat16:
      return bytes_of(scalar.to<at::BFloat16>());
    case DType::kFloat16:
      return bytes_of(scalar.to<at::Half>());
    case DType::kFloat8E4M3FN:
      return bytes_of(scalar.to<at::Float8_e4m3fn>());
    default:
      return bytes_of(scalar.to<at::Float8_e5m2>());
  }
}

Law kernel_law(int64_t code, DType dtype, const double* n, LawNumbers& numbers) {
  switch (static_cast<LawCode>(code)) {
    case LawCode::kConstant:
      numbers.pattern = constant_pattern(dtype, n[0]);
      return Law::kConstant;
    case LawCode::kUniform:
      return uniform_numbers(dtype, n[0], n[1], numbers);
    case LawCode::kNormal:
      return normal_numbers(dtype, n[0], n[1], numbers);
    case LawCode::kTruncNormal:
      return trunc_normal_numbers(dtype, n[0], n[1], n[2], n[3], numbers);
  }
  TORCH_CHECK_VALUE(false, "laws must be in [0, 3], got ", code);
}

// The tensor's dimensions with the step of the logical index in its global shape, and the index of its first element.
std::vector<Dim> dims_of(const at::Tensor& tensor, at::IntArrayRef global, at::IntArrayRef start,
                         uint64_t& first_index) {
  std::vector<Dim> dims(tensor.dim());
  int64_t index_stride = 1;
  first_index = 0;
  for (int64_t d = tensor.dim() - 1; d >= 0; --d) {
    TORCH_CHECK_VALUE(start[d] >= 0 && tensor.size(d) <= global[d] && start[d] <= global[d] - tensor.size(d),
                      "the shard must lie within global_shape ", global, ", got offset ", start,
                      " and a tensor of shape ", tensor.sizes());
    dims[d] = {tensor.size(d), tensor.stride(d), index_stride};
    first_index += static_cast<uint64_t>(start[d]) * static_cast<uint64_t>(index_stride);
    TORCH_CHECK_VALUE(!__builtin_mul_overflow(index_stride, std::max<int64_t>(global[d], 1), &index_stride),
                      "global_shape must have fewer than 2^63 elements, got ", global);
  }
  return dims;
}

void check_tensor(const at::Tensor& tensor, at::Device device) {
  TORCH_CHECK_VALUE(tensor.device() == device, "tensors must be on one device, got ", device, " and ", tensor.device());
  TORCH_CHECK_TYPE(!tensor.is_neg(), "tensor must not be a negated view; call resolve_neg() first");
  TORCH_CHECK(!tensor.is_inference() || c10::InferenceMode::is_enabled(),
              "tensor must not be an inference tensor outside torch.inference_mode()");
}

void check_layout(const at::Tensor& tensor) {
  TORCH_CHECK_VALUE(
      elements_apart(tensor),
      "tensor must not overlap itself in memory (each stride must reach beyond the smaller ones), got shape ",
      tensor.sizes(), " with strides ", tensor.strides(), "; call contiguous() first");
}

void add_job(FillPlan& plan, const Arguments& a, size_t i, size_t& shard_position) {
  const at::Tensor& tensor = a.tensors[i];
  check_tensor(tensor, a.tensors[0].device());
  FillJob job{};
  job.dtype = dtype_of(tensor);
  job.law = kernel_law(a.laws[i], job.dtype, &a.numbers[i * kNumbers], job.numbers);
  job.seed = static_cast<uint64_t>(a.keys[2 * i]);
  job.offset = static_cast<uint64_t>(a.keys[2 * i + 1]);
  const size_t n = tensor.dim(), place = shard_position;
  if (!a.shards.empty()) shard_position += 2 * n;
  if (tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides()) return;  // traced: shapes are checked when it runs
  check_layout(tensor);
  std::vector<Dim> dims;
  if (a.shards.empty() && tensor.is_contiguous()) {
    dims.push_back({tensor.numel(), 1, 1});
  } else if (a.shards.empty()) {
    const std::vector<int64_t> zeros(tensor.dim());
    dims = dims_of(tensor, tensor.sizes(), zeros, job.first_index);
  } else {
    dims = dims_of(tensor, a.shards.slice(place, n), a.shards.slice(place + n, n), job.first_index);
  }
  if (tensor.numel() == 0 || tensor.is_meta()) return;
  job.data = tensor.mutable_data_ptr();
  TORCH_CHECK_VALUE(job.data != nullptr, "tensor must have memory, and its storage is empty");
  plan.add(job, std::move(dims));
}

// Whether two of the tensors may share memory.
bool may_overlap(at::TensorList tensors) {
  std::vector<std::pair<const char*, const char*>> spans;
  spans.reserve(tensors.size());
  for (const at::Tensor& t : tensors) {
    if (t.numel() == 0) continue;
    int64_t reach = 1;
    for (int64_t d = 0; d < t.dim(); ++d) reach += (t.size(d) - 1) * t.stride(d);
    const char* begin = static_cast<const char*>(t.const_data_ptr());
    spans.emplace_back(begin, begin + reach * static_cast<int64_t>(t.element_size()));
  }
  std::sort(spans.begin(), spans.end());
  for (size_t i = 1; i < spans.size(); ++i) {
    if (spans[i].first < spans[i - 1].second) return true;
  }
  return false;
}

// Every check of every argument. One plan, or where tensors may share memory one for each, to be run in turn: then the
// last fill of an element is the one that counts.
std::vector<FillPlan> build_plans(const Arguments& a, bool in_turn) {
  const size_t n = a.tensors.size();
  TORCH_CHECK_VALUE(a.laws.size() == n && a.numbers.size() == kNumbers * n && a.keys.size() == 2 * n,
                    "laws, numbers and keys must hold 1, 4 and 2 values for each of the ", n, " tensors, got ",
                    a.laws.size(), ", ", a.numbers.size(), " and ", a.keys.size());
  size_t places = 0;
  for (const at::Tensor& tensor : a.tensors) places += 2 * tensor.dim();
  TORCH_CHECK_VALUE(a.shards.empty() || a.shards.size() == places,
                    "shards must be empty or hold a shape and a start for each tensor, ", places, " numbers, got ",
                    a.shards.size());
  const DefaultFloatEnvironment environment;
  std::vector<FillPlan> plans(in_turn ? n : 1);
  for (FillPlan& plan : plans) plan.reserve(n / plans.size());
  size_t shard_position = 0;
  for (size_t i = 0; i < n; ++i) {
    try {
      add_job(plans[in_turn ? i : 0], a, i, shard_position);
    } catch (const std::invalid_argument& error) {
      TORCH_CHECK_VALUE(false, error.what());
    }
  }
  return plans;
}

// Threads take chunks as they come: what each writes depends on the chunk alone. Waking a thread costs about a chunk,
// so that it must have two to do.
void run(const FillPlan& plan) {
  const int64_t chunks = plan.chunks(), threads = std::clamp<int64_t>(chunks / 2, 1, usable_threads());
  std::atomic<int64_t> next{0};
  at::parallel_for(0, threads, 1, [&](int64_t, int64_t) {
    for (int64_t chunk; (chunk = next.fetch_add(1, std::memory_order_relaxed)) < chunks;) run_chunk(plan, chunk);
  });
}

void fill_cpu(at::TensorList tensors, at::IntArrayRef laws, at::ArrayRef<double> numbers, at::IntArrayRef keys,
              at::IntArrayRef shards) {
  const bool in_turn = tensors.size() > 1 && may_overlap(tensors);
  const std::vector<FillPlan> plans = build_plans({tensors, laws, numbers, keys, shards}, in_turn);
  for (const at::Tensor& tensor : tensors) tensor.unsafeGetTensorImpl()->bump_version();
  for (const FillPlan& plan : plans) run(plan);
}

// Meta and fake tensors: the checks alone.
void fill_meta(at::TensorList tensors, at::IntArrayRef laws, at::ArrayRef<double> numbers, at::IntArrayRef keys,
               at::IntArrayRef shards) {
  build_plans({tensors, laws, numbers, keys, shards}, false);
  for (const at::Tensor& tensor : tensors) tensor.unsafeGetTensorImpl()->bump_version();
}

void fill_elsewhere(at::TensorList tensors, at::IntArrayRef, at::ArrayRef<double>, at::IntArrayRef, at::IntArrayRef) {
  for (const at::Tensor& t : tensors) {
    TORCH_CHECK_TYPE(t.layout() == at::kStrided && !t.is_quantized(),
                     "tensor must be dense and not quantised, got layout ", t.layout(),
                     t.is_quantized() ? ", quantised" : "");
    TORCH_CHECK_VALUE(t.is_cpu(), "the keyed stream has no kernels for device ", t.device(),
                      ": fill a CPU tensor and copy it there, the values are the same");
  }
  TORCH_CHECK(false, "no kernel of fastinit::fill_ takes these tensors");
}

auto& fill_op() {
  static auto op = c10::Dispatcher::singleton().findSchemaOrThrow("fastinit::fill_", "").typed<decltype(fill_cpu)>();
  return op;
}

// One tensor by way of the dispatcher, without Python lists in between.
void fill_one(py::handle tensor, int64_t law, double n0, double n1, double n2, double n3, uint64_t seed,
              uint64_t offset, const std::vector<int64_t>& shard) {
  TORCH_CHECK_TYPE(THPVariable_Check(tensor.ptr()), "tensor must be a torch.Tensor, got ",
                   Py_TYPE(tensor.ptr())->tp_name);
  const at::Tensor& t = THPVariable_Unpack(tensor.ptr());
  const double numbers[kNumbers] = {n0, n1, n2, n3};
  const int64_t key[2] = {static_cast<int64_t>(seed), static_cast<int64_t>(offset)};
  const py::gil_scoped_release released;
  fill_op().call(t, law, numbers, key, shard);
}

// All that filling this tensor would raise, and nothing written.
void check_one(const at::Tensor& tensor, int64_t law, const std::vector<double>& numbers) {
  const int64_t key[2] = {0, 0};
  if (!tensor.is_cpu() || tensor.layout() != at::kStrided || tensor.is_quantized()) {
    fill_elsewhere(tensor, law, numbers, key, {});
  }
  build_plans({tensor, law, numbers, key, {}}, false);
}

void fill_many(const std::vector<at::Tensor>& tensors, const std::vector<int64_t>& laws,
               const std::vector<double>& numbers, const std::vector<uint64_t>& keys,
               const std::vector<int64_t>& shards) {
  const at::IntArrayRef signed_keys(reinterpret_cast<const int64_t*>(keys.data()), keys.size());
  const py::gil_scoped_release released;  // ends before wrap_pybind_function turns an exception into Python's
  fill_op().call(tensors, laws, numbers, signed_keys, shards);
}

// The four words of Philox block `block` under `seed`, as two integers, first word low.
std::pair<uint64_t, uint64_t> philox(uint64_t seed, uint64_t block) {
  uint32_t w[4];
  philox_block(seed, block, w);
  return {w[0] | static_cast<uint64_t>(w[1]) << 32, w[2] | static_cast<uint64_t>(w[3]) << 32};
}

}  // namespace

TORCH_LIBRARY(fastinit, m) {
  m.def("fill_(Tensor(a!)[] tensors, int[] laws, float[] numbers, int[] keys, int[] shards) -> ()");
}
TORCH_LIBRARY_IMPL(fastinit, CPU, m) { m.impl("fill_", fill_cpu); }
TORCH_LIBRARY_IMPL(fastinit, Meta, m) { m.impl("fill_", fill_meta); }
TORCH_LIBRARY_IMPL(fastinit, CompositeExplicitAutograd, m) { m.impl("fill_", fill_elsewhere); }
// Lazily negated and conjugated tensors come to the checks above: torch would refuse them in words of its own.
TORCH_LIBRARY_IMPL(fastinit, Negative, m) { m.impl("fill_", torch::CppFunction::makeFallthrough()); }
TORCH_LIBRARY_IMPL(fastinit, Conjugate, m) { m.impl("fill_", torch::CppFunction::makeFallthrough()); }
// As under torch.no_grad(), which torch.nn.init writes in: a leaf that requires grad is filled in place.
TORCH_LIBRARY_IMPL(fastinit, Autograd, m) { m.impl("fill_", torch::CppFunction::makeFallthrough()); }

PYBIND11_MODULE(_C, m) {
  isa();  // a wrong FASTINIT_ISA is an error here, at import
  m.def("fill_one", torch::wrap_pybind_function(fill_one));
  m.def("check_one", torch::wrap_pybind_function(check_one));
  m.def("fill_many", torch::wrap_pybind_function(fill_many));
  m.def("philox", philox);
  m.def("isa", [] { return isa().name; });
  m.def("use_isa", [](const std::string& name) {  // for tests: everyone else sets FASTINIT_ISA
    use_isa(name);
    forget_verdicts();
  });
  m.def("available_isas", [] {
    std::vector<std::string> names;
    for (const Isa& isa : available_isas()) names.emplace_back(isa.name);
    return names;
  });
  bind_torch_stream(m);
}

}  // namespace fastinit
