// The op fastinit::fill_ from C++.
#pragma once

#include "jobs.h"

namespace fastinit {

// All that filling these tensors would raise, and nothing written.
void check_fill(const FillArguments& arguments);

// Fills them by the op, those of each device in one call.
void fill_by_op(const FillArguments& arguments);

}  // namespace fastinit
