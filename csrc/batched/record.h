// Which calls are recorded, and how.
#pragma once

#include <string>

#include "block.h"

namespace fastinit::batched {

// Whether it is one of the operators that `record` knows.
bool records(const std::string& operator_name);

// Records the call and puts its result in place of its arguments, or returns false: then it is to run.
bool record(Block& block, const c10::OperatorHandle& op, torch::jit::Stack* stack);

// The same of fastinit::fill_.
bool record_native(Block& block, torch::jit::Stack* stack);

// Whether copying the source writes all of the tensor and reads none of it.
bool is_copy_over(const at::Tensor& tensor, const at::Tensor& source);

// Fills by a key: later, if it may wait, or at once. A wrong argument is an error now.
void fill_by_key(Block& block, const at::Tensor& tensor, KeyedDraw draw);

// Adds one to the tensor's version, where writes in place do.
void count_version(const at::Tensor& tensor);

}  // namespace fastinit::batched
