// Every fill, once, for the lane type V of the including file, inside that file's target region. All that is not
// inlined is a template over V: nothing may be compiled under one name for two instruction sets.
#pragma once

#include <algorithm>
#include <cstring>

#include "../maths/draws.h"
#include "../maths/narrow.h"
#include "../maths/normal.h"
#include "../maths/trunc_normal.h"
#include "../maths/uniform.h"
#include "../plan.h"
#include "sparse-inl.h"

namespace fastinit {

// Where the values of V::kBlocks blocks go, as elements of one type. kInterleaved: blocks stand in the lanes in the
// order that store_pairs undoes.
template <class V>
struct StoreFloat32 {
  using Element = float;
  static constexpr bool kInterleaved = true;
  FASTINIT_INLINE static void store(float* out, typename V::Float even, typename V::Float odd) {
    store_pairs(out, even, odd);
  }
};

template <class V>
struct StoreFloat64 {
  using Element = double;
  static constexpr bool kInterleaved = true;
  FASTINIT_INLINE static void store(double* out, typename V::Double even, typename V::Double odd) {
    store_pairs(out, even, odd);
  }
};

template <class V>
struct StoreBFloat16 {
  using Element = uint16_t;
  static constexpr bool kInterleaved = false;
  FASTINIT_INLINE static void store(uint16_t* out, typename V::Float even, typename V::Float odd) {
    store_words(out, to_bfloat16<V>(even) | shift_left<16>(to_bfloat16<V>(odd)));
  }
};

template <class V>
struct StoreFloat16 {
  using Element = uint16_t;
  static constexpr bool kInterleaved = false;
  FASTINIT_INLINE static void store(uint16_t* out, typename V::Float even, typename V::Float odd) {
    store_words(out, to_half(even) | shift_left<16>(to_half(odd)));
  }
};

template <class V>
struct StoreFloat8E4M3FN {
  using Element = uint8_t;
  static constexpr bool kInterleaved = false;
  FASTINIT_INLINE static void store(uint8_t* out, typename V::Float even, typename V::Float odd) {
    store_halfwords(out, to_float8_e4m3fn<V>(even) | shift_left<8>(to_float8_e4m3fn<V>(odd)));
  }
};

template <class V>
struct StoreFloat8E5M2 {
  using Element = uint8_t;
  static constexpr bool kInterleaved = false;
  FASTINIT_INLINE static void store(uint8_t* out, typename V::Float even, typename V::Float odd) {
    store_halfwords(out, to_float8_e5m2<V>(even) | shift_left<8>(to_float8_e5m2<V>(odd)));
  }
};

template <class V, class Distribution, class Store, uint32_t kStream = 0>
struct Fill {
  using Int = typename V::Int;
  using Element = typename Store::Element;
  static constexpr int kVector = Distribution::kPerBlock * V::kBlocks;  // elements of one set of lanes

  // `count` sets of kUnroll vectors of elements, from block `block` on. The values of one set are computed between the
  // Philox rounds of the next: integer multiplies of the one overlap square roots and divisions of the other.
  template <int kUnroll>
  static void vectors(const Distribution law, uint64_t seed, uint64_t block, Element* out, int64_t count) {
    if (count == 0) return;
    PhiloxLanes<V> philox(seed, block, Store::kInterleaved ? V::iota_interleaved() : V::iota(), kStream);
    Int even[kUnroll], odd[kUnroll];
    typename PhiloxLanes<V>::State rounds[kUnroll];
    typename Distribution::State values[kUnroll];
#define FASTINIT_EACH _Pragma("GCC unroll 8") for (int u = 0; u < kUnroll; ++u)
    FASTINIT_EACH rounds[u] = philox.start();
#pragma GCC unroll 8
    for (int r = 3; r < 9; ++r) {
      FASTINIT_EACH philox.round(r, rounds[u]);
    }
    // The last turn draws words that nobody reads: cheaper than a second copy of the loop's body.
    for (; count > 0; --count, out += kUnroll * kVector) {
      FASTINIT_EACH philox.finish(rounds[u], even[u], odd[u]);
      FASTINIT_EACH rounds[u] = philox.start();
      FASTINIT_EACH law.start(even[u], odd[u], values[u]);
      FASTINIT_EACH philox.round(3, rounds[u]);
      FASTINIT_EACH philox.round(4, rounds[u]);
      FASTINIT_EACH law.middle(values[u]);
      FASTINIT_EACH philox.round(5, rounds[u]);
      FASTINIT_EACH philox.round(6, rounds[u]);
      FASTINIT_EACH philox.round(7, rounds[u]);
      FASTINIT_EACH law.finish(values[u]);
      FASTINIT_EACH philox.round(8, rounds[u]);
      FASTINIT_EACH Store::store(out + u * kVector, values[u].even, values[u].odd);
    }
#undef FASTINIT_EACH
  }

