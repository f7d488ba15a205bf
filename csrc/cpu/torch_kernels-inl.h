// The torch stream's fills, once, for the lane type V of the including file (see kernels-inl.h).
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../maths/mt19937.h"
#include "../maths/narrow.h"
#include "../maths/torch_laws.h"
#include "torch_kernels.h"
#include "torch_sparse-inl.h"
#include "wide.h"
#include "words-inl.h"

namespace fastinit::torch_stream {

// How values of V's registers become elements: a register at a time, or in rows of eight (see load_rows).
template <class V>
struct ToFloat32 {
  using Element = float;
  FASTINIT_INLINE static void store(float* out, typename V::Float x) { store_words(out, bits(x)); }
  FASTINIT_INLINE static void store_by_rows(float* out, typename V::Float x) { store_rows(out, x); }
};
template <class V>
struct ToBFloat16 {
  using Element = uint16_t;
  FASTINIT_INLINE static void store(uint16_t* out, typename V::Float x) { store_halfwords(out, to_bfloat16<V>(x)); }
  FASTINIT_INLINE static void store_by_rows(uint16_t* out, typename V::Float x) {
    store_halfword_rows(out, to_bfloat16<V>(x));
  }
};
template <class V>
struct ToFloat16 {
  using Element = uint16_t;
  FASTINIT_INLINE static void store(uint16_t* out, typename V::Float x) { store_halfwords(out, to_half(x)); }
  FASTINIT_INLINE static void store_by_rows(uint16_t* out, typename V::Float x) {
    store_halfword_rows(out, to_half(x));
  }
};

template <class V, class To, class Value>
void one_word_each(Mt19937& state, const Value& value, typename To::Element* out, int64_t count) {
  Words<V> words(state);
  while (count > 0) {
    const int64_t n = words.ahead(1, count), whole = n / V::kWords * V::kWords;
    const uint32_t* w = words.take(n);
    for (int64_t i = 0; i < whole; i += V::kWords) To::store(out + i, value(temper<V>(V::load(w + i))));
    if (whole < n) {
      typename To::Element rest[V::kWords];
      To::store(rest, value(temper<V>(V::load(w + whole))));
      std::memcpy(out + whole, rest, (n - whole) * sizeof *out);
    }
    out += n, count -= n;
  }
  words.save(state);
}

template <class V, class To>
void uniform(Mt19937& state, const TorchUniform& law, typename To::Element* out, int64_t count) {
  const float from = static_cast<float>(law.from), range = static_cast<float>(law.to) - from;
  const bool reaches_top = std::fma(1.0f - 0x1p-24f, range, from) >= law.top;
  if (!reaches_top && range >= 0x1p-100f) {
    return one_word_each<V, To>(state, PlainUniform<V>{V::f32(from), V::f32(range * 0x1p-24f)}, out, count);
  }
  one_word_each<V, To>(state, Uniform<V>{V::f32(from), V::f32(range), V::f32(law.top)}, out, count);
}

template <class V>
void uniform64(Mt19937& state, const TorchUniform& law, double* out, int64_t count) {
  constexpr int64_t kLanes = V::kWords / 2;
  const Uniform64<V> value{V::f64(law.from), V::f64(law.to - law.from), V::f64(law.to)};
  Words<V> words(state);
  while (count > 0) {
    const int64_t n = words.ahead(2, 2 * count) / 2, whole = n / kLanes * kLanes;
    const uint32_t* w = words.take(2 * n);
    for (int64_t i = 0; i < whole; i += kLanes) store_words(out + i, bits(value(temper<V>(V::load(w + 2 * i)))));
    if (whole < n) {
      double rest[kLanes];
      store_words(rest, bits(value(temper<V>(V::load(w + 2 * whole)))));
      std::memcpy(out + whole, rest, (n - whole) * sizeof *out);
    }
    out += n, count -= n;
  }
  words.save(state);
}

template <class V>
struct Window {
  typename V::Float low, high;

