// The tables that kernels take by value: for each of many tensors where it lies, which numbers it gets, and the block
// of threads that begins with it. Plain structs for host and device, each less than the 4 KiB of a kernel's parameters.
#pragma once

#include <cstdint>

#include "../dim.h"
#include "../maths/numbers.h"

namespace fastinit::cuda {

inline constexpr uint32_t kThreads = 256;                 // of every kernel's blocks
inline constexpr int64_t kChunk = 16 * 1024;              // elements of a dense tensor that one block fills
inline constexpr int64_t kUnits = 16 * kThreads;          // units of a general tensor that one block fills
inline constexpr int64_t kVector = 16;                    // bytes of the widest store
inline constexpr int64_t kPatternVectors = 4 * kThreads;  // of constants that one block stores
inline constexpr int kMostDims = 6;                       // of a general tensor, beside its run
inline constexpr int kSparseColumns = 8;                  // that one block selects and fills
inline constexpr int64_t kMostParameters = 4096;          // bytes of a kernel's parameters

struct PhiloxKeys {
  uint32_t k0[10], k1[10];  // of each round
};

template <class T>
union DrawnNumbers {
  UniformOf<T> uniform;
  NormalOf<T> normal;
  TruncNormalOf<T> trunc_normal;
};

// Up to kMost tensors; `starts` holds the first block of threads of each.
template <class Tensor, int kMostTensors>
struct Table {
  static constexpr int kMost = kMostTensors;
  using Entry = Tensor;

  int32_t count;
  uint32_t starts[kMost];
  Tensor tensors[kMost];
};

// Elements first .. end of a dense tensor, counted from one whose number in the stream is a multiple of kChunk, so that
// its chunks begin with Philox blocks; whether their vectors are aligned in memory is the same for all. first < kChunk.
template <class T>
struct DenseTensor {
  char* data;  // of element `first`; a pointer, which the compiler takes for one to global memory
  int64_t first, end;
  uint64_t offset;  // number of the Philox block of element 0
  DrawnNumbers<T> numbers;
  PhiloxKeys keys;
};

// Any layout: `rows` runs of `length` elements with consecutive numbers in the stream. A unit of work is the part of a
// run that one Philox block serves; there are `groups` to a run, of which the last may be empty. The rows lie at the
// coordinates of `dims`, the innermost last. Strides are in elements.
struct Rows {
  char* data;
  uint64_t first_index;
  int64_t length, stride, groups, units;
  int32_t count_dims;
  DType dtype;
  Dim dims[kMostDims];
};

template <class T>
struct GeneralTensor {
  Rows rows;
  uint64_t offset;
  DrawnNumbers<T> numbers;
  T zero;  // what a value that is zero becomes, where a bound of the law is zero: +0 or -0
  bool settles_zero;
  PhiloxKeys keys;
};

// The same bytes in each element, or (DiagonalNumbers) ones on diagonals and zeros elsewhere.
struct PatternTensor {
  char* data;  // of element first_index
  int64_t first_index, elements;
  uint64_t pattern;          // an element's bytes, repeated to eight
  DiagonalNumbers diagonal;  // of no groups: a constant
  int32_t item;
};

// Rows of one element.
struct GeneralPattern {
  Rows rows;
  uint64_t pattern;
  DiagonalNumbers diagonal;
};

// Rows first_row .. first_row + count_rows of columns first .. first + count of a sparse matrix.
template <class T>
struct SparseTensor {
  char* data;
  uint64_t offset;
  int64_t rows, columns, zeros, first, count, first_row, count_rows, row_stride, column_stride;
  NormalOf<T> normal;
  uint64_t smallest;  // the bytes that a number which is zero by chance becomes
  DType dtype;
  PhiloxKeys keys;
};

template <class T>
using DenseTable = Table<DenseTensor<T>, sizeof(T) == 4 ? 27 : 22>;
template <class T>
using GeneralTable = Table<GeneralTensor<T>, sizeof(T) == 4 ? 11 : 10>;
using PatternTable = Table<PatternTensor, 40>;
using GeneralPatternTable = Table<GeneralPattern, 14>;
template <class T>
using SparseTable = Table<SparseTensor<T>, 18>;

static_assert(sizeof(DenseTable<float>) <= kMostParameters && sizeof(DenseTable<double>) <= kMostParameters);
static_assert(sizeof(GeneralTable<float>) <= kMostParameters && sizeof(GeneralTable<double>) <= kMostParameters);
static_assert(sizeof(PatternTable) <= kMostParameters && sizeof(GeneralPatternTable) <= kMostParameters);
static_assert(sizeof(SparseTable<float>) <= kMostParameters && sizeof(SparseTable<double>) <= kMostParameters);

}  // namespace fastinit::cuda
