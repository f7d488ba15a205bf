#include "sparse.h"

#include <algorithm>
#include <cmath>

#include "cpu/isa.h"

namespace fastinit {
namespace {

constexpr int64_t kWords = 4096;  // that are looked at in one go: half of a first-level cache
constexpr double kDraws = 0x1p31;

// The draws of one column that lie in the window around its limit, each above its row: their order is that of the
// selection. And how many draws lie below the window.
class Candidates {
 public:
  Candidates(const SparseColumns& columns, int64_t begin, int64_t end, double deviations)
      : columns_(columns), begin_(begin), width_(end - begin), counts_(width_), below_(width_) {
    const double rows = static_cast<double>(columns.rows), share = columns.zeros / rows;
    const double half = (deviations * std::sqrt(rows * share * (1 - share)) + 2) / rows;
    low_ = static_cast<uint32_t>(std::max(0.0, share - half) * kDraws);
    const double high = std::min(1.0, share + half) * kDraws, expected = rows * (high - low_) / kDraws;
    span_ = static_cast<uint32_t>(high) - low_;
    room_ = static_cast<int64_t>(std::min(rows, expected + 6 * std::sqrt(expected) + 16));
    found_.resize(width_ * room_);
    near_.resize(room_);
  }

  void look() {
    FillJob job{};
    job.law = Law::kSparseDraws;
    job.seed = columns_.seed, job.offset = columns_.offset;
    alignas(64) uint32_t words[kWords];
    // Columns side by side; whole rows one after another where these are all the columns.
    const int64_t piece = std::min(width_, kWords), rows = width_ == columns_.columns ? kWords / piece : 1;
    for (int64_t row = 0; row < columns_.rows; row += rows) {
      const int64_t now = std::min(rows, columns_.rows - row);
      for (int64_t i = 0; i < width_; i += piece) {
        const int64_t n = std::min(piece, width_ - i);
        isa().fill(job, words, row * columns_.columns + columns_.first + begin_ + i, now * n);
        for (int64_t r = 0; r < now; ++r) look_at(words + r * n, row + r, i, n);
      }
    }
  }

  // Sets the column's limit and appends what it keeps. Returns whether the window held it.
  bool select(int64_t column, int32_t& limit, std::vector<int64_t>& kept) {
    int64_t rank = columns_.zeros - 1 - int64_t{below_[column]}, count = counts_[column];
    if (rank < 0 || rank >= count || count > room_) return false;
    uint64_t* found = narrow(&found_[column * room_], rank, count);
    std::nth_element(found, found + rank, found + count);
    limit = static_cast<int32_t>(found[rank] >> 32);
    for (int64_t i = rank + 1; i < count; ++i) {
      if (static_cast<int32_t>(found[i] >> 32) == limit) {
        kept.push_back(static_cast<int64_t>(found[i] & UINT32_MAX) * columns_.columns + columns_.first + begin_ +
                       column);
      }
    }
    return true;
  }

 private:
  // Words of `row`, from column begin_ + first on.
  void look_at(const uint32_t* words, int64_t row, int64_t first, int64_t count) {
    uint32_t within[kWords + 16];
    const int64_t hits = isa().scan_draws(words, count, low_, span_, &below_[first], within);
    for (int64_t h = 0; h < hits; ++h) {
      const int64_t column = first + within[h], place = counts_[column]++;
      if (place < room_) {
        found_[column * room_ + place] =
            static_cast<uint64_t>(SparseColumns::draw(words[within[h]])) << 32 | static_cast<uint64_t>(row);
      }
    }
  }

  // Of `count` candidates, which are spread evenly over the window, those near the one with this rank, if they hold it:
  // one pass, where nth_element alone takes several.
  uint64_t* narrow(uint64_t* found, int64_t& rank, int64_t& count) {
    if (count < 48) return found;
    const double size = static_cast<double>(count), share = (rank + 0.5) / size;
    const double half = (2.5 * std::sqrt(size * share * (1 - share)) + 1) / size;
    const uint64_t low = low_ + static_cast<uint64_t>(std::max(0.0, share - half) * span_);
    const uint64_t span = low_ + static_cast<uint64_t>(std::min(1.0, share + half) * span_) - low;
    int64_t below = 0, within = 0;
    for (int64_t i = 0; i < count; ++i) {
      const uint64_t draw = found[i] >> 32;
      below += draw < low;
      near_[within] = found[i];
      within += draw - low < span;
    }
    if (rank < below || rank >= below + within) return found;
    rank -= below, count = within;
    return near_.data();
  }

  const SparseColumns& columns_;
  int64_t begin_, width_, room_;
  uint32_t low_, span_;
  std::vector<uint32_t> counts_, below_;
  std::vector<uint64_t> found_, near_;
};

}  // namespace

std::vector<int64_t> SparseColumns::select(int64_t begin, int64_t end, double deviations) {
  std::vector<int64_t> kept_here;
  if (zeros == 0) {
    std::fill(limits.begin() + begin, limits.begin() + end, -1);
    return kept_here;
  }
  Candidates candidates(*this, begin, end, deviations);
  candidates.look();
  for (int64_t i = begin; i < end; ++i) {
    if (candidates.select(i - begin, limits[i], kept_here)) continue;
    for (double wider = 4 * deviations;; wider *= 4) {  // one in a million
      Candidates of_column(*this, i, i + 1, wider);
      of_column.look();
      if (of_column.select(0, limits[i], kept_here)) break;
    }
  }
  return kept_here;
}

SparseSelection::SparseSelection(const std::vector<std::unique_ptr<SparseColumns>>& matrices, int threads) {
  for (const auto& columns : matrices) {
    columns->limits.resize(columns->count);
    // Fewer columns side by side take more time each, more of them more memory than is near.
    const int64_t width = std::clamp<int64_t>(columns->count / threads / 16 * 16, 16, 512);
    for (int64_t i = 0; i < columns->count; i += width) {
      units_.push_back({columns.get(), i, std::min(i + width, columns->count), {}});
    }
  }
}

void SparseSelection::run(int64_t unit) {
  Unit& u = units_[unit];
  u.kept = u.columns->select(u.begin, u.end);
}

void SparseSelection::finish() {
  for (Unit& u : units_) u.columns->kept.insert(u.columns->kept.end(), u.kept.begin(), u.kept.end());
  for (Unit& u : units_) {
    if (u.begin == 0) std::sort(u.columns->kept.begin(), u.columns->kept.end());
  }
}

}  // namespace fastinit
