// From a law's arguments to the numbers of its kernel, with every check that the law needs. Torch-free.
#pragma once

#include "maths/numbers.h"

namespace fastinit {

// Laws as the op's schema and the verdicts of the torch stream number them; fastinit/laws.py has the same order.
enum class LawCode : int64_t { kConstant, kUniform, kNormal, kTruncNormal, kEye, kDirac, kSparse, kOrthogonal };

// Each returns the law that the kernel runs (a truncated normal's depends on its window) and fills in `numbers`, or
// throws std::invalid_argument with a message that names the argument, what was given and what is allowed.
Law uniform_numbers(DType dtype, double a, double b, LawNumbers& numbers);
Law normal_numbers(DType dtype, double mean, double std, LawNumbers& numbers);
Law trunc_normal_numbers(DType dtype, double mean, double std, double a, double b, LawNumbers& numbers);

// The factor of an orthogonal matrix.
void check_gain(DType dtype, double gain);

const char* dtype_name(DType dtype);

}  // namespace fastinit
