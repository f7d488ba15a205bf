// The op fastinit::fill_ and the module fastinit._C: checked arguments become jobs, which run on torch's threads or,
// for CUDA tensors, by the kernels that cuda_kernels.h finds.
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/extension.h>
#include <torch/library.h>

#include <atomic>

#include "batched/block.h"
#include "cpu/float_environment.h"
#include "cpu/isa.h"
#include "cuda_kernels.h"
#include "keys.h"
#include "ops.h"
#include "ordinary.h"
#include "pages.h"
#include "threads.h"
#include "torch_stream.h"

namespace fastinit {
namespace {

// Which elements of the plan's sparse matrices are zero.
void select_zeros(const FillPlan& plan) {
  SparseSelection selection(plan.sparse, usable_threads());
  for_each_unit(selection.units(), [&](int64_t unit) {
    const DefaultFloatEnvironment environment;
    selection.run(unit);
  });
  selection.finish();
}

// Each thread has a range of chunks, near one another in memory, and helps with the others' when it is done: what a
// chunk writes depends on the chunk alone. Waking a thread costs about a chunk, so that it must have two to do.
void run(const FillPlan& plan) {
  const int64_t chunks = plan.chunks(), threads = std::clamp<int64_t>(chunks / 2, 1, usable_threads());
  struct alignas(64) Range {
    std::atomic<int64_t> next;
    int64_t end;
  };
  std::vector<Range> ranges(threads);
  for (int64_t i = 0; i < threads; ++i) {
    ranges[i].next = chunks * i / threads;
    ranges[i].end = chunks * (i + 1) / threads;
  }
  at::parallel_for(0, threads, 1, [&](int64_t first, int64_t) {
    for (int64_t i = 0; i < threads; ++i) {
      Range& range = ranges[(first + i) % threads];
      for (int64_t chunk; (chunk = range.next.fetch_add(1, std::memory_order_relaxed)) < range.end;) {
        run_chunk(plan, chunk);
      }
    }
  });
}

void fill_cpu(at::TensorList tensors, at::IntArrayRef laws, at::ArrayRef<double> numbers, at::IntArrayRef keys,
              at::IntArrayRef shards) {
  const std::vector<FillJobs> jobs = make_jobs({tensors, laws, numbers, keys, shards});
  for (const at::Tensor& tensor : tensors) tensor.unsafeGetTensorImpl()->bump_version();
  for (const FillJobs& each : jobs) {
    select_zeros(each.plan);
    run(each.plan);
    fill_orthogonal(each.orthogonal);
  }
}

// Waits for nothing and, but for orthogonal matrices, allocates nothing on the device.
void fill_cuda(at::TensorList tensors, at::IntArrayRef laws, at::ArrayRef<double> numbers, at::IntArrayRef keys,
               at::IntArrayRef shards) {
  const std::vector<FillJobs> jobs = make_jobs({tensors, laws, numbers, keys, shards});
  FillCuda* const fill = cuda_kernels();
  for (const at::Tensor& tensor : tensors) tensor.unsafeGetTensorImpl()->bump_version();
  for (const FillJobs& each : jobs) {
    if (!each.plan.jobs.empty()) fill(each.plan, tensors[0].device().index());
    fill_orthogonal(each.orthogonal);
  }
}

// Meta and fake tensors: the checks alone.
void fill_meta(at::TensorList tensors, at::IntArrayRef laws, at::ArrayRef<double> numbers, at::IntArrayRef keys,
               at::IntArrayRef shards) {
  make_jobs({tensors, laws, numbers, keys, shards});
  for (const at::Tensor& tensor : tensors) tensor.unsafeGetTensorImpl()->bump_version();
}

void fill_elsewhere(at::TensorList tensors, at::IntArrayRef, at::ArrayRef<double>, at::IntArrayRef, at::IntArrayRef) {
  for (const at::Tensor& t : tensors) {
    TORCH_CHECK_TYPE(t.layout() == at::kStrided && !t.is_quantized(),
                     "tensor must be dense and not quantised, got layout ", t.layout(),
                     t.is_quantized() ? ", quantised" : "");
    TORCH_CHECK_VALUE(t.is_cpu() || t.is_cuda(), "the keyed stream has kernels for CPU and CUDA, and none for device ",
                      t.device(), ": fill a CPU tensor and copy it there, the values are the same");
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

void check_one(const at::Tensor& tensor, int64_t law, const std::vector<double>& numbers) {
  const int64_t key[2] = {0, 0};
  check_fill({tensor, law, numbers, key, {}});
}

void fill_many(const std::vector<at::Tensor>& tensors, const std::vector<int64_t>& laws,
               const std::vector<double>& numbers, const std::vector<uint64_t>& keys,
               const std::vector<int64_t>& shards) {
  const at::IntArrayRef signed_keys(reinterpret_cast<const int64_t*>(keys.data()), keys.size());
  const py::gil_scoped_release released;  // ends before wrap_pybind_function turns an exception into Python's
  fill_by_op({tensors, laws, numbers, signed_keys, shards});
}

// The keys that fold_in makes of each of `data`, seed and offset after one another.
std::vector<uint64_t> children(uint64_t seed, uint64_t offset, const std::vector<uint64_t>& data) {
  std::vector<uint64_t> words;
  words.reserve(2 * data.size());
  for (const uint64_t each : data) {
    const auto [child_seed, child_offset] = child(seed, offset, each);
    words.push_back(child_seed);
    words.push_back(child_offset);
  }
  return words;
}

}  // namespace

void check_fill(const FillArguments& a) {
  for (const at::Tensor& t : a.tensors) {
    if (!(t.is_cpu() || t.is_cuda() || t.is_meta()) || t.layout() != at::kStrided || t.is_quantized()) {
      fill_elsewhere(t, a.laws, a.numbers, a.keys, a.shards);
    }
    if (t.is_cuda()) cuda_kernels();
  }
  make_jobs(a);
}

void fill_by_op(const FillArguments& all) {
  if (on_one_device(all.tensors)) return fill_op().call(all.tensors, all.laws, all.numbers, all.keys, all.shards);
  const std::vector<DeviceArguments> by_device = split_by_device(all);
  const bool are_real = std::none_of(all.tensors.begin(), all.tensors.end(), [](const at::Tensor& tensor) {
    return tensor.key_set().has(c10::DispatchKey::Python);  // fake ones, which have no memory to look at
  });
  for (const DeviceArguments& each : by_device) {
    if (are_real) check_fill(each.view());
  }
  for (const DeviceArguments& each : by_device) {
    fill_op().call(each.tensors, each.laws, each.numbers, each.keys, each.shards);
  }
}

TORCH_LIBRARY(fastinit, m) {
  m.def("fill_(Tensor(a!)[] tensors, int[] laws, float[] numbers, int[] keys, int[] shards) -> ()");
}
TORCH_LIBRARY_IMPL(fastinit, CPU, m) { m.impl("fill_", fill_cpu); }
TORCH_LIBRARY_IMPL(fastinit, CUDA, m) { m.impl("fill_", fill_cuda); }
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
  m.def("require_cuda", torch::wrap_pybind_function([] { cuda_kernels(); }));
  m.def("new_tensor", [](const std::vector<int64_t>& sizes, const std::vector<int64_t>& strides, at::ScalarType dtype) {
    return new_tensor(sizes, strides, dtype);
  });
  m.def("is_ordinary", [](py::handle object) {
    // For fills by the op, which a block of fastinit.batched sees too.
    return THPVariable_Check(object.ptr()) &&
           is_ordinary(THPVariable_Unpack(object.ptr()), c10::DispatchKeySet(batched::kKey));
  });
  m.def("children", children);
  m.def("products_are_reduced", [](const at::Tensor& tensor) { return products_are_reduced(tensor.device()); });
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
  batched::bind(m);
}

}  // namespace fastinit