  explicit Window(const TorchWindow& window) : low(V::f32(window.low)), high(V::f32(window.high)) {}
  FASTINIT_INLINE typename V::Mask outside(typename V::Float x) const { return (x < low) | (high < x); }
};

// Sixteen elements from sixteen words, the first eight of each pair's cosine: value j and j + 8 from words j and j + 8.
// A register holds a row of eight of them or a part of one, or rows of two blocks; kWide of them go in lockstep.
template <class V, class To>
struct NormalBlocks {
  using Element = typename To::Element;
  static constexpr int kWide = 3;
  using W = Wide<V, kWide>;
  static constexpr int64_t kStep = std::max(16, 2 * V::kWords), kGroup = kWide * kStep;  // elements; whole blocks
  static constexpr int64_t kRow = std::min(8, V::kWords);
  static_assert(kOutsideRoom % kGroup == 0);

  template <class Lanes>
  static Normal<Lanes> law(const NormalNumbers& n) {
    return {Lanes::f32(static_cast<float>(n.mean)), Lanes::f32(static_cast<float>(n.std))};
  }

  // A group, and for each pair of its registers, eight elements apart, what `then` does with the first one's place and
  // their values.
  template <class Then>
  FASTINIT_INLINE static void group(const Normal<W>& law, const uint32_t* words, Element* out, const Then& then) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 8; i += kRow) {
      typename W::Int word1, word2;
      typename W::Float first, second;
#pragma GCC unroll 8
      for (int u = 0; u < kWide; ++u) {
        word1.v[u] = V::load_rows(words + u * kStep + i);
        word2.v[u] = V::load_rows(words + u * kStep + i + 8);
      }
      law(temper<W>(word1), temper<W>(word2), first, second);
#pragma GCC unroll 8
      for (int u = 0; u < kWide; ++u) {
        To::store_by_rows(out + u * kStep + i, first.v[u]);
        To::store_by_rows(out + u * kStep + i + 8, second.v[u]);
        then(u * kStep + i, first.v[u], second.v[u]);
      }
    }
  }

  // All groups of `count` elements; a last one that is not whole goes by way of a copy.
  template <class Then>
  FASTINIT_INLINE static void groups(Mt19937& state, const NormalNumbers& numbers, Element* out, int64_t count,
                                     const Then& then) {
    const Normal<W> values = law<W>(numbers);
    Words<V> words(state);
    int64_t done = 0;
    while (count - done >= kGroup) {
      const int64_t n = words.ahead(kGroup, count - done) / kGroup * kGroup;
      const uint32_t* w = words.take(n);
      for (int64_t i = 0; i < n; i += kGroup) {
        group(values, w + i, out + done + i,
              [&](int64_t place, auto first, auto second) { then(done + i + place, first, second); });
      }
      done += n;
    }
    if (const int64_t rest = count - done; rest > 0) {
      const int64_t n = words_for(rest);
      words.ahead(n, n);
      uint32_t padded[kGroup] = {};
      std::memcpy(padded, words.take(n), n * sizeof *padded);
      Element last[kGroup];
      group(values, padded, last, [&](int64_t place, auto first, auto second) { then(done + place, first, second); });
      std::memcpy(out + done, last, rest * sizeof *out);
    }
    words.save(state);
  }

  static int64_t words_for(int64_t elements) { return (elements + 15) / 16 * 16; }

  static void fill(Mt19937& state, const NormalNumbers& numbers, Element* out, int64_t count) {
    groups(state, numbers, out, count, [](int64_t, typename V::Float, typename V::Float) {});
  }

  static int64_t fill_within(Mt19937& state, const NormalNumbers& numbers, const TorchWindow& window, Element* out,
                             int64_t count, uint32_t first, uint32_t* outside) {
    const Window<V> within(window);
    alignas(64) uint32_t row_numbers[V::kWords];
    for (int i = 0; i < V::kWords; ++i) row_numbers[i] = first + static_cast<uint32_t>(i < 8 ? i : i + 8);
    const auto first_numbers = V::load(row_numbers);
    uint32_t* end = outside;
    groups(state, numbers, out, count, [&](int64_t place, typename V::Float x, typename V::Float y) {
      const auto outside_x = within.outside(x), outside_y = within.outside(y);
      if (window.rarely_left && !any(outside_x | outside_y)) return;
      const auto number = first_numbers + V::int32(static_cast<uint32_t>(place));
      end += append(end, outside_x, number);
      end += append(end, outside_y, number + V::int32(8));
    });
    // The last group may have listed elements that are not there.
    uint32_t* last_group = end - std::min<int64_t>(end - outside, kGroup);
    return std::remove_if(last_group, end, [&](uint32_t number) { return number - first >= count; }) - outside;
  }

  static int64_t redraw(Mt19937& state, const NormalNumbers& numbers, const TorchWindow& window, Element* out,
                        int64_t count, uint32_t* outside, int64_t listed) {
    const Normal<V> values = law<V>(numbers);
    const Window<V> within(window);
    Words<V> words(state);
    constexpr uint32_t kNone = ~0u;
    alignas(64) uint32_t batch[V::kWords], word1[V::kWords] = {}, word2[V::kWords] = {};
    int64_t in_batch = 0, kept = 0;
    auto draw_batch = [&] {
      std::fill(batch + in_batch, batch + V::kWords, kNone);
      const auto elements = V::load(batch);
      typename V::Float first, second;
      values(temper<V>(V::load(word1)), temper<V>(V::load(word2)), first, second);
      const auto x = select_top(shift_left<28>(elements), second, first);  // by the bit 8 of the number
      Element made[V::kWords];
      To::store(made, x);
      for (int64_t i = 0; i < in_batch; ++i) out[batch[i]] = made[i];
      kept += append(outside + kept, within.outside(x), elements);
      while (kept > 0 && outside[kept - 1] == kNone) --kept;
      in_batch = 0;
    };
    const int64_t all = words_for(count);
    int64_t begin = 0, have = 0;  // the words of elements begin .. begin + have lie ahead
    const uint32_t* w = words.take(0);
    for (int64_t i = 0; i < listed; ++i) {
      // Within a group the list may be in any order.
      const int64_t element = outside[i], group = element / kGroup * kGroup, end = std::min(group + kGroup, all);
      if (end > begin + have) {
        words.skip(group - begin);
        begin = group;
        have = words.ahead(end - group, all - group);
        w = words.take(0);
      }
      const int64_t place = element / 16 * 16 + element % 8 - begin;
      batch[in_batch] = static_cast<uint32_t>(element);
      word1[in_batch] = w[place];
      word2[in_batch] = w[place + 8];
      if (++in_batch == V::kWords) draw_batch();
    }
    if (in_batch > 0) draw_batch();
    words.skip(all - begin);
    words.save(state);
    return kept;
  }
};

