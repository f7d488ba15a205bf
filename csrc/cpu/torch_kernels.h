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
};

// Two standard normal values from two uniform ones, as torch's serial kernel computes them by the C library.
struct NormalPair {
  double first, second;
};
NormalPair serial_normal_pair(double u1, double u2);
// The uniform value on [0, 1) of the 64-bit draw from two untempered words.
double uniform53(const uint32_t* words);

}  // namespace fastinit
