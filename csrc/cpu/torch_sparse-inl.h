// The zeros of torch's sparse_ for the lane type V of the including file (see kernels-inl.h): the rows that
// torch.randperm puts first, as a bit for each column, and what these bits make of the elements.
#pragma once

#include <algorithm>

#include "../maths/mt19937.h"
#include "torch_kernels.h"
#include "words-inl.h"

namespace fastinit::torch_stream {

// words mod divisors, where `reciprocals` are (2^32 - 1) / divisor, rounded down: the quotient is right or one too low.
template <class V>
FASTINIT_INLINE typename V::Int remainders(typename V::Int words, typename V::Int divisors,
                                           typename V::Int reciprocals) {
  const auto quotients =
      high_words(multiply_low(words, reciprocals), multiply_low(high_word(words), high_word(reciprocals)));
  const auto rest = words - quotients * divisors;
  return min(rest, rest - divisors);  // in which a negative number is a large one
}

// With which places torch.randperm swaps the first ones, by the words of a column.
template <class V>
void draw_places(Words<V>& words, const ChosenRows& law, uint32_t* places) {
  alignas(64) uint32_t numbers[V::kWords];
  for (int i = 0; i < V::kWords; ++i) numbers[i] = i;
  const auto lanes = V::load(numbers);
  for (int64_t step = 0; step < law.chosen;) {
    const int64_t n = words.ahead(1, law.chosen - step);
    const uint32_t* w = words.take(n);
    for (int64_t i = 0; i < n; i += V::kWords) {
      const auto place = V::int32(static_cast<uint32_t>(step + i)) + lanes;
      const auto divisors = V::int32(static_cast<uint32_t>(law.rows)) - place;
      const auto reciprocals = V::load(law.reciprocals + step + i);
      store_words(places + step + i, place + remainders<V>(temper<V>(V::load(w + i)), divisors, reciprocals));
    }
    step += n;
  }
  words.skip(law.rows - 1 - law.chosen);
}

// Which rows stand first after these swaps is what becomes of the set of the first places when the swaps are undone,
// the last one first. A place that is about to be swapped is in the set still, for no later swap had to do with it.
// So many columns together, since their marks of a row are one word.
template <class V, int columns>
void mark_rows(const uint32_t* places, int64_t pitch, int64_t chosen, int first, uint32_t* marks) {
  for (int64_t step = chosen; step-- > 0;) {
    uint32_t moved = 0;
#pragma GCC unroll 4
    for (int column = 0; column < columns; ++column) {
      const uint32_t bit = uint32_t{1} << (first + column);
      uint32_t& other = marks[places[column * pitch + step]];
      moved |= other & bit;
      other |= bit;
    }
    marks[step] |= moved;
  }
}

template <class V>
void choose_rows(Mt19937& state, const ChosenRows& law, uint32_t* places, uint32_t* marks, int64_t columns) {
  const int64_t pitch = law.chosen + kPlacesRoom;
  Words<V> words(state);
  for (int column = 0; column < columns; column += 2) {
    draw_places<V>(words, law, places);
    if (column + 1 == columns) {
      mark_rows<V, 1>(places, pitch, law.chosen, column, marks);
    } else {
      draw_places<V>(words, law, places + pitch);
      mark_rows<V, 2>(places, pitch, law.chosen, column, marks);
    }
  }
  words.save(state);
}

// Zero if this bit is set, else all ones: a branch would be foreseen as seldom as the bits are random.
template <class V, class T>
FASTINIT_INLINE T mask_unless(uint32_t bits, int64_t place) {
  return static_cast<T>(static_cast<T>(bits >> place & 1) - T{1});
}

// T: an unsigned integer of an element's size. In the order of memory.
template <class V, class T>
void clear_marked(const Matrix& matrix, const uint32_t* marks, int64_t pitch) {
  T* const data = reinterpret_cast<T*>(matrix.data);
  if (matrix.column_stride > matrix.row_stride) {
    for (int64_t column = 0; column < matrix.columns; ++column) {
      const uint32_t* bits = marks + column / 32 * pitch;
      T* out = data + column * matrix.column_stride;
      if (matrix.row_stride == 1) {
        const uint32_t bit = uint32_t{1} << column % 32;
        for (int64_t row = 0; row < matrix.rows; ++row) out[row] &= bits[row] & bit ? T{0} : static_cast<T>(~T{0});
      } else {
        for (int64_t row = 0; row < matrix.rows; ++row) {
          out[row * matrix.row_stride] &= mask_unless<V, T>(bits[row], column % 32);
        }
      }
    }
    return;
  }
  for (int64_t row = 0; row < matrix.rows; ++row) {
    for (int64_t column = 0; column < matrix.columns; column += 32) {
      const uint32_t bits = marks[column / 32 * pitch + row];
      T* out = data + row * matrix.row_stride + column * matrix.column_stride;
      if (matrix.column_stride == 1 && matrix.columns - column >= 32) {
        for (int i = 0; i < 32; ++i) out[i] &= bits & uint32_t{1} << i ? T{0} : static_cast<T>(~T{0});
      } else {
        const int64_t count = std::min<int64_t>(32, matrix.columns - column);
        for (int64_t i = 0; i < count; ++i) out[i * matrix.column_stride] &= mask_unless<V, T>(bits, i);
      }
    }
  }
}

template <class V>
void clear(const Matrix& matrix, int item, const uint32_t* marks, int64_t pitch) {
  if (item == 2) return clear_marked<V, uint16_t>(matrix, marks, pitch);
  if (item == 4) return clear_marked<V, uint32_t>(matrix, marks, pitch);
  clear_marked<V, uint64_t>(matrix, marks, pitch);
}

}  // namespace fastinit::torch_stream
