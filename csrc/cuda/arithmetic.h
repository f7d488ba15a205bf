// Single IEEE-754 operations, on the device as intrinsics that no compiler may contract, on the CPU (the shim of
// tests/cuda) as C++'s own.
#pragma once

#include <cmath>
#include <cstring>

#include "../maths/inline.h"

namespace fastinit::cuda {

#if defined(__CUDA_ARCH__)

FASTINIT_INLINE float add(float a, float b) { return __fadd_rn(a, b); }
FASTINIT_INLINE float subtract(float a, float b) { return __fsub_rn(a, b); }
FASTINIT_INLINE float multiply(float a, float b) { return __fmul_rn(a, b); }
FASTINIT_INLINE float multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }

// The steps that ptxas makes of sqrt.rn for x in [2^-101, 2^128), without its test of that range and its call; all
// arguments here are in [2^-80, 2^8].
FASTINIT_INLINE float square_root(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  const float root = multiply(x, y), half = multiply(y, 0.5f);
  return multiply_add(multiply_add(-root, root, x), half, root);
}

// The steps that ptxas makes of div.rn where neither a, b nor the quotient is near the ends of the exponent's range,
// without its test of that; here they are in [2^-5, 2^20].
FASTINIT_INLINE float divide(float a, float b) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(b));
  y = multiply_add(y, multiply_add(-b, y, 1.0f), y);
  const float quotient = multiply(a, y);
  return multiply_add(y, multiply_add(-b, quotient, a), quotient);
}

// Of +0 and -0 these return what they like, where the CPU's return the second: see settle_zero in general.cu.
FASTINIT_INLINE float smaller(float a, float b) { return fminf(a, b); }
FASTINIT_INLINE float larger(float a, float b) { return fmaxf(a, b); }

FASTINIT_INLINE float float_of(int32_t a) { return __int2float_rn(a); }
FASTINIT_INLINE float float_of(uint32_t a) { return __uint2float_rn(a); }
FASTINIT_INLINE uint32_t bits_of(float a) { return __float_as_uint(a); }
FASTINIT_INLINE float float_of_bits(uint32_t a) { return __uint_as_float(a); }

FASTINIT_INLINE double add(double a, double b) { return __dadd_rn(a, b); }
FASTINIT_INLINE double subtract(double a, double b) { return __dsub_rn(a, b); }
FASTINIT_INLINE double multiply(double a, double b) { return __dmul_rn(a, b); }
FASTINIT_INLINE double multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }
FASTINIT_INLINE double square_root(double a) { return __dsqrt_rn(a); }
FASTINIT_INLINE double divide(double a, double b) { return __ddiv_rn(a, b); }
FASTINIT_INLINE double smaller(double a, double b) { return fmin(a, b); }
FASTINIT_INLINE double larger(double a, double b) { return fmax(a, b); }
FASTINIT_INLINE double double_of(uint64_t a) { return __ull2double_rn(a); }
FASTINIT_INLINE uint64_t bits_of(double a) { return static_cast<uint64_t>(__double_as_longlong(a)); }
FASTINIT_INLINE double double_of_bits(uint64_t a) { return __longlong_as_double(static_cast<int64_t>(a)); }

// A product of 32-bit words: the compiler's own is followed by an addition of zero.
FASTINIT_INLINE void multiply_words(uint32_t a, uint32_t b, uint32_t& low, uint32_t& high) {
  asm("{.reg .u64 t; mul.wide.u32 t, %2, %3; mov.b64 {%0, %1}, t;}" : "=r"(low), "=r"(high) : "r"(a), "r"(b));
}

#else

FASTINIT_INLINE float add(float a, float b) { return a + b; }
FASTINIT_INLINE float subtract(float a, float b) { return a - b; }
FASTINIT_INLINE float multiply(float a, float b) { return a * b; }
FASTINIT_INLINE float multiply_add(float a, float b, float c) { return std::fma(a, b, c); }
FASTINIT_INLINE float square_root(float a) { return std::sqrt(a); }
FASTINIT_INLINE float divide(float a, float b) { return a / b; }
FASTINIT_INLINE float smaller(float a, float b) { return std::fmin(a, b); }
FASTINIT_INLINE float larger(float a, float b) { return std::fmax(a, b); }
FASTINIT_INLINE float float_of(int32_t a) { return static_cast<float>(a); }
FASTINIT_INLINE float float_of(uint32_t a) { return static_cast<float>(a); }
FASTINIT_INLINE double add(double a, double b) { return a + b; }
FASTINIT_INLINE double subtract(double a, double b) { return a - b; }
FASTINIT_INLINE double multiply(double a, double b) { return a * b; }
FASTINIT_INLINE double multiply_add(double a, double b, double c) { return std::fma(a, b, c); }
FASTINIT_INLINE double square_root(double a) { return std::sqrt(a); }
FASTINIT_INLINE double divide(double a, double b) { return a / b; }
FASTINIT_INLINE double smaller(double a, double b) { return std::fmin(a, b); }
FASTINIT_INLINE double larger(double a, double b) { return std::fmax(a, b); }
FASTINIT_INLINE double double_of(uint64_t a) { return static_cast<double>(a); }

template <class To, class From>
FASTINIT_INLINE To same_bits(From from) {
  To to;
  std::memcpy(&to, &from, sizeof to);
  return to;
}
FASTINIT_INLINE uint32_t bits_of(float a) { return same_bits<uint32_t>(a); }
FASTINIT_INLINE float float_of_bits(uint32_t a) { return same_bits<float>(a); }
FASTINIT_INLINE uint64_t bits_of(double a) { return same_bits<uint64_t>(a); }
FASTINIT_INLINE double double_of_bits(uint64_t a) { return same_bits<double>(a); }

FASTINIT_INLINE void multiply_words(uint32_t a, uint32_t b, uint32_t& low, uint32_t& high) {
  const uint64_t product = static_cast<uint64_t>(a) * b;
  low = static_cast<uint32_t>(product), high = static_cast<uint32_t>(product >> 32);
}

#endif

}  // namespace fastinit::cuda
