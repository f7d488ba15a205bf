#include "jobs.h"

#include <c10/core/InferenceMode.h>

#include <cmath>

#include "cpu/float_environment.h"
#include "laws.h"
#include "sparse.h"
#include "tensor_layout.h"

namespace fastinit {
namespace {

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

// What a tensor is a part of: the whole's sizes, and where in it the part starts.
struct Place {
  at::DimVector sizes, start;
  bool is_whole;
};

Place place_of(const at::Tensor& tensor, const FillArguments& a, size_t& shard_position) {
  const size_t n = tensor.dim();
  if (a.shards.empty()) return {at::DimVector(tensor.sizes()), at::DimVector(n, 0), true};
  const at::IntArrayRef sizes = a.shards.slice(shard_position, n), start = a.shards.slice(shard_position + n, n);
  shard_position += 2 * n;
  int64_t elements = 1;
  for (size_t d = 0; d < n; ++d) {
    TORCH_CHECK_VALUE(start[d] >= 0 && tensor.size(d) <= sizes[d] && start[d] <= sizes[d] - tensor.size(d),
                      "the shard must lie within global_shape ", sizes, ", got offset ", start,
                      " and a tensor of shape ", tensor.sizes());
    TORCH_CHECK_VALUE(!__builtin_mul_overflow(elements, std::max<int64_t>(sizes[d], 1), &elements),
                      "global_shape must have fewer than 2^63 elements, got ", sizes);
  }
  return {at::DimVector(sizes), at::DimVector(start), tensor.sizes() == sizes};
}

// The tensor's dimensions with the step of the logical index in the whole, and the index of its first element.
std::vector<Dim> dims_of(const at::Tensor& tensor, const Place& place, uint64_t& first_index) {
  std::vector<Dim> dims(tensor.dim());
  int64_t index_stride = 1;
  first_index = 0;
  for (int64_t d = tensor.dim() - 1; d >= 0; --d) {
    dims[d] = {tensor.size(d), tensor.stride(d), index_stride};
    first_index += static_cast<uint64_t>(place.start[d]) * static_cast<uint64_t>(index_stride);
    index_stride *= std::max<int64_t>(place.sizes[d], 1);
  }
  return dims;
}

// The ones of torch.nn.init.eye_ and dirac_: for each group of first-dimension slices those with the same number
// within the group and along the second dimension, at the middle of all further dimensions.
DiagonalNumbers diagonal_of(const std::vector<Dim>& dims, at::IntArrayRef sizes, int64_t groups, uint64_t one) {
  const int64_t rows = sizes[0] / groups;
  // A dimension of one element may have any stride, and its step is never taken.
  const int64_t step = std::max<int64_t>(1, dims[0].index_stride + dims[1].index_stride);
  const int64_t group_step = std::max<int64_t>(1, rows * dims[0].index_stride);
  DiagonalNumbers n{one, 0, step, std::min(rows, sizes[1]), group_step, groups};
  for (size_t d = 2; d < dims.size(); ++d) n.first += sizes[d] / 2 * dims[d].index_stride;
  return n;
}

bool needs_shape(LawCode code) { return code > LawCode::kTruncNormal; }

// A number of the op that stands for a whole one.
int64_t whole_number(const char* name, double value, int64_t least, int64_t most) {
  TORCH_CHECK_VALUE(
      std::floor(value) == value && value >= static_cast<double>(least) && value <= static_cast<double>(most), name,
      " must be a whole number in [", least, ", ", most, "], got ", value);
  return static_cast<int64_t>(value);
}

int64_t groups_of(LawCode code, at::IntArrayRef sizes, const double* n) {
  if (code == LawCode::kEye) {
    TORCH_CHECK_VALUE(sizes.size() == 2, "Only tensors with 2 dimensions are supported");
    return 1;
  }
  TORCH_CHECK_VALUE(sizes.size() >= 3 && sizes.size() <= 5, "Only tensors with 3, 4, or 5 dimensions are supported");
  const int64_t groups = whole_number("groups", n[0], 1, std::max<int64_t>(sizes[0], 1));
  TORCH_CHECK_VALUE(sizes[0] % groups == 0, "dim 0 must be divisible by groups");
  return groups;
}

// The law that a kernel runs, and its numbers: all that does not depend on the tensor's memory.
Law kernel_law(LawCode code, DType dtype, at::IntArrayRef sizes, const double* n, LawNumbers& numbers) {
  switch (code) {
    case LawCode::kConstant:
      numbers.pattern = constant_pattern(dtype, n[0]);
      return Law::kConstant;
    case LawCode::kUniform:
      return uniform_numbers(dtype, n[0], n[1], numbers);
    case LawCode::kNormal:
      return normal_numbers(dtype, n[0], n[1], numbers);
    case LawCode::kTruncNormal:
      return trunc_normal_numbers(dtype, n[0], n[1], n[2], n[3], numbers);
    case LawCode::kEye:
    case LawCode::kDirac:
      groups_of(code, sizes, n);
      return Law::kDiagonal;
    case LawCode::kSparse: {
      TORCH_CHECK_VALUE(sizes.size() == 2, "Only tensors with 2 dimensions are supported");
      const int64_t zeros = whole_number("zeros", n[0], 0, sizes[0]);
      TORCH_CHECK_VALUE(sizes[0] <= SparseColumns::kMostRows, "sparse_ takes at most ", SparseColumns::kMostRows,
                        " rows, got ", sizes[0]);
      normal_numbers(dtype, 0.0, n[1], numbers);
      if (n[1] != 0 && zeros < sizes[0]) return Law::kSparse;
      numbers.pattern = 0;
      return Law::kConstant;
    }
    case LawCode::kOrthogonal: {
      TORCH_CHECK_VALUE(sizes.size() >= 2, "Only tensors with 2 or more dimensions are supported");
      check_gain(dtype, n[0]);
      int64_t bytes = sizeof(double);
      for (const int64_t size : sizes) {
        TORCH_CHECK_VALUE(!__builtin_mul_overflow(bytes, std::max<int64_t>(size, 1), &bytes),
                          "global_shape must have fewer than 2^60 elements, since a part of an orthogonal matrix is "
                          "computed with the whole, got ",
                          sizes);
      }
      return Law::kNormal;  // which its vectors follow
    }
  }
  TORCH_CHECK_VALUE(false, "laws must be in [0, 7], got ", static_cast<int64_t>(code));
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

void add_job(FillJobs& jobs, const FillArguments& a, size_t i, size_t& shard_position) {
  const at::Tensor& tensor = a.tensors[i];
  const LawCode code{a.laws[i]};
  const double* n = &a.numbers[i * kNumbers];
  FillJob job{};
  job.dtype = dtype_of(tensor);
  if (tensor.unsafeGetTensorImpl()->has_symbolic_sizes_strides()) {  // traced: shapes are checked when it runs
    shard_position += a.shards.empty() ? 0 : 2 * tensor.dim();
    if (!needs_shape(code)) kernel_law(code, job.dtype, {}, n, job.numbers);
    return;
  }
  const Place place = place_of(tensor, a, shard_position);
  job.law = kernel_law(code, job.dtype, place.sizes, n, job.numbers);
  job.seed = static_cast<uint64_t>(a.keys[2 * i]);
  job.offset = static_cast<uint64_t>(a.keys[2 * i + 1]);
  check_layout(tensor);
  if (tensor.numel() == 0 || tensor.is_meta()) return;
  job.data = tensor.mutable_data_ptr();
  TORCH_CHECK_VALUE(job.data != nullptr, "tensor must have memory, and its storage is empty");
  if (code == LawCode::kOrthogonal) {
    jobs.orthogonal.push_back({tensor, n[0], job.seed, job.offset, place.sizes, place.start});
    return;
  }
  if (job.law == Law::kSparse) {
    const double std = job.numbers.normal.std;
    jobs.plan.sparse.push_back(std::make_unique<SparseColumns>(job.seed, job.offset, place.sizes[0], place.sizes[1],
                                                               static_cast<int64_t>(n[0]), place.start[1],
                                                               tensor.size(1)));
    job.numbers.sparse = {{0.0, std}, jobs.plan.sparse.back().get()};
  }
  if (place.is_whole && tensor.is_contiguous() && job.law != Law::kDiagonal) {
    return jobs.plan.add(job, {{tensor.numel(), 1, 1}});
  }
  std::vector<Dim> dims = dims_of(tensor, place, job.first_index);
  const bool is_same_in_any_order = job.law == Law::kConstant || job.law == Law::kDiagonal;
  if (is_same_in_any_order && place.is_whole && tensor.is_non_overlapping_and_dense()) {
    for (Dim& d : dims) d.index_stride = d.stride;  // one dense run
  }
  if (job.law == Law::kDiagonal) {
    job.numbers.diagonal =
        diagonal_of(dims, place.sizes, groups_of(code, place.sizes, n), constant_pattern(job.dtype, 1.0));
  }
  jobs.plan.add(job, std::move(dims));
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

void check_counts(const FillArguments& a) {
  const size_t n = a.tensors.size();
  TORCH_CHECK_VALUE(a.laws.size() == n && a.numbers.size() == kNumbers * n && a.keys.size() == 2 * n,
                    "laws, numbers and keys must hold 1, 4 and 2 values for each of the ", n, " tensors, got ",
                    a.laws.size(), ", ", a.numbers.size(), " and ", a.keys.size());
  size_t places = 0;
  for (const at::Tensor& tensor : a.tensors) places += 2 * tensor.dim();
  TORCH_CHECK_VALUE(a.shards.empty() || a.shards.size() == places,
                    "shards must be empty or hold a shape and a start for each tensor, ", places, " numbers, got ",
                    a.shards.size());
}

}  // namespace

bool on_one_device(at::TensorList tensors) {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const at::Tensor& tensor) { return tensor.device() == tensors[0].device(); });
}

std::vector<DeviceArguments> split_by_device(const FillArguments& a) {
  check_counts(a);
  std::vector<DeviceArguments> all;
  size_t shard_position = 0;
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    const at::Tensor& tensor = a.tensors[i];
    auto own = std::find_if(all.begin(), all.end(), [&](const auto& each) { return each.device == tensor.device(); });
    if (own == all.end()) own = all.insert(own, {tensor.device(), {}, {}, {}, {}, {}});
    auto append = [](auto& to, auto from) { to.insert(to.end(), from.begin(), from.end()); };
    own->tensors.push_back(tensor);
    own->laws.push_back(a.laws[i]);
    append(own->numbers, a.numbers.slice(i * kNumbers, kNumbers));
    append(own->keys, a.keys.slice(2 * i, 2));
    if (a.shards.empty()) continue;
    append(own->shards, a.shards.slice(shard_position, 2 * tensor.dim()));
    shard_position += 2 * tensor.dim();
  }
  return all;
}

std::vector<FillJobs> make_jobs(const FillArguments& a) {
  check_counts(a);
  const size_t n = a.tensors.size();
  const DefaultFloatEnvironment environment;
  for (const at::Tensor& tensor : a.tensors) check_tensor(tensor, a.tensors[0].device());
  const bool in_turn = n > 1 && !a.tensors[0].is_meta() && may_overlap(a.tensors);
  std::vector<FillJobs> jobs(in_turn ? n : 1);
  for (FillJobs& each : jobs) each.plan.reserve(n / jobs.size());
  size_t shard_position = 0;
  for (size_t i = 0; i < n; ++i) {
    try {
      add_job(jobs[in_turn ? i : 0], a, i, shard_position);
    } catch (const std::invalid_argument& error) {
      TORCH_CHECK_VALUE(false, error.what());
    }
  }
  return jobs;
}

}  // namespace fastinit
