// Runs chunks of a plan: finds the units of each job in the chunk and fills them, dense runs in place and strided
// tensors tile by tile.
#include <algorithm>
#include <cstring>

#include "float_environment.h"
#include "isa.h"
#include "tile.h"

namespace fastinit {
namespace {

int64_t ceiling(int64_t a, int64_t b) { return a / b + (a % b > 0); }  // of a / b, for b > 0

void fill_diagonal(const FillJob& job, char* out, int64_t first, int64_t count) {
  const DiagonalNumbers& n = job.numbers.diagonal;
  const int64_t item = item_size(job.dtype);
  FillJob zeros = job;
  zeros.law = Law::kConstant, zeros.numbers.pattern = 0;
  isa().fill(zeros, out, first, count);
  const int64_t begin = first - n.first, end = begin + count;  // counted from the first one of all
  const int64_t reach = n.step * (n.count - 1);
  const int64_t last_group = std::min(n.groups, ceiling(end, n.group_step));
  for (int64_t g = std::max<int64_t>(0, ceiling(begin - reach, n.group_step)); g < last_group; ++g) {
    const int64_t group = g * n.group_step, last = std::min(n.count, ceiling(end - group, n.step));
    for (int64_t i = std::max<int64_t>(0, ceiling(begin - group, n.step)); i < last; ++i) {
      std::memcpy(out + (group + i * n.step - begin) * item, &n.one, item);  // little-endian
    }
  }
}

// Elements first .. first + count of the job's stream into dense memory.
void fill_run(const FillJob& job, void* out, uint64_t first, int64_t count) {
  if (job.law != Law::kDiagonal) return isa().fill(job, out, first, count);
  fill_diagonal(job, static_cast<char*>(out), static_cast<int64_t>(first), count);
}

// values[row][i] to out + row row_stride + i run_stride, a cache line's worth of rows innermost.
template <class T>
void scatter(const char* values, char* out, const Dim& run, int64_t length, int64_t row_stride, int64_t rows) {
  const T* from = reinterpret_cast<const T*>(values);
  T* to = reinterpret_cast<T*>(out);
  for (int64_t i = 0; i < length; ++i) {
    for (int64_t r = 0; r < rows; ++r) to[i * run.stride + r * row_stride] = from[r * length + i];
  }
}

void fill_tile(const FillJob& job, const Tiling& tiling, int64_t tile) {
  const int64_t item = item_size(job.dtype);
  int64_t memory = 0, index = 0, length = 1, rows = 1;
  for (int32_t i = tiling.count_dims - 1; i >= 0; --i) {
    const Dim& d = tiling.dims[i];
    const int64_t n = tiling.along(i), step = i == tiling.run ? tiling.run_length : i == tiling.row ? tiling.rows : 1;
    const int64_t begin = tile % n * step, size = std::min(step, d.size - begin);
    tile /= n;
    memory += begin * d.stride;
    index += begin * d.index_stride;
    if (i == tiling.run) length = size;
    if (i == tiling.row) rows = size;
  }
  const Dim& run = tiling.dims[tiling.run];
  const Dim row = tiling.row < 0 ? Dim{1, 0, 0} : tiling.dims[tiling.row];
  char* out = static_cast<char*>(job.data) + memory * item;
  const uint64_t first = job.first_index + static_cast<uint64_t>(index);

  const bool one_stream = run.index_stride == 1 && row.index_stride == length;      // rows follow one another in it
  if (run.stride == 1 && run.index_stride == 1 && (length >= 64 || !one_stream)) {  // long rows, dense in memory
    for (int64_t r = 0; r < rows; ++r) fill_run(job, out + r * row.stride * item, first + r * row.index_stride, length);
    return;
  }
  alignas(64) char values[Tiling::kBytes];
  if (one_stream) {
    fill_run(job, values, first, rows * length);
  } else {
    for (int64_t r = 0; r < rows; ++r) {
      char* to = values + r * length * item;
      const uint64_t from = first + r * row.index_stride;
      if (run.index_stride == 1) {
        fill_run(job, to, from, length);
      } else {
        for (int64_t i = 0; i < length; ++i) fill_run(job, to + i * item, from + i * run.index_stride, 1);
      }
    }
  }
  switch (item) {
    case 1:
      return scatter<uint8_t>(values, out, run, length, row.stride, rows);
    case 2:
      return scatter<uint16_t>(values, out, run, length, row.stride, rows);
    case 4:
      return scatter<uint32_t>(values, out, run, length, row.stride, rows);
    default:
      return scatter<uint64_t>(values, out, run, length, row.stride, rows);
  }
}

void run_units(const FillPlan& plan, const FillJob& job, int64_t begin, int64_t end) {
  if (job.dims == 0) {
    const int64_t first = begin * job.unit_elements, last = std::min(end * job.unit_elements, job.elements);
    char* out = static_cast<char*>(job.data) + first * item_size(job.dtype);
    return fill_run(job, out, job.first_index + first, last - first);
  }
  const Tiling tiling(plan.dims.data() + job.first_dim, job.dims, item_size(job.dtype));
  for (int64_t tile = begin; tile < end; ++tile) fill_tile(job, tiling, tile);
}

}  // namespace

void run_chunk(const FillPlan& plan, int64_t chunk) {
  const DefaultFloatEnvironment environment;
  const int64_t begin = chunk * plan.chunk_elements, end = begin + plan.chunk_elements;
  // Units that start within [begin, end): each unit of the plan is in one chunk.
  auto unit_at = [](int64_t distance, const FillJob& job) {
    return std::clamp<int64_t>((distance + job.unit_elements - 1) / job.unit_elements, 0, job.units);
  };
  auto next = std::upper_bound(plan.starts.begin(), plan.starts.end(), begin);
  for (size_t j = next - plan.starts.begin() - 1; j < plan.jobs.size() && plan.starts[j] < end; ++j) {
    const FillJob& job = plan.jobs[j];
    const int64_t first = unit_at(begin - plan.starts[j], job), last = unit_at(end - plan.starts[j], job);
    if (first < last) run_units(plan, job, first, last);
  }
}

}  // namespace fastinit
