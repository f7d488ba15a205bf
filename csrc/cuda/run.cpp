#include "run.h"

#include <cuda_runtime_api.h>

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "../maths/philox.h"
#include "kernels.h"
#include "tables.h"

namespace fastinit {
namespace cuda {
namespace {

constexpr int64_t kMostBlocks = INT32_MAX;  // of one launch

int64_t ceiling(int64_t a, int64_t b) { return (a + b - 1) / b; }

template <class Table>
void launch(const Kernel& kernel, Table& table, int64_t blocks, cudaStream_t stream) {
  void* arguments[] = {&table};
  cudaError_t error = cudaLaunchKernel(reinterpret_cast<const void*>(kernel.function), dim3(blocks), dim3(kThreads),
                                       arguments, 0, stream);
  const cudaError_t last = cudaGetLastError();  // always, so that the next launch does not find this one's
  if (error == cudaSuccess) error = last;
  if (error != cudaSuccess) {
    throw std::runtime_error(std::string("launching the kernel ") + kernel.name +
                             " failed: " + cudaGetErrorString(error));
  }
}

// The tables that are being filled, one for each kernel. A table is launched when it is full, or at the end.
template <class Table>
class Tables {
 public:
  void add(const Kernel& kernel, const typename Table::Entry& tensor, int64_t blocks, cudaStream_t stream) {
    if (blocks > kMostBlocks) throw std::length_error("a tensor has more elements than one launch can fill");
    Open& open = open_[&kernel];
    if (open.table.count == Table::kMost || open.blocks + blocks > kMostBlocks) open.launch(kernel, stream);
    open.table.starts[open.table.count] = static_cast<uint32_t>(open.blocks);
    open.table.tensors[open.table.count++] = tensor;
    open.blocks += blocks;
  }
  void launch_all(cudaStream_t stream) {
    for (auto& [kernel, open] : open_) open.launch(*kernel, stream);
  }

 private:
  struct Open {
    Table table{};
    int64_t blocks = 0;

