// Tensors that dense.cu does not take: any layout, windows in a tail of the normal law, bounds that are zero. A thread
// computes one Philox block after another and stores those of its values that are in the row.
#include "../maths/normal.h"
#include "../maths/trunc_normal.h"
#include "../maths/uniform.h"
#include "device.h"
#include "philox.h"
#include "rows.h"
#include "stores.h"

namespace fastinit::cuda {

// Where a bound is zero, a value that is zero gets its sign, as from the comparisons on the CPU: min and max of the
// device may return either zero.
template <class T>
FASTINIT_INLINE float settle_zero(float x, const GeneralTensor<T>& tensor) {
  return tensor.settles_zero && x == 0.0f ? tensor.zero : x;
}
template <class T>
FASTINIT_INLINE Float settle_zero(Float x, const GeneralTensor<T>& tensor) {
  return {settle_zero(x.low, tensor), settle_zero(x.high, tensor)};
}
template <class T>
FASTINIT_INLINE Double settle_zero(Double x, const GeneralTensor<T>& tensor) {
  return {tensor.settles_zero && x.v == 0.0 ? tensor.zero : x.v};
}

template <class Store, class Value>
FASTINIT_INLINE void store_values(const Rows& rows, Value even, Value odd, int64_t first, char* row) {
  uint32_t words[Store::kWords];
  Store::pack(even, odd, words);
  const int64_t to = first * rows.stride * static_cast<int64_t>(sizeof(typename Store::Element));
  store_some<Store>(words, -first, rows.length - first, row + to, rows.stride);
}

// Values first, first + 1, ... of the row, `first` being negative where the block begins before it.
FASTINIT_INLINE void store_values(const Rows& rows, Float even, Float odd, int64_t first, char* row) {
  switch (rows.dtype) {
    case DType::kBFloat16:
      return store_values<StoreBFloat16>(rows, even, odd, first, row);
    case DType::kFloat16:
      return store_values<StoreFloat16>(rows, even, odd, first, row);
    case DType::kFloat8E4M3FN:
      return store_values<StoreFloat8E4M3FN>(rows, even, odd, first, row);
    case DType::kFloat8E5M2:
      return store_values<StoreFloat8E5M2>(rows, even, odd, first, row);
    default:
      return store_values<StoreFloat32>(rows, even, odd, first, row);
  }
}
FASTINIT_INLINE void store_values(const Rows& rows, Double even, Double odd, int64_t first, char* row) {
  store_values<StoreFloat64>(rows, even, odd, first, row);
}

template <class Law, class T>
FASTINIT_INLINE void fill_general(const GeneralTable<T>& table) {
  const int i = tensor_of_block(table);
  const GeneralTensor<T>& tensor = table.tensors[i];
  const Rows& rows = tensor.rows;
  const Law law(tensor.numbers);
  const int64_t begin = static_cast<int64_t>(blockIdx.x - table.starts[i]) * kUnits;
  const int64_t end = begin + kUnits < rows.units ? begin + kUnits : rows.units;
#pragma unroll 1
  for (int64_t unit = begin + threadIdx.x; unit < end; unit += kThreads) {
    const int64_t row = unit / rows.groups, group = unit - row * rows.groups;
    const Place place = row_place(rows, row);
    const uint64_t block = place.index / Law::kPerBlock + static_cast<uint64_t>(group);
    const int64_t first = static_cast<int64_t>(block * Law::kPerBlock - place.index);
    if (first >= rows.length) continue;
    Int even, odd;
    draw_block(tensor.keys, tensor.offset + block, even, odd);
    const auto state = values_of(law, even, odd);
    char* const to = rows.data + place.memory * item_size(rows.dtype);
    store_values(rows, settle_zero(state.even, tensor), settle_zero(state.odd, tensor), first, to);
  }
}

#define FASTINIT_GENERAL(law, Law, type, T) \
  FASTINIT_KERNEL(fastinit_general_##law##_##type, GeneralTable<T>, kThreads, 2) { fill_general<Law<Lanes>>(table); }
FASTINIT_GENERAL(uniform, Uniform, float32, float)
FASTINIT_GENERAL(normal, Normal, float32, float)
FASTINIT_GENERAL(trunc_normal, TruncNormal, float32, float)
FASTINIT_GENERAL(trunc_normal_tail, TruncNormalTail, float32, float)
FASTINIT_GENERAL(uniform, Uniform64, float64, double)
FASTINIT_GENERAL(normal, Normal64, float64, double)
FASTINIT_GENERAL(trunc_normal, TruncNormal64, float64, double)

}  // namespace fastinit::cuda
