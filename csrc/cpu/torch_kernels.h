// The kernels of the torch stream for one instruction set. Each takes its words from a generator's state, which it
// leaves behind the last of them, and writes dense memory. Torch-free.
#pragma once

#include "../maths/numbers.h"
#include "../mt19937.h"

namespace fastinit {

// float32 and narrower types: values that equal `to` once they are rounded to the type, which those from `top` on do,
// become `from`.
struct TorchUniform {
  double from, to;
  float top;
};

// float32 and narrower types: values below `low` or above `high` are outside once they are rounded to the type.
struct TorchWindow {
  float low, high;
  bool rarely_left;  // hardly ever: worth a branch that is then foreseen
};

// The rows that torch.randperm(rows) puts on the first `chosen` < `rows` places.
struct ChosenRows {
  int64_t rows, chosen;
  const uint32_t* reciprocals;  // of rows, rows - 1, ...: (2^32 - 1) / divisor; `chosen`, and room for kPlacesRoom more
};

struct Matrix {
  char* data;
  int64_t rows, columns, row_stride, column_stride;  // elements
};

constexpr int64_t kPlacesRoom = 32;   // words; at least a register of any instruction set
constexpr int64_t kOutsideRoom = 96;  // elements; a multiple of those that any instruction set's kernels take at a time

struct TorchKernels {
  void (*skip)(Mt19937& state, uint64_t words);
  // One word an element; two for float64.
  void (*uniform)(Mt19937& state, DType dtype, const TorchUniform& law, void* out, int64_t count);

  // In float32 arithmetic, not for float64: 16 words for 16 elements, and for what is left over.
  void (*normal)(Mt19937& state, DType dtype, const NormalNumbers& law, void* out, int64_t count);
  // normal, with first, first + 1, ... as numbers of its elements, of which those outside go to `outside` (which has
  // room for all and kOutsideRoom more). Returns how many there are.
  int64_t (*normal_within)(Mt19937& state, DType dtype, const NormalNumbers& law, const TorchWindow& window, void* out,
                           int64_t count, uint32_t first, uint32_t* outside);
  // normal again for `count` elements, of which only those listed are written; the list becomes that of those which are
  // still outside. Returns how many there are.
  int64_t (*redraw)(Mt19937& state, DType dtype, const NormalNumbers& law, const TorchWindow& window, void* out,
                    int64_t count, uint32_t* outside, int64_t listed);

  // In float64 arithmetic, not for float64: four words for two elements; `count` is even.
  void (*serial_normal)(Mt19937& state, DType dtype, const NormalNumbers& law, void* out, int64_t count);

  // rows - 1 words a column, of at most 32: sets bit c of the marks (one word a row) of the rows chosen for column c.
  // `places`: memory for twice as many words as there are reciprocals.
  void (*choose_rows)(Mt19937& state, const ChosenRows& law, uint32_t* places, uint32_t* marks, int64_t columns);
  // Makes the marked elements, of `item` bytes, zero. Each 32 columns have their marks, `pitch` words apart.
  void (*clear)(const Matrix& matrix, int item, const uint32_t* marks, int64_t pitch);
};

// Two standard normal values from two uniform ones, as torch's serial kernel computes them by the C library.
struct NormalPair {
  double first, second;
};
NormalPair serial_normal_pair(double u1, double u2);
// The uniform value on [0, 1) of the 64-bit draw from two untempered words.
double uniform53(const uint32_t* words);

}  // namespace fastinit
