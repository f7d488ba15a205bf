// Sparse matrices: of each column, the elements with the smallest draws of the key's second stream become zero
// (sparse.h), the others normal numbers. A block of threads has a few columns and needs no memory but its own: it finds
// the limit of each column by radix selection, drawing the numbers anew in each pass, and then writes them.
#include "../maths/normal.h"
#include "device.h"
#include "philox.h"
#include "stores.h"

namespace fastinit::cuda {

// What is selected by, a different number for each element of a column: the draw's high 31 bits, then the row.
constexpr int kRowBits = 31, kKeyBits = 62;
constexpr int kDigitBits = 8, kDigits = 1 << kDigitBits, kParts = 16;  // of a digit's counts, to be summed side by side

struct Selection {
  uint32_t counts[kSparseColumns][kDigits], sums[kSparseColumns][kParts];
  uint64_t prefix[kSparseColumns];  // the digits found so far
  uint64_t limit[kSparseColumns];   // once found: elements with a smaller key are zero
  uint32_t wanted[kSparseColumns];  // of the elements that begin with the prefix; 0 once the limit is found
};

FASTINIT_INLINE uint64_t key_of(uint32_t word, int64_t row) {
  return static_cast<uint64_t>(word >> 1) << kRowBits | static_cast<uint64_t>(row);
}

// see(block, lane, column) for each element of the columns in a row whose first element has this index: element `lane`
// of the Philox block number `block`, which prepare(block) precedes.
template <class Prepare, class See>
FASTINIT_DEVICE void for_each_column(uint64_t index, int columns, const Prepare& prepare, const See& see) {
  constexpr int kMostBlocks = (kSparseColumns + 6) / 4;
#pragma unroll 1
  for (int b = 0; b < kMostBlocks; ++b) {
    const uint64_t block = index / 4 + static_cast<uint64_t>(b);
    const int64_t first = static_cast<int64_t>(block * 4 - index);  // column of the block's first element
    if (first >= columns) break;
    const auto of_block = prepare(block);
    FASTINIT_UNROLL
    for (int lane = 0; lane < 4; ++lane) {
      const int64_t column = first + lane;
      if (column >= 0 && column < columns) see(of_block, lane, static_cast<int>(column));
    }
  }
}

struct Words {
  Int even, odd;

