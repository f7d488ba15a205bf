#include "torch_sparse.h"

#include <algorithm>
#include <vector>

#include "cpu/isa.h"

namespace fastinit {
namespace {

constexpr int64_t kLeastPart = int64_t{1} << 17;  // elements that are worth another thread
constexpr int64_t kBlock = 32;                    // columns, whose marks are bits of one word for each row

// run(begin, end) for parts of [0, units), as many as the elements are worth.
template <class Run>
void in_parts(int64_t units, int64_t elements, const Workers& workers, const Run& run) {
  const int64_t parts = std::min({std::max<int64_t>(elements / kLeastPart, 1), units, int64_t{workers.threads}});
  workers.run(parts, [&](int64_t part) { run(units * part / parts, units * (part + 1) / parts); });
}

}  // namespace

void torch_sparse(const Matrix& matrix, int item, int64_t zeros, Mt19937& engine, const Workers& workers) {
  const int64_t rows = matrix.rows, columns = matrix.columns, words = rows - 1, elements = rows * columns;
  if (zeros == 0) return engine.discard(columns * words);
  const int64_t blocks = (columns + kBlock - 1) / kBlock;
  const int64_t chosen = std::min(zeros, words);  // the permutation's last place takes no step
  std::vector<uint32_t> marks(blocks * rows), reciprocals(chosen + kPlacesRoom);
  for (int64_t i = 0; i < chosen; ++i) reciprocals[i] = ~uint32_t{0} / static_cast<uint32_t>(rows - i);
  const ChosenRows law{rows, chosen, reciprocals.data()};
  const Mt19937 start = engine;
  in_parts(blocks, elements, workers, [&](int64_t begin, int64_t end) {
    std::vector<uint32_t> places(2 * reciprocals.size());
    Mt19937 state = start;
    state.discard(begin * kBlock * words);
    for (int64_t block = begin; block < end; ++block) {
      uint32_t* marks_of_block = marks.data() + block * rows;
      isa().torch.choose_rows(state, law, places.data(), marks_of_block, std::min(kBlock, columns - block * kBlock));
    }
    if (end == blocks) engine = state;
  });
  if (zeros == rows) std::fill(marks.begin(), marks.end(), ~uint32_t{0});
  if (matrix.column_stride > matrix.row_stride) {
    in_parts(blocks, elements, workers, [&](int64_t begin, int64_t end) {
      Matrix part = matrix;
      part.data += begin * kBlock * matrix.column_stride * item;
      part.columns = std::min(end * kBlock, columns) - begin * kBlock;
      isa().torch.clear(part, item, marks.data() + begin * rows, rows);
    });
  } else {
    in_parts(rows, elements, workers, [&](int64_t begin, int64_t end) {
      Matrix part = matrix;
      part.data += begin * matrix.row_stride * item;
      part.rows = end - begin;
      isa().torch.clear(part, item, marks.data() + begin, rows);
    });
  }
}

}  // namespace fastinit
