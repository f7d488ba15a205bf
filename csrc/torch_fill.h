// Fills of the torch stream: which words of the generator go to which elements of one tensor, and in how many parts.
// Torch-free.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "maths/numbers.h"
#include "mt19937.h"

namespace fastinit {

struct TorchGenerator {
  Mt19937 engine;
  std::optional<double> next_normal;  // the second of a pair, kept for the next serial draw
};

struct Axis {
  int64_t size, stride;  // elements
};

struct TorchTarget {
  char* data;
  DType dtype;  // float32, float64, bfloat16 or float16
  int64_t elements;
  std::vector<Axis> axes;  // in the order in which torch visits the elements, fastest first; none for dense memory
  bool in_blocks;          // normal values are drawn in blocks of 16, and not one after another
};

// Runs task 0, 1, ... of so many, on any threads.
struct Workers {
  int threads;
  std::function<void(int64_t tasks, const std::function<void(int64_t)>& run)> run;
};

void torch_uniform(const TorchTarget& target, double from, double to, TorchGenerator& generator,
                   const Workers& workers);
void torch_normal(const TorchTarget& target, const NormalNumbers& law, TorchGenerator& generator,
                  const Workers& workers);
// The generator as after such a fill, which is not made: of the target its size and type count, and not where it lies.
void skip_torch_uniform(const TorchTarget& target, TorchGenerator& generator);
void skip_torch_normal(const TorchTarget& target, TorchGenerator& generator);
// By rejection: all elements normal; then, until none is outside [a, b], normal values for all, of which those outside
// take theirs. For dense memory. Returns whether any element was outside at first.
bool torch_trunc_normal(const TorchTarget& target, const NormalNumbers& law, double a, double b,
                        TorchGenerator& generator, const Workers& workers);

}  // namespace fastinit
