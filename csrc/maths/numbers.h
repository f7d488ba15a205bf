// What a law's kernel needs: the numbers formed once on the host, in float64, from the arguments of the law.
// Plain structs, for host and device; a float32 kernel rounds each to float32 once.
#pragma once

#include "inline.h"

namespace fastinit {

enum class Law : uint8_t {
  kConstant,
  kUniform,
  kNormal,
  kTruncNormal,
  kTruncNormalTail,
  kDiagonal,
  kSparse,
  kSparseDraws
};
enum class DType : uint8_t { kFloat32, kFloat64, kBFloat16, kFloat16, kFloat8E4M3FN, kFloat8E5M2 };

FASTINIT_INLINE constexpr int64_t item_size(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
      return 8;
    case DType::kFloat32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    default:
      return 1;
  }
}

template <class T>
struct UniformOf {
  T span, low, high;  // `high` is the largest value that may be written
};
template <class T>
struct NormalOf {
  T mean, std;
};
// p = lower + width (k + 1/2) and 1 - p = upper + width (kMax - k + 1/2) for the draw k in [0, kMax]; `width` is the
// window's probability divided by the number of draws. Tail windows hold both multiplied by 2^64, and draws mirrored
// where `mirrored`. Values are clamped to [low, high].
template <class T>
struct TruncNormalOf {
  T width, lower, upper, mean, std, low, high;
  bool mirrored;
};

// T is double on the host, and the type of the arithmetic in the tables of CUDA kernels.
using UniformNumbers = UniformOf<double>;
using NormalNumbers = NormalOf<double>;
using TruncNormalNumbers = TruncNormalOf<double>;

// The bytes of a one at the elements first + group group_step + i step, for i < count and group < groups; all others
// are zero.
struct DiagonalNumbers {
  uint64_t one;
  int64_t first, step, count, group_step, groups;
};
// The bits of the type's smallest normal number, and of its smallest number where no processor flushes that to zero:
// what a draw that is zero by chance becomes, so that the zeros can be counted.
FASTINIT_INLINE constexpr uint64_t smallest_number(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 0x00800000;
    case DType::kFloat64:
      return uint64_t{1} << 52;
    case DType::kBFloat16:
      return 0x0080;
    default:
      return 1;
  }
}

struct SparseColumns;
struct SparseNumbers {
  NormalNumbers normal;
  const SparseColumns* columns;  // which elements are zero
};

union LawNumbers {
  uint64_t pattern;  // constant: the value's bytes
  UniformNumbers uniform;
  NormalNumbers normal;
  TruncNormalNumbers trunc_normal;
  DiagonalNumbers diagonal;
  SparseNumbers sparse;
};

}  // namespace fastinit
