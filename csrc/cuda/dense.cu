// Dense tensors of the laws that draw one value after another. A block of threads fills one chunk: a whole one whose
// vectors are aligned in a loop of 16-byte stores, without 64-bit arithmetic; any other one Philox block by one.
#include "../maths/normal.h"
#include "../maths/trunc_normal.h"
#include "../maths/uniform.h"
#include "device.h"
#include "philox.h"
#include "stores.h"

namespace fastinit::cuda {

template <class Store, class T>
FASTINIT_INLINE char* address(const DenseTensor<T>& tensor, int64_t element) {
  return tensor.data + (element - tensor.first) * static_cast<int64_t>(sizeof(typename Store::Element));
}

// The values of one Philox block, as elements.
template <class Law, class Store>
FASTINIT_INLINE void pack_values(const Law& law, Int even, Int odd, uint32_t* words) {
  const auto state = values_of(law, even, odd);
  Store::pack(state.even, state.odd, words);
}

template <class Law, class Store, class T>
FASTINIT_INLINE void fill_whole_chunk(const Law& law, const DenseTensor<T>& tensor, uint64_t block, char* to) {
  constexpr int kBlocks = 4 / Store::kWords;    // of Philox, to a vector
  constexpr int kUnroll = kBlocks > 2 ? 1 : 4;  // by the count of instructions an element
  const Philox<> philox(tensor.keys, static_cast<uint32_t>(block >> 32));
  uint32_t number = static_cast<uint32_t>(block) + threadIdx.x * kBlocks;
  const uint32_t end = number + static_cast<uint32_t>(kChunk / Law::kPerBlock);
  Vector* out = reinterpret_cast<Vector*>(to) + threadIdx.x;
#pragma unroll 1
  do {
    FASTINIT_UNROLL
    for (int u = 0; u < kUnroll; ++u) {
      Vector vector;
      FASTINIT_UNROLL
      for (int b = 0; b < kBlocks; ++b) {
        Int even, odd;
        philox.block(number + u * kThreads * kBlocks + b, even, odd);
        pack_values<Law, Store>(law, even, odd, vector.words + b * Store::kWords);
      }
      out[u * kThreads] = vector;
    }
    out += kUnroll * kThreads, number += kUnroll * kThreads * kBlocks;
  } while (number != end);
}

// Elements begin .. end of the stream.
template <class Law, class Store, class T>
FASTINIT_INLINE void fill_ragged_chunk(const Law& law, const DenseTensor<T>& tensor, int64_t begin, int64_t end) {
  constexpr int64_t kPerBlock = Law::kPerBlock;
#pragma unroll 1
  for (int64_t b = begin / kPerBlock + threadIdx.x; b * kPerBlock < end; b += kThreads) {
    Int even, odd;
    draw_block(tensor.keys, tensor.offset + b, even, odd);
    uint32_t words[Store::kWords];
    pack_values<Law, Store>(law, even, odd, words);
    const int64_t first = b * kPerBlock;
    store_some<Store>(words, begin - first, end - first, address<Store>(tensor, first), 1);
  }
}

template <class Law, class Store, class T>
FASTINIT_INLINE void fill_dense(const DenseTable<T>& table) {
  const int i = tensor_of_block(table);
  const DenseTensor<T>& tensor = table.tensors[i];
  const Law law(tensor.numbers);
  const int64_t first = (blockIdx.x - table.starts[i]) * kChunk;
  const int64_t begin = first > tensor.first ? first : tensor.first;
  const int64_t end = first + kChunk < tensor.end ? first + kChunk : tensor.end;
  const uint64_t block = tensor.offset + first / Law::kPerBlock;
  const bool wraps = static_cast<uint32_t>(block) > 0u - static_cast<uint32_t>(kChunk / Law::kPerBlock);
  char* to = address<Store>(tensor, first);
  if (end - begin == kChunk && reinterpret_cast<uintptr_t>(to) % kVector == 0 && !wraps) {
    fill_whole_chunk<Law, Store>(law, tensor, block, to);
  } else {
    fill_ragged_chunk<Law, Store>(law, tensor, begin, end);
  }
}

// Two blocks of threads to a multiprocessor are enough: a turn of the loop has four independent vectors.
#define FASTINIT_DENSE(law, Law, type, Store, T) \
  FASTINIT_KERNEL(fastinit_dense_##law##_##type, DenseTable<T>, kThreads, 2) { fill_dense<Law<Lanes>, Store>(table); }
#define FASTINIT_DENSE_LAWS(type, Store)               \
  FASTINIT_DENSE(uniform, Uniform, type, Store, float) \
  FASTINIT_DENSE(normal, Normal, type, Store, float)   \
  FASTINIT_DENSE(trunc_normal, TruncNormal, type, Store, float)

FASTINIT_DENSE_LAWS(float32, StoreFloat32)
FASTINIT_DENSE_LAWS(bfloat16, StoreBFloat16)
FASTINIT_DENSE_LAWS(float16, StoreFloat16)
FASTINIT_DENSE_LAWS(float8_e4m3fn, StoreFloat8E4M3FN)
FASTINIT_DENSE_LAWS(float8_e5m2, StoreFloat8E5M2)
FASTINIT_DENSE(uniform, Uniform64, float64, StoreFloat64, double)
FASTINIT_DENSE(normal, Normal64, float64, StoreFloat64, double)
FASTINIT_DENSE(trunc_normal, TruncNormal64, float64, StoreFloat64, double)

}  // namespace fastinit::cuda
