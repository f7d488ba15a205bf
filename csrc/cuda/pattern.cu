// Constants, and matrices and kernels of zeros with ones on their diagonals: elements whose bytes are known.
#include "device.h"
#include "rows.h"
#include "stores.h"

namespace fastinit::cuda {

FASTINIT_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// The smallest index of a one that is at least `index`, or INT64_MAX. One group of ones ends before the next begins:
// run.cpp sees to it.
FASTINIT_INLINE int64_t next_one(const DiagonalNumbers& d, int64_t index) {
  const int64_t from = index < d.first ? 0 : index - d.first;
  int64_t group = from / d.group_step;
  const uint64_t step = static_cast<uint64_t>(d.step);  // the sum below may need the 64th bit
  int64_t i = static_cast<int64_t>((static_cast<uint64_t>(from - group * d.group_step) + step - 1) / step);
  if (i >= d.count) ++group, i = 0;
  return group < d.groups ? d.first + group * d.group_step + i * d.step : INT64_MAX;
}

// Vectors of zeros with the ones that lie in them.
struct Ones {
  const PatternTensor& tensor;

  FASTINIT_INLINE Vector vector(int64_t element) const {
    const int per_vector = static_cast<int>(kVector) / tensor.item, per_half = per_vector / 2;
    const int64_t index = tensor.first_index + element;
    uint64_t halves[2] = {0, 0};
    for (int64_t one = next_one(tensor.diagonal, index); one - index < per_vector;) {
      const int at = static_cast<int>(one - index);
      if (at < per_half) {
        halves[0] |= tensor.diagonal.one << (at * 8 * tensor.item);
      } else {
        halves[1] |= tensor.diagonal.one << ((at - per_half) * 8 * tensor.item);
      }
      one = next_one(tensor.diagonal, one + 1);
    }
    return {static_cast<uint32_t>(halves[0]), static_cast<uint32_t>(halves[0] >> 32), static_cast<uint32_t>(halves[1]),
            static_cast<uint32_t>(halves[1] >> 32)};
  }
  FASTINIT_INLINE uint64_t element(int64_t element) const {
    const int64_t index = tensor.first_index + element;
    return next_one(tensor.diagonal, index) == index ? tensor.diagonal.one : 0;
  }
};

struct Constant {
  const PatternTensor& tensor;

  FASTINIT_INLINE Vector vector(int64_t) const {
    const uint32_t low = static_cast<uint32_t>(tensor.pattern), high = static_cast<uint32_t>(tensor.pattern >> 32);
    return {low, high, low, high};
  }
  FASTINIT_INLINE uint64_t element(int64_t) const { return tensor.pattern; }
};

// A block of threads fills kPatternVectors vectors of dense memory, the first block the elements before them too and
// the last one those behind them.
template <class Source>
FASTINIT_INLINE void fill_pattern(const PatternTable& table) {
  const int i = tensor_of_block(table);
  const PatternTensor& tensor = table.tensors[i];
  const Source source{tensor};
  const int64_t bytes = tensor.elements * tensor.item;
  const int64_t misaligned = static_cast<int64_t>(reinterpret_cast<uintptr_t>(tensor.data) % kVector);
  const int64_t head = least(misaligned == 0 ? 0 : kVector - misaligned, bytes);
  const int64_t vectors = (bytes - head) / kVector, tail = head + vectors * kVector;
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.starts[i]) * kPatternVectors;
  const int64_t end = least(begin + kPatternVectors, vectors);
#pragma unroll 1
  for (int64_t v = begin + threadIdx.x; v < end; v += kThreads) {
    const int64_t at = head + v * kVector;
    *reinterpret_cast<Vector*>(tensor.data + at) = source.vector(at / tensor.item);
  }
  // Fewer than a vector's elements on each side: the first threads have one each.
  const int64_t mine = static_cast<int64_t>(threadIdx.x) * tensor.item;
  if (begin == 0 && mine < head) store_element(tensor.data + mine, source.element(threadIdx.x), tensor.item);
  if (end == vectors && tail + mine < bytes) {
    store_element(tensor.data + tail + mine, source.element((tail + mine) / tensor.item), tensor.item);
  }
}

FASTINIT_KERNEL(fastinit_dense_constant, PatternTable, kThreads, 4) { fill_pattern<Constant>(table); }
FASTINIT_KERNEL(fastinit_dense_diagonal, PatternTable, kThreads, 2) { fill_pattern<Ones>(table); }

// Any layout, element by element in the order of memory.
FASTINIT_KERNEL(fastinit_general_pattern, GeneralPatternTable, kThreads, 4) {
  const int i = tensor_of_block(table);
  const GeneralPattern& tensor = table.tensors[i];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.starts[i]) * kUnits;
  const int64_t end = least(begin + kUnits, tensor.rows.units);
#pragma unroll 1
  for (int64_t unit = begin + threadIdx.x; unit < end; unit += kThreads) {
    const Place place = row_place(tensor.rows, unit);
    const int64_t index = static_cast<int64_t>(place.index);
    uint64_t bytes = tensor.pattern;
    if (tensor.diagonal.groups != 0) bytes = next_one(tensor.diagonal, index) == index ? tensor.diagonal.one : 0;
    const int32_t item = static_cast<int32_t>(item_size(tensor.rows.dtype));
    store_element(tensor.rows.data + place.memory * item, bytes, item);
  }
}

}  // namespace fastinit::cuda