  FASTINIT_INLINE uint32_t operator[](int lane) const {
    return lane == 0 ? even.low : lane == 1 ? odd.low : lane == 2 ? even.high : odd.high;
  }
};

template <class T>
FASTINIT_INLINE Words draws_of(const SparseTensor<T>& tensor, uint64_t block) {
  Words words;
  draw_block<1>(tensor.keys, tensor.offset + block, words.even, words.odd);
  return words;
}

// Counts, for each column, the digits after the prefix among the elements that begin with it.
template <class T>
FASTINIT_DEVICE void count_digits(const SparseTensor<T>& tensor, int64_t column, int columns, int shift, int bits,
                                  Selection& s) {
  for (int i = threadIdx.x; i < kSparseColumns * kDigits; i += kThreads) s.counts[i / kDigits][i % kDigits] = 0;
  __syncthreads();
#pragma unroll 1
  for (int64_t row = threadIdx.x; row < tensor.rows; row += kThreads) {
    for_each_column(
        static_cast<uint64_t>(row * tensor.columns + column), columns,
        [&](uint64_t block) { return draws_of(tensor, block); },
        [&](const Words& words, int lane, int c) {
          const uint64_t key = key_of(words[lane], row);
          if (s.wanted[c] == 0 || key >> (shift + bits) != s.prefix[c]) return;
          atomicAdd(&s.counts[c][(key >> shift) & (kDigits - 1) >> (kDigitBits - bits)], 1u);
        });
  }
  __syncthreads();
}

// Appends to the column's prefix the digit of the last element that is wanted.
FASTINIT_INLINE void find_digit(int c, int shift, int bits, Selection& s) {
  constexpr int kPart = kDigits / kParts;
  uint32_t below = 0;
  int part = 0;
  while (below + s.sums[c][part] < s.wanted[c]) below += s.sums[c][part++];
  int digit = part * kPart;
  while (below + s.counts[c][digit] < s.wanted[c]) below += s.counts[c][digit++];
  s.wanted[c] -= below;
  s.prefix[c] = s.prefix[c] << bits | static_cast<uint64_t>(digit);
  if (s.counts[c][digit] == s.wanted[c]) {  // all that begin so
    s.limit[c] = (s.prefix[c] + 1) << shift;
    s.wanted[c] = 0;
  }
}

FASTINIT_INLINE bool is_done(const Selection& s) {
  bool done = true;
  for (int c = 0; c < kSparseColumns; ++c) done = done && s.wanted[c] == 0;
  return done;
}

template <class T>
FASTINIT_DEVICE void select(const SparseTensor<T>& tensor, int64_t column, int columns, Selection& s) {
  if (threadIdx.x < kSparseColumns) {
    s.prefix[threadIdx.x] = 0, s.limit[threadIdx.x] = 0;
    s.wanted[threadIdx.x] = static_cast<int>(threadIdx.x) < columns ? static_cast<uint32_t>(tensor.zeros) : 0;
  }
  __syncthreads();
  int shift = kKeyBits;
#pragma unroll 1
  while (!is_done(s)) {
    const int bits = shift < kDigitBits ? shift : kDigitBits;
    shift -= bits;
    count_digits(tensor, column, columns, shift, bits, s);
    if (threadIdx.x < kSparseColumns * kParts) {
      const int c = threadIdx.x / kParts, part = threadIdx.x % kParts;
      uint32_t sum = 0;
      for (int i = 0; i < kDigits / kParts; ++i) sum += s.counts[c][part * (kDigits / kParts) + i];
      s.sums[c][part] = sum;
    }
    __syncthreads();
    if (threadIdx.x < kSparseColumns && s.wanted[threadIdx.x] != 0) find_digit(threadIdx.x, shift, bits, s);
    __syncthreads();
  }
}

// The bytes of the four elements that a block of draws belongs to.
struct Elements {
  Words draws;
  uint64_t bytes[4];
};

template <class Store>
FASTINIT_INLINE void set_bytes(Float even, Float odd, uint64_t* bytes) {
  uint32_t words[Store::kWords];
  Store::pack(even, odd, words);
  FASTINIT_UNROLL
  for (int j = 0; j < 4; ++j) bytes[j] = element_of<typename Store::Element>(words, j);
}

FASTINIT_INLINE void set_bytes(DType dtype, Float even, Float odd, uint64_t* bytes) {
  switch (dtype) {
    case DType::kBFloat16:
      return set_bytes<StoreBFloat16>(even, odd, bytes);
    case DType::kFloat16:
      return set_bytes<StoreFloat16>(even, odd, bytes);
    case DType::kFloat8E4M3FN:
      return set_bytes<StoreFloat8E4M3FN>(even, odd, bytes);
    case DType::kFloat8E5M2:
      return set_bytes<StoreFloat8E5M2>(even, odd, bytes);
    default:
      return set_bytes<StoreFloat32>(even, odd, bytes);
  }
}

template <class Law, class T>
FASTINIT_INLINE typename Law::State draw_values(const SparseTensor<T>& tensor, uint64_t block) {
  Int even, odd;
  draw_block(tensor.keys, tensor.offset + block, even, odd);
  return values_of(Law(tensor), even, odd);
}

FASTINIT_INLINE void set_values(const SparseTensor<float>& tensor, uint64_t block, Elements& all) {
  const auto state = draw_values<Normal<Lanes>>(tensor, block);
  set_bytes(tensor.dtype, state.even, state.odd, all.bytes);
}
FASTINIT_INLINE void set_values(const SparseTensor<double>& tensor, uint64_t block, Elements& all) {
  FASTINIT_UNROLL
  for (int half = 0; half < 2; ++half) {
    const auto state = draw_values<Normal64<Lanes>>(tensor, 2 * block + half);
    all.bytes[2 * half] = bits_of(state.even.v), all.bytes[2 * half + 1] = bits_of(state.odd.v);
  }
}

template <class T>
FASTINIT_DEVICE void fill_columns(const SparseTensor<T>& tensor, int64_t begin, int columns, const Selection& s) {
  const int32_t item = static_cast<int32_t>(item_size(tensor.dtype));
  const uint64_t magnitude = ~uint64_t{0} >> (65 - 8 * item);  // all bits but the sign
#pragma unroll 1
  for (int64_t r = threadIdx.x; r < tensor.count_rows; r += kThreads) {
    const int64_t row = tensor.first_row + r;
    char* const to = tensor.data + (r * tensor.row_stride + begin * tensor.column_stride) * item;
    for_each_column(
        static_cast<uint64_t>(row * tensor.columns + tensor.first + begin), columns,
        [&](uint64_t block) {
          Elements all;
          all.draws = draws_of(tensor, block);
          set_values(tensor, block, all);
          return all;
        },
        [&](const Elements& all, int lane, int c) {
          uint64_t bytes = (all.bytes[lane] & magnitude) == 0 ? tensor.smallest : all.bytes[lane];
          if (key_of(all.draws[lane], row) < s.limit[c]) bytes = 0;
          store_element(to + c * tensor.column_stride * item, bytes, item);
        });
  }
}

template <class T>
FASTINIT_DEVICE void fill_sparse(const SparseTable<T>& table, Selection& selection) {
  const int i = tensor_of_block(table);
  const SparseTensor<T>& tensor = table.tensors[i];
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.starts[i]) * kSparseColumns;
  const int64_t left = tensor.count - begin;
  const int columns = left < kSparseColumns ? static_cast<int>(left) : kSparseColumns;
  select(tensor, tensor.first + begin, columns, selection);
  fill_columns(tensor, begin, columns, selection);
}

FASTINIT_KERNEL(fastinit_sparse_float32, SparseTable<float>, kThreads, 2) {
  __shared__ Selection selection;
  fill_sparse(table, selection);
}
FASTINIT_KERNEL(fastinit_sparse_float64, SparseTable<double>, kThreads, 2) {
  __shared__ Selection selection;
  fill_sparse(table, selection);
}

}  // namespace fastinit::cuda
