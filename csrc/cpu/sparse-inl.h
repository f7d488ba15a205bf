// Sparse matrices for the lane type V of the including file: normal values, then zeros where the second stream's draw
// is within its column's limit.
#pragma once

#include <algorithm>

#include "../plan.h"

namespace fastinit {

template <class V>
void fill(const FillJob& job, void* out, uint64_t first, int64_t count);

// One row's elements.
template <class V, class T>
FASTINIT_INLINE void mask_row(const uint32_t* words, const int32_t* limits, T least, T* out, int64_t count) {
  for (int64_t i = 0; i < count; ++i) {
    const T value = static_cast<T>(out[i] << 1) == 0 ? least : out[i];
    out[i] = SparseColumns::draw(words[i]) <= limits[i] ? T{0} : value;
  }
}

template <class V, class T>
void fill_sparse_type(const FillJob& job, T* out, int64_t first, int64_t count) {
  constexpr int64_t kPiece = 1024;
  const SparseColumns& columns = *job.numbers.sparse.columns;
  const T least = static_cast<T>(smallest_number(job.dtype));
  FillJob normal = job, draws = job;
  normal.law = Law::kNormal, normal.numbers.normal = job.numbers.sparse.normal;
  draws.law = Law::kSparseDraws;
  alignas(64) uint32_t words[kPiece];
  for (int64_t end = first + count; first < end;) {
    const int64_t n = std::min(end - first, kPiece);
    fill<V>(normal, out, first, n);
    fill<V>(draws, words, first, n);
    // A word that no limit reaches, for the few elements whose draw equals the limit and that are not zero.
    for (auto k = std::lower_bound(columns.kept.begin(), columns.kept.end(), first);
         k != columns.kept.end() && *k < first + n; ++k) {
      words[*k - first] = UINT32_MAX;
    }
    for (int64_t i = 0; i < n;) {
      const int64_t column = (first + i) % columns.columns, length = std::min(n - i, columns.columns - column);
      mask_row<V>(words + i, columns.limits.data() + (column - columns.first), least, out + i, length);
      i += length;
    }
    out += n, first += n;
  }
}

template <class V>
void fill_sparse(const FillJob& job, void* out, uint64_t first, int64_t count) {
  switch (item_size(job.dtype)) {
    case 1:
      return fill_sparse_type<V>(job, static_cast<uint8_t*>(out), first, count);
    case 2:
      return fill_sparse_type<V>(job, static_cast<uint16_t*>(out), first, count);
    case 4:
      return fill_sparse_type<V>(job, static_cast<uint32_t*>(out), first, count);
    default:
      return fill_sparse_type<V>(job, static_cast<uint64_t*>(out), first, count);
  }
}

// Of `count` draws, counts[i] grows by one where draw i is below `low`, and the numbers of those in [low, low + span)
// go to `within` (which has room for all and a register more). Returns how many these are.
template <class V>
int64_t scan_draws(const uint32_t* words, int64_t count, uint32_t low, uint32_t span, uint32_t* counts,
                   uint32_t* within) {
  using Int = typename V::Int;
  alignas(64) uint32_t numbers[V::kWords];
  for (int i = 0; i < V::kWords; ++i) numbers[i] = i;
  Int number = V::load(numbers);
  int64_t found = 0, i = 0;
  for (; i + V::kWords <= count; i += V::kWords) {
    const Int above_low = shift_right<1>(V::load(words + i)) - V::int32(low), above_high = above_low - V::int32(span);
    store_words(counts + i, V::load(counts + i) + shift_right<31>(above_low));
    const Int is_within = above_high & (above_low ^ V::int32(UINT32_MAX));  // by the sign
    found += append(within + found, to_float(is_within) < V::f32(0.0f), number);
    number = number + V::int32(V::kWords);
  }
  for (; i < count; ++i) {
    const uint32_t above_low = (words[i] >> 1) - low;
    counts[i] += above_low >> 31;
    within[found] = static_cast<uint32_t>(i);
    found += above_low < span;
  }
  return found;
}

}  // namespace fastinit
