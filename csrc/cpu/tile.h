// How a strided tensor is cut into tiles. A tile spans two dimensions: `run`, along which the logical index grows by
// the least, so that values are made in long runs; and `row`, along which memory is nearest, so that whole cache lines
// are written, whatever the layout (transposed, channels last, sliced, a shard).
#pragma once

#include <algorithm>

#include "../plan.h"

namespace fastinit {

struct Tiling {
  static constexpr int64_t kBytes = 16 * 1024;  // a tile's values, half of a first-level cache
  static constexpr int64_t kCacheLine = 64;

  const Dim* dims;
  int32_t count_dims, run, row;  // `row` is -1 for a tensor of one dimension
  int64_t run_length, rows;      // of a full tile

  Tiling(const Dim* d, int32_t n, int64_t item) : dims(d), count_dims(n), run(0), row(-1), rows(1) {
    for (int32_t i = 1; i < n; ++i) {
      if (d[i].index_stride <= d[run].index_stride) run = i;
    }
    const int32_t nearest = n - 1;  // smallest memory stride
    if (run != nearest) {
      row = nearest;
      rows = std::min(d[row].size, kCacheLine / item);
      run_length = std::min(d[run].size, kBytes / item / rows);
    } else {
      run_length = std::min(d[run].size, kBytes / item);
      for (int32_t i = 0; i < n; ++i) {  // rows that follow one another in the logical order
        if (i != run && (row < 0 || d[i].index_stride < d[row].index_stride)) row = i;
      }
      if (row >= 0) rows = std::min(d[row].size, std::max<int64_t>(1, kBytes / item / run_length));
    }
  }

  int64_t elements() const { return run_length * rows; }

  // Tiles along dimension i.
  int64_t along(int32_t i) const {
    const int64_t step = i == run ? run_length : i == row ? rows : 1;
    return (dims[i].size + step - 1) / step;
  }
  int64_t count() const {
    int64_t n = 1;
    for (int32_t i = 0; i < count_dims; ++i) n *= along(i);
    return n;
  }
};

}  // namespace fastinit
