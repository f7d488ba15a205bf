// Checks which elements of a sparse matrix are zero against a sort of each column's draws, for every instruction set of
// this processor: long and short columns, parts of the columns, and limits that are looked for in far too small and far
// too large a window first. Prints one digest a matrix.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "../../csrc/cpu/isa.h"
#include "../../csrc/sparse.h"

namespace {

using namespace fastinit;

struct Case {
  int64_t rows, columns, zeros;
};

std::vector<uint32_t> words_of(const Case& m, uint64_t seed, uint64_t offset) {
  std::vector<uint32_t> words(m.rows * m.columns);
  FillJob job{};
  job.law = Law::kSparseDraws, job.seed = seed, job.offset = offset;
  kScalar.fill(job, words.data(), 0, static_cast<int64_t>(words.size()));
  return words;
}

std::vector<bool> zeros_by_sorting(const Case& m, const std::vector<uint32_t>& words) {
  std::vector<bool> zero(words.size());
  for (int64_t column = 0; column < m.columns; ++column) {
    std::vector<std::pair<int32_t, int64_t>> draws;
    for (int64_t row = 0; row < m.rows; ++row) {
      draws.emplace_back(SparseColumns::draw(words[row * m.columns + column]), row);
    }
    std::sort(draws.begin(), draws.end());
    for (int64_t i = 0; i < m.zeros; ++i) zero[draws[i].second * m.columns + column] = true;
  }
  return zero;
}

void check(const Case& m, const std::vector<uint32_t>& words, const std::vector<bool>& expected, uint64_t seed,
           uint64_t offset, int64_t first, int64_t count, int64_t width, double deviations) {
  SparseColumns columns(seed, offset, m.rows, m.columns, m.zeros, first, count);
  columns.limits.resize(count);
  for (int64_t i = 0; i < count; i += width) {
    const std::vector<int64_t> kept = columns.select(i, std::min(i + width, count), deviations);
    columns.kept.insert(columns.kept.end(), kept.begin(), kept.end());
  }
  for (int64_t i = 0; i < count; ++i) {
    for (int64_t row = 0; row < m.rows; ++row) {
      const int64_t index = row * m.columns + first + i;
      const bool is_kept = std::find(columns.kept.begin(), columns.kept.end(), index) != columns.kept.end();
      if ((SparseColumns::draw(words[index]) <= columns.limits[i] && !is_kept) != expected[index]) {
        std::fprintf(stderr, "FAILED: %s: row %lld of column %lld of a %lld x %lld matrix with %lld zeros a column\n",
                     isa().name, static_cast<long long>(row), static_cast<long long>(first + i),
                     static_cast<long long>(m.rows), static_cast<long long>(m.columns),
                     static_cast<long long>(m.zeros));
        std::exit(1);
      }
    }
  }
}

}  // namespace

int main() {
  int64_t checked = 0;
  const uint64_t seed = 0x0123456789ABCDEF, offset = 0xFFFFFFF0;
  for (const Case& m : {Case{2, 3, 1},
                        {7, 1, 3},
                        {5, 5000, 2},
                        {100, 37, 99},
                        {1000, 33, 1},
                        {1001, 19, 500},
                        {20000, 3, 18000},
                        {70000, 2, 7000},
                        {257, 300, 0}}) {
    const std::vector<uint32_t> words = words_of(m, seed, offset);
    const std::vector<bool> expected = zeros_by_sorting(m, words);
    for (const Isa& table : available_isas()) {
      use_isa(table.name);
      for (const double deviations : {3.5, 0.001, 0.5, 1e9}) {
        check(m, words, expected, seed, offset, 0, m.columns, m.columns, deviations);
        check(m, words, expected, seed, offset, m.columns / 3, m.columns - m.columns / 3, 16, deviations);
        checked += 2 * static_cast<int64_t>(words.size());
      }
    }
    uint64_t digest = 0xCBF29CE484222325;
    for (const bool bit : expected) digest = (digest ^ static_cast<uint64_t>(bit)) * 0x100000001B3;
    std::printf("%016llx %lld x %lld, %lld zeros\n", static_cast<unsigned long long>(digest),
                static_cast<long long>(m.rows), static_cast<long long>(m.columns), static_cast<long long>(m.zeros));
  }
  std::string names;
  for (const Isa& table : available_isas()) names += std::string(" ") + table.name;
  std::printf("checked %lld elements:%s\n", static_cast<long long>(checked), names.c_str());
}
