// Memory for new tensors: large ones in huge pages, where the first write of each page costs a quarter as much.
#pragma once

#include <ATen/core/Tensor.h>

namespace fastinit {

// A CPU tensor with a storage of its own, which holds nothing yet: as at::empty_strided makes it, but for where it
// lies.
at::Tensor new_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype);

// The same of a tensor that is large enough for huge pages; of others, and where there is no memory, an undefined one.
at::Tensor new_huge_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype);

// Whether the memory is of such a tensor.
bool is_huge(const c10::DataPtr& data);

// A tensor in a storage: `offset` counts elements.
at::Tensor tensor_in(c10::Storage storage, at::ScalarType dtype, at::IntArrayRef sizes, at::IntArrayRef strides,
                     int64_t offset);

}  // namespace fastinit