  // `count` elements of consecutive blocks that share their high 32 bits, without the first `skip` of block `block`.
  static void run(const Distribution& law, uint64_t seed, uint64_t block, int64_t skip, Element* out, int64_t count) {
    alignas(64) Element partial[kVector];
    if (skip != 0) {  // after this, `out` starts a block
      vectors<1>(law, seed, block, partial, 1);
      const int64_t head = std::min<int64_t>(count, kVector - skip);
      std::memcpy(out, partial + skip, head * sizeof(Element));
      out += head, count -= head, block += V::kBlocks;
    }
    const int64_t sets = count / (V::kUnroll * kVector);
    vectors<V::kUnroll>(law, seed, block, out, sets);
    out += sets * V::kUnroll * kVector, block += sets * V::kUnroll * V::kBlocks;
    const int64_t rest = count / kVector - sets * V::kUnroll, tail = count % kVector;
    vectors<1>(law, seed, block, out, rest);
    out += rest * kVector, block += rest * V::kBlocks;
    if (tail != 0) {
      vectors<1>(law, seed, block, partial, 1);
      std::memcpy(out, partial, tail * sizeof(Element));
    }
  }

  // Elements first .. first + count of the stream. Split where the low 32 bits of the block number wrap.
  static void fill(const FillJob& job, void* out, uint64_t first, int64_t count) {
    const Distribution law(job.numbers);
    Element* to = static_cast<Element*>(out);
    while (count > 0) {
      const uint64_t block = job.offset + first / Distribution::kPerBlock;
      const int64_t skip = first % Distribution::kPerBlock;
      const int64_t blocks_left = (int64_t{1} << 32) - static_cast<uint32_t>(block);
      const int64_t n = std::min<int64_t>(count, blocks_left * Distribution::kPerBlock - skip);
      run(law, job.seed, block, skip, to, n);
      to += n, first += n, count -= n;
    }
  }
};

template <class V, template <class> class Store>
void fill_float_law(const FillJob& job, void* out, uint64_t first, int64_t count) {
  switch (job.law) {
    case Law::kUniform:
      return Fill<V, Uniform<V>, Store<V>>::fill(job, out, first, count);
    case Law::kNormal:
      return Fill<V, Normal<V>, Store<V>>::fill(job, out, first, count);
    case Law::kTruncNormal:
      return Fill<V, TruncNormal<V>, Store<V>>::fill(job, out, first, count);
    default:
      return Fill<V, TruncNormalTail<V>, Store<V>>::fill(job, out, first, count);
  }
}

template <class V>
void fill_float64_law(const FillJob& job, void* out, uint64_t first, int64_t count) {
  switch (job.law) {
    case Law::kUniform:
      return Fill<V, Uniform64<V>, StoreFloat64<V>>::fill(job, out, first, count);
    case Law::kNormal:
      return Fill<V, Normal64<V>, StoreFloat64<V>>::fill(job, out, first, count);
    default:
      return Fill<V, TruncNormal64<V>, StoreFloat64<V>>::fill(job, out, first, count);
  }
}

// Any law that draws one value after another.
template <class V>
void fill_values(const FillJob& job, void* out, uint64_t first, int64_t count) {
  switch (job.dtype) {
    case DType::kFloat32:
      return fill_float_law<V, StoreFloat32>(job, out, first, count);
    case DType::kFloat64:
      return fill_float64_law<V>(job, out, first, count);
    case DType::kBFloat16:
      return fill_float_law<V, StoreBFloat16>(job, out, first, count);
    case DType::kFloat16:
      return fill_float_law<V, StoreFloat16>(job, out, first, count);
    case DType::kFloat8E4M3FN:
      return fill_float_law<V, StoreFloat8E4M3FN>(job, out, first, count);
    case DType::kFloat8E5M2:
      return fill_float_law<V, StoreFloat8E5M2>(job, out, first, count);
  }
}

// The same bytes in every element: whole registers, of which the first and the last may overlap those between them.
template <class V>
void fill_constant(const FillJob& job, void* out, int64_t count) {
  constexpr int64_t kRegister = V::kWords * sizeof(uint32_t);
  const int64_t item = item_size(job.dtype);
  uint64_t pattern = job.numbers.pattern;
  for (int64_t width = item; width < 8; width *= 2) pattern |= pattern << (8 * width);
  const auto lanes = V::int64(pattern);
  char* to = static_cast<char*>(out);
  char* const end = to + count * item;
  if (end - to < kRegister) {
    for (; to < end; to += item) std::memcpy(to, &pattern, item);
    return;
  }
  store_words(to, lanes);
  to += (kRegister - static_cast<int64_t>(reinterpret_cast<uintptr_t>(to) % kRegister)) / item * item;
  for (; end - to >= 4 * kRegister; to += 4 * kRegister) {
#pragma GCC unroll 4
    for (int64_t i = 0; i < 4; ++i) store_words(to + i * kRegister, lanes);
  }
  for (; end - to >= kRegister; to += kRegister) store_words(to, lanes);
  store_words(end - kRegister, lanes);
}

template <class V>
void fill(const FillJob& job, void* out, uint64_t first, int64_t count) {
  switch (job.law) {
    case Law::kConstant:
      return fill_constant<V>(job, out, count);
    case Law::kSparse:
      return fill_sparse<V>(job, out, first, count);
    case Law::kSparseDraws:
      return Fill<V, Draws<V>, StoreFloat32<V>, 1>::fill(job, out, first, count);
    default:
      return fill_values<V>(job, out, first, count);
  }
}

}  // namespace fastinit