// Values with their error, in batches; where the error leaves the float32 in doubt, the C library decides.
template <class V, class To>
void serial_normal(Mt19937& state, const NormalNumbers& numbers, typename To::Element* out, int64_t count) {
  constexpr int64_t kBatch = 128;  // elements
  const SerialNormal<V> law(numbers.mean, numbers.std);
  Words<V> words(state);
  while (count > 0) {
    const int64_t n = std::min(count, kBatch);
    words.ahead(2 * n, 2 * count);
    const uint32_t* w = words.take(2 * n);
    alignas(64) double values[kBatch], errors[kBatch];
    for (int64_t i = 0; i < n; i += V::kWords) {
      const auto a = temper<V>(V::load(w + 2 * i)), b = temper<V>(V::load(w + 2 * i + V::kWords));
      typename V::Double first, second, error;
      law(even_lanes(a, b), odd_lanes(a, b), first, second, error);
      store_pairs(values + i, first, second);
      store_pairs(errors + i, error, error);
    }
    alignas(64) uint32_t rounded[kBatch], doubt[kBatch], any_doubt = 0;
    for (int64_t i = 0; i < n; ++i) {
      const float low = static_cast<float>(values[i] - errors[i]), high = static_cast<float>(values[i] + errors[i]);
      uint32_t high_bits;
      std::memcpy(&rounded[i], &low, sizeof low);
      std::memcpy(&high_bits, &high, sizeof high);
      doubt[i] = rounded[i] ^ high_bits;
      any_doubt |= doubt[i];
    }
    for (int64_t i = 0; any_doubt != 0 && i < n; i += 2) {
      if ((doubt[i] | doubt[i + 1]) == 0) continue;
      const NormalPair z = serial_normal_pair(uniform53(w + 2 * i), uniform53(w + 2 * i + 2));
      const float pair[2] = {static_cast<float>(std::fma(z.first, numbers.std, numbers.mean)),
                             static_cast<float>(std::fma(z.second, numbers.std, numbers.mean))};
      std::memcpy(&rounded[i], pair, sizeof pair);
    }
    typename To::Element elements[kBatch];
    for (int64_t i = 0; i < n; i += V::kWords) To::store(elements + i, from_bits(V::load(rounded + i)));
    std::memcpy(out, elements, n * sizeof *out);
    out += n, count -= n;
  }
  words.save(state);
}

