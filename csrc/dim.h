// One dimension of a tensor that is not one dense run: elements, memory step and step of the logical index.
#pragma once

#include <cstdint>

namespace fastinit {

struct Dim {
  int64_t size, stride, index_stride;
};

}  // namespace fastinit
