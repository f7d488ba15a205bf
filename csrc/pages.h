// Memory for new tensors: large ones in huge pages, where the first write of each page costs a quarter as much.
#pragma once

#include <ATen/core/Tensor.h>

namespace fastinit {

// A CPU tensor with a storage of its own, which holds nothing yet: as at::empty_strided makes it, but for where it
// lies.
at::Tensor new_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype);

}  // namespace fastinit
