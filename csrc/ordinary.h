// Whether torch would write a tensor by its own CPU kernel, and nothing else has a say in it.
#pragma once

#include <ATen/core/Tensor.h>

namespace fastinit {

// A tensor with elements, each in memory of its own, that no dispatch mode, subclass, transform or inference mode
// watches over.
bool is_ordinary(const at::Tensor& tensor);

}  // namespace fastinit
