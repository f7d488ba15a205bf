// From the values of one Philox block to the words that hold them as elements of a type, and those to memory.
#pragma once

#include "../maths/narrow.h"
#include "lanes.h"

namespace fastinit::cuda {

// Four words, which one instruction stores.
struct alignas(16) Vector {
  uint32_t words[4];
};

struct StoreFloat32 {
  using Element = uint32_t;
  static constexpr int kWords = 4;  // of the values of a block
  FASTINIT_INLINE static void pack(Float even, Float odd, uint32_t* words) {
    words[0] = bits_of(even.low), words[1] = bits_of(odd.low);
    words[2] = bits_of(even.high), words[3] = bits_of(odd.high);
  }
};

struct StoreFloat64 {
  using Element = uint64_t;
  static constexpr int kWords = 4;
  FASTINIT_INLINE static void pack(Double even, Double odd, uint32_t* words) {
    const Int first = bits(even), second = bits(odd);
    words[0] = first.low, words[1] = first.high, words[2] = second.low, words[3] = second.high;
  }
};

struct StoreBFloat16 {
  using Element = uint16_t;
  static constexpr int kWords = 2;
  FASTINIT_INLINE static void pack(Float even, Float odd, uint32_t* words) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(words[0]) : "f"(odd.low), "f"(even.low));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(words[1]) : "f"(odd.high), "f"(even.high));
#else
    const Int both = to_bfloat16<Lanes>(even) | shift_left<16>(to_bfloat16<Lanes>(odd));
    words[0] = both.low, words[1] = both.high;
#endif
  }
};

struct StoreFloat16 {
  using Element = uint16_t;
  static constexpr int kWords = 2;
  FASTINIT_INLINE static void pack(Float even, Float odd, uint32_t* words) {
#if defined(__CUDA_ARCH__)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(words[0]) : "f"(odd.low), "f"(even.low));
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(words[1]) : "f"(odd.high), "f"(even.high));
#else
    const Int both = to_float16_portable<Lanes>(even) | shift_left<16>(to_float16_portable<Lanes>(odd));
    words[0] = both.low, words[1] = both.high;
#endif
  }
};

struct StoreFloat8E4M3FN {
  using Element = uint8_t;
  static constexpr int kWords = 1;
  FASTINIT_INLINE static void pack(Float even, Float odd, uint32_t* words) {
    const Int both = to_float8_e4m3fn<Lanes>(even) | shift_left<8>(to_float8_e4m3fn<Lanes>(odd));
    words[0] = both.low | both.high << 16;
  }
};

struct StoreFloat8E5M2 {
  using Element = uint8_t;
  static constexpr int kWords = 1;
  FASTINIT_INLINE static void pack(Float even, Float odd, uint32_t* words) {
    const Int both = to_float8_e5m2<Lanes>(even) | shift_left<8>(to_float8_e5m2<Lanes>(odd));
    words[0] = both.low | both.high << 16;
  }
};

// Element j of those that `words` hold. With a constant j, for words that are never in memory.
template <class Element>
FASTINIT_INLINE Element element_of(const uint32_t* words, int j) {
  if constexpr (sizeof(Element) == 8) {
    return words[2 * j] | static_cast<uint64_t>(words[2 * j + 1]) << 32;
  } else {
    constexpr int kPerWord = sizeof(uint32_t) / sizeof(Element);
    return static_cast<Element>(words[j / kPerWord] >> (j % kPerWord * 8 * sizeof(Element)));
  }
}

// Those elements of a block whose number j, counted from the block's first, has begin <= j < end. Element 0 would lie
// at `to`, and the others `stride` elements apart.
template <class Store>
FASTINIT_INLINE void store_some(const uint32_t (&words)[Store::kWords], int64_t begin, int64_t end, char* to,
                                int64_t stride) {
  using Element = typename Store::Element;
  FASTINIT_UNROLL
  for (int j = 0; j < static_cast<int>(Store::kWords * sizeof(uint32_t) / sizeof(Element)); ++j) {
    if (j >= begin && j < end) {
      *reinterpret_cast<Element*>(to + j * stride * static_cast<int64_t>(sizeof(Element))) =
          element_of<Element>(words, j);
    }
  }
}

// One element of `item` bytes.
template <class Element>
FASTINIT_INLINE void store_bytes(char* to, uint64_t bytes) {
  *reinterpret_cast<Element*>(to) = static_cast<Element>(bytes);
}
FASTINIT_INLINE void store_element(char* to, uint64_t bytes, int32_t item) {
  switch (item) {
    case 1:
      return store_bytes<uint8_t>(to, bytes);
    case 2:
      return store_bytes<uint16_t>(to, bytes);
    case 4:
      return store_bytes<uint32_t>(to, bytes);
    default:
      return store_bytes<uint64_t>(to, bytes);
  }
}

}  // namespace fastinit::cuda
