// Which elements of a sparse matrix of the keyed stream are zero. Torch-free.
//
// Of each column the `zeros` elements with the smallest draws: the high 31 bits of the element's 32-bit word in the
// second stream of the key (counter word 2 is 1); of equal draws, that of the smaller row.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

namespace fastinit {

// Columns first .. first + count of a matrix of rows x columns elements.
struct SparseColumns {
  static constexpr int64_t kMostRows = INT32_MAX;

  uint64_t seed, offset;
  int64_t rows, columns, zeros;  // zeros < rows
  int64_t first, count;

  // Once all columns are selected: an element of column first + i is zero if its draw is at most limits[i], unless its
  // index is among `kept`, which is sorted.
  std::vector<int32_t> limits;
  std::vector<int64_t> kept;

  SparseColumns(uint64_t seed, uint64_t offset, int64_t rows, int64_t columns, int64_t zeros, int64_t first,
                int64_t count)
      : seed(seed), offset(offset), rows(rows), columns(columns), zeros(zeros), first(first), count(count) {}

  static int32_t draw(uint32_t word) { return static_cast<int32_t>(word >> 1); }

  // Finds the limits of columns first + begin .. first + end, and returns their part of `kept`. `deviations` is how far
  // from its expectation, in standard deviations, a limit is looked for first; it does not change what is found.
  std::vector<int64_t> select(int64_t begin, int64_t end, double deviations = 3.5);
};

// The work of selecting, in units for any threads.
class SparseSelection {
 public:
  SparseSelection(const std::vector<std::unique_ptr<SparseColumns>>& matrices, int threads);
  int64_t units() const { return static_cast<int64_t>(units_.size()); }
  void run(int64_t unit);
  void finish();  // once all units have run

 private:
  struct Unit {
    SparseColumns* columns;
    int64_t begin, end;
    std::vector<int64_t> kept;
  };
  std::vector<Unit> units_;
};

}  // namespace fastinit