// The table's functions: by type of the elements.
template <class V>
struct Kernels {
  // What `run` makes of the way in which float32 values become elements of the type, and of the memory for them.
  template <class Run>
  static auto by_type(DType dtype, void* out, const Run& run) {
    switch (dtype) {
      case DType::kFloat32:
        return run(ToFloat32<V>{}, static_cast<float*>(out));
      case DType::kBFloat16:
        return run(ToBFloat16<V>{}, static_cast<uint16_t*>(out));
      default:
        return run(ToFloat16<V>{}, static_cast<uint16_t*>(out));
    }
  }

  static void skip(Mt19937& state, uint64_t count) {
    Words<V> words(state);
    words.skip(count);
    words.save(state);
  }
  static void uniform(Mt19937& state, DType dtype, const TorchUniform& law, void* out, int64_t count) {
    if (dtype == DType::kFloat64) return torch_stream::uniform64<V>(state, law, static_cast<double*>(out), count);
    by_type(dtype, out,
            [&](auto to, auto* elements) { torch_stream::uniform<V, decltype(to)>(state, law, elements, count); });
  }
  static void normal(Mt19937& state, DType dtype, const NormalNumbers& law, void* out, int64_t count) {
    by_type(dtype, out,
            [&](auto to, auto* elements) { NormalBlocks<V, decltype(to)>::fill(state, law, elements, count); });
  }
  static int64_t normal_within(Mt19937& state, DType dtype, const NormalNumbers& law, const TorchWindow& window,
                               void* out, int64_t count, uint32_t first, uint32_t* outside) {
    return by_type(dtype, out, [&](auto to, auto* elements) {
      return NormalBlocks<V, decltype(to)>::fill_within(state, law, window, elements, count, first, outside);
    });
  }
  static int64_t redraw(Mt19937& state, DType dtype, const NormalNumbers& law, const TorchWindow& window, void* out,
                        int64_t count, uint32_t* outside, int64_t listed) {
    return by_type(dtype, out, [&](auto to, auto* elements) {
      return NormalBlocks<V, decltype(to)>::redraw(state, law, window, elements, count, outside, listed);
    });
  }
  static void serial_normal(Mt19937& state, DType dtype, const NormalNumbers& law, void* out, int64_t count) {
    by_type(dtype, out, [&](auto to, auto* elements) {
      torch_stream::serial_normal<V, decltype(to)>(state, law, elements, count);
    });
  }
  static constexpr TorchKernels kTable{skip,   uniform,       normal,         normal_within,
                                       redraw, serial_normal, choose_rows<V>, clear<V>};
};

}  // namespace fastinit::torch_stream