    void launch(const Kernel& kernel, cudaStream_t stream) {
      cuda::launch(kernel, table, blocks, stream);
      table.count = 0, blocks = 0;
    }
  };
  std::map<const Kernel*, Open> open_;
};

PhiloxKeys keys_of(uint64_t seed) {
  PhiloxKeys keys;
  for (uint32_t r = 0; r < kPhiloxRounds; ++r) {
    keys.k0[r] = static_cast<uint32_t>(seed) + kPhiloxW0 * r;
    keys.k1[r] = static_cast<uint32_t>(seed >> 32) + kPhiloxW1 * r;
  }
  return keys;
}

template <class T>
DrawnNumbers<T> numbers_of(const FillJob& job) {
  auto in_type = [](double x) { return static_cast<T>(x); };
  DrawnNumbers<T> numbers{};
  switch (job.law) {
    case Law::kUniform: {
      const UniformNumbers& n = job.numbers.uniform;
      numbers.uniform = {in_type(n.span), in_type(n.low), in_type(n.high)};
      break;
    }
    case Law::kNormal:
      numbers.normal = {in_type(job.numbers.normal.mean), in_type(job.numbers.normal.std)};
      break;
    default: {
      const TruncNormalNumbers& n = job.numbers.trunc_normal;
      numbers.trunc_normal = {in_type(n.width), in_type(n.lower), in_type(n.upper), in_type(n.mean),
                              in_type(n.std),   in_type(n.low),   in_type(n.high),  n.mirrored};
    }
  }
  return numbers;
}

// What a value that is zero becomes where a bound of the law is zero. On the CPU, min and max return their second
// argument if both are zero: the upper bound, and then the lower one.
struct ZeroBound {
  bool exists;
  double value;
};

ZeroBound zero_bound(const FillJob& job) {
  if (job.law == Law::kNormal) return {false, 0.0};
  if (job.law == Law::kUniform) return {job.numbers.uniform.high == 0, job.numbers.uniform.high};
  const TruncNormalNumbers& n = job.numbers.trunc_normal;
  return {n.low == 0 || n.high == 0, n.low == 0 ? n.low : n.high};
}

// The same ones, in groups of which one ends before the next begins, as kernels look for them: a group of one each, or
// groups that lie between one another (of a tensor whose memory is in another order), change places with their members.
DiagonalNumbers in_turn(DiagonalNumbers d) {
  if (d.count == 1 || (d.groups != 1 && d.group_step < d.step)) {
    std::swap(d.step, d.group_step);
    std::swap(d.count, d.groups);
  }
  if (d.groups == 1) d.group_step = INT64_MAX;
  return d;
}

// Values that one Philox block serves.
int64_t values_a_block(DType dtype) { return dtype == DType::kFloat64 ? 2 : 4; }

// Bytes before the first vector.
int64_t head_bytes(const void* data) {
  return static_cast<int64_t>(-reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(kVector));
}

const Kernel& dense_kernel(const FillJob& job) {
  const size_t type = static_cast<size_t>(job.dtype);
  return job.law == Law::kUniform  ? kDenseUniform[type]
         : job.law == Law::kNormal ? kDenseNormal[type]
                                   : kDenseTruncNormal[type];
}

const Kernel& general_kernel(const FillJob& job) {
  const bool is_double = job.dtype == DType::kFloat64;
  switch (job.law) {
    case Law::kUniform:
      return is_double ? kGeneralUniform64 : kGeneralUniform;
    case Law::kNormal:
      return is_double ? kGeneralNormal64 : kGeneralNormal;
    case Law::kTruncNormal:
      return is_double ? kGeneralTruncNormal64 : kGeneralTruncNormal;
    default:
      return kGeneralTruncNormalTail;
  }
}

// A tensor's elements as rows: runs of consecutive numbers along the dimension that is nearest in memory, if they are
// consecutive there, else elements.
Rows rows_of(const FillJob& job, const Dim* dims, int32_t count, int64_t per_block) {
  Rows rows{};
  rows.data = static_cast<char*>(job.data);
  rows.first_index = job.first_index;
  rows.dtype = job.dtype;
  rows.length = count == 0 ? job.elements : 1, rows.stride = 1;
  if (count > 0 && per_block > 1 && dims[count - 1].index_stride == 1) {
    rows.length = dims[count - 1].size, rows.stride = dims[count - 1].stride;
    --count;
  }
  rows.count_dims = count;
  rows.groups = (rows.length + 2 * (per_block - 1)) / per_block;  // with the ends of the row in blocks of their own
  rows.units = rows.groups;
  for (int32_t d = 0; d < count; ++d) {
    rows.dims[d] = dims[d];
    rows.units *= dims[d].size;
  }
  return rows;
}

// `then` for the job, or for the parts of it that have no more dimensions than a table has room for.
template <class Then>
void in_few_dims(const FillJob& job, const Dim* dims, int32_t count, const Then& then) {
  if (count <= kMostDims) return then(job, dims, count);
  for (int64_t i = 0; i < dims[0].size; ++i) {
    FillJob part = job;
    part.data = static_cast<char*>(job.data) + i * dims[0].stride * item_size(job.dtype);
    part.first_index += static_cast<uint64_t>(i * dims[0].index_stride);
    in_few_dims(part, dims + 1, count - 1, then);
  }
}

class Launches {
 public:
  Launches(const FillPlan& plan, cudaStream_t stream) : plan_(plan), stream_(stream) {}

  void run() {
    for (const FillJob& job : plan_.jobs) {
      if (job.law == Law::kConstant || job.law == Law::kDiagonal) {
        add_pattern(job);
      } else if (job.dtype == DType::kFloat64) {
        add(job, doubles_);
      } else {
        add(job, floats_);
      }
    }
    floats_.launch_all(stream_);
    doubles_.launch_all(stream_);
    patterns_.launch_all(stream_);
    general_patterns_.launch_all(stream_);
  }

 private:
  template <class T>
  struct Drawn {
    using Type = T;
    Tables<DenseTable<T>> dense;
    Tables<GeneralTable<T>> general;
    Tables<SparseTable<T>> sparse;

    void launch_all(cudaStream_t stream) {
      dense.launch_all(stream);
      general.launch_all(stream);
      sparse.launch_all(stream);
    }
  };

  const Dim* dims_of(const FillJob& job) const { return plan_.dims.data() + job.first_dim; }

