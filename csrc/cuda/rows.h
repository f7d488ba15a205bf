// Tensors of any layout as rows: where a unit of work lies, and which numbers of the stream it gets.
#pragma once

#include "tables.h"

namespace fastinit::cuda {

struct Place {
  int64_t memory;  // elements from the tensor's data on
  uint64_t index;  // in the stream
};

// The first element of row number `row`.
FASTINIT_INLINE Place row_place(const Rows& rows, int64_t row) {
  Place place{0, rows.first_index};
  uint64_t left = static_cast<uint64_t>(row);
#pragma unroll 1
  for (int d = rows.count_dims - 1; d >= 0; --d) {
    const Dim& dim = rows.dims[d];
    const uint64_t size = static_cast<uint64_t>(dim.size), above = left / size;
    const int64_t at = static_cast<int64_t>(left - above * size);
    place.memory += at * dim.stride;
    place.index += static_cast<uint64_t>(at * dim.index_stride);
    left = above;
  }
  return place;
}

}  // namespace fastinit::cuda