  template <class T>
  void add(const FillJob& job, Drawn<T>& tables) {
    if (job.law == Law::kSparse) return add_sparse(job, tables);
    const ZeroBound zero = zero_bound(job);
    const DrawnNumbers<T> numbers = numbers_of<T>(job);
    const PhiloxKeys keys = keys_of(job.seed);
    if (job.dims == 0 && job.law != Law::kTruncNormalTail && !zero.exists) {
      // Counted from the chunk that the first element is in: sums of the numbers as they are may not fit in 64 bits.
      const uint64_t chunks = job.first_index / kChunk, blocks = chunks * (kChunk / values_a_block(job.dtype));
      const int64_t first = static_cast<int64_t>(job.first_index % kChunk), end = first + job.elements;
      return tables.dense.add(dense_kernel(job),
                              {static_cast<char*>(job.data), first, end, job.offset + blocks, numbers, keys},
                              ceiling(end, kChunk), stream_);
    }
    in_few_dims(job, dims_of(job), job.dims, [&](const FillJob& part, const Dim* dims, int32_t count) {
      const Rows rows = rows_of(part, dims, count, values_a_block(job.dtype));
      tables.general.add(general_kernel(job),
                         {rows, job.offset, numbers, static_cast<T>(zero.value), zero.exists, keys},
                         ceiling(rows.units, kUnits), stream_);
    });
  }

  template <class T>
  void add_sparse(const FillJob& job, Drawn<T>& tables) {
    const SparseColumns& columns = *job.numbers.sparse.columns;
    const int64_t first = static_cast<int64_t>(job.first_index);
    SparseTensor<T> tensor{};
    tensor.data = static_cast<char*>(job.data);
    tensor.offset = job.offset;
    tensor.rows = columns.rows, tensor.columns = columns.columns, tensor.zeros = columns.zeros;
    tensor.first = columns.first, tensor.count = columns.count;
    tensor.first_row = first / columns.columns, tensor.count_rows = job.elements / columns.count;
    tensor.row_stride = columns.count, tensor.column_stride = 1;
    for (int32_t d = 0; d < job.dims; ++d) {
      const Dim& dim = dims_of(job)[d];
      if (dim.index_stride != 1) {
        tensor.row_stride = dim.stride;
      } else {  // along a row, or if it is longer than one, along all of them
        tensor.column_stride = dim.stride;
        if (dim.size > columns.count) tensor.row_stride = columns.count * dim.stride;
      }
    }
    tensor.normal = {static_cast<T>(job.numbers.sparse.normal.mean), static_cast<T>(job.numbers.sparse.normal.std)};
    tensor.smallest = smallest_number(job.dtype);
    tensor.dtype = job.dtype;
    tensor.keys = keys_of(job.seed);
    tables.sparse.add(sizeof(T) == 4 ? kSparse : kSparse64, tensor, ceiling(columns.count, kSparseColumns), stream_);
  }

  void add_pattern(const FillJob& job) {
    const int64_t item = item_size(job.dtype);
    const bool is_constant = job.law == Law::kConstant;
    const DiagonalNumbers diagonal = is_constant ? DiagonalNumbers{} : in_turn(job.numbers.diagonal);
    uint64_t pattern = is_constant ? job.numbers.pattern : 0;
    for (int64_t width = item; width < 8; width *= 2) pattern |= pattern << (8 * width);
    if (job.dims == 0) {
      const PatternTensor tensor{
          static_cast<char*>(job.data), static_cast<int64_t>(job.first_index), job.elements, pattern, diagonal,
          static_cast<int32_t>(item)};
      const int64_t bytes = job.elements * item;
      const int64_t vectors = (bytes - std::min(head_bytes(job.data), bytes)) / kVector;
      return patterns_.add(is_constant ? kDenseConstant : kDenseDiagonal, tensor,
                           std::max<int64_t>(1, ceiling(vectors, kPatternVectors)), stream_);
    }
    in_few_dims(job, dims_of(job), job.dims, [&](const FillJob& part, const Dim* dims, int32_t count) {
      const Rows rows = rows_of(part, dims, count, 1);
      general_patterns_.add(kGeneralPattern, {rows, pattern, diagonal}, ceiling(rows.units, kUnits), stream_);
    });
  }

  const FillPlan& plan_;
  cudaStream_t stream_;
  Drawn<float> floats_;
  Drawn<double> doubles_;
  Tables<PatternTable> patterns_;
  Tables<GeneralPatternTable> general_patterns_;
};

}  // namespace
}  // namespace cuda

void fill_on_device(const FillPlan& plan, void* stream) {
  cuda::Launches(plan, static_cast<cudaStream_t>(stream)).run();
}

}  // namespace fastinit
