// What PTX's instructions compute, for the functions that ptx_to_cpp.py writes. Registers are unsigned integers of
// their width; these functions know nothing of memory or threads.
//
// rsqrt.approx and rcp.approx may return any number within the error that the PTX ISA documents, and do so here: a
// kernel whose result depends on which one does not survive the ladder. They are refused outside the range for which
// the steps that follow them in csrc/cuda are proven to round correctly.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "emulator.h"

namespace ptx {

// ---- bits and numbers

inline float f32(uint32_t bits) { return std::bit_cast<float>(bits); }
inline double f64(uint64_t bits) { return std::bit_cast<double>(bits); }
inline uint32_t bits(float x) { return std::bit_cast<uint32_t>(x); }
inline uint64_t bits(double x) { return std::bit_cast<uint64_t>(x); }

// ---- the two approximate instructions

inline constexpr float kLeastRsqrt = 0x1p-101f, kMostRsqrt = 0x1p127f;
inline constexpr float kLeastRcp = 0x1p-126f, kMostRcp = 0x1p126f;
inline const double kRsqrtError =
    std::exp2(-22.9);  // relative: "rsqrt.approx.ftz.f32 has a maximum relative error of 2^-22.9"

// A choice from [-1, 1]: both ends often, for they are the likeliest to show a dependence.
inline double any_within() {
  const uint64_t random = emulator::next_random();
  switch (random >> 61) {
    case 0:
      return -1.0;
    case 1:
      return 1.0;
    default:
      return static_cast<double>(static_cast<int64_t>(random << 3)) * 0x1p-63;
  }
}

inline float rsqrt_approx(float x, int line) {
  if (!(x >= kLeastRsqrt && x <= kMostRsqrt)) emulator::die("rsqrt.approx of a number outside the proven range", line);
  const double exact = 1.0 / std::sqrt(static_cast<double>(x));
  float y = static_cast<float>(exact * (1.0 + any_within() * kRsqrtError));
  if (std::abs(y / exact - 1.0) > kRsqrtError) y = std::nextafter(y, static_cast<float>(exact));
  return y;
}

// "rcp.approx.ftz.f32 ... max ulp 1": the numbers at most one unit in the last place of 1/x away from it.
inline float rcp_approx(float x, int line) {
  if (!(x >= kLeastRcp && x <= kMostRcp)) emulator::die("rcp.approx of a number outside the proven range", line);
  const double exact = 1.0 / static_cast<double>(x);
  const double ulp = std::ldexp(1.0, std::ilogb(exact) - 23);
  float y = static_cast<float>(exact + any_within() * ulp);
  if (std::abs(y - exact) > ulp) y = std::nextafter(y, static_cast<float>(exact));
  return std::max(y, std::numeric_limits<float>::min());  // .ftz: never subnormal
}

// ---- conversions between floats and integers

// cvt.rzi: towards zero, saturated. "NaN input results in ... zero if source is not .f64 and destination is not .s64,
// .u64; otherwise 1 << (BitWidth(dst) - 1)".
template <class To, class From>
To to_integer(From x) {
  if (std::isnan(x)) {
    constexpr bool kIsZero = sizeof(From) < 8 && sizeof(To) < 8;
    return kIsZero ? To{0} : static_cast<To>(std::make_unsigned_t<To>{1} << (8 * sizeof(To) - 1));
  }
  constexpr To kLeast = std::numeric_limits<To>::min(), kMost = std::numeric_limits<To>::max();
  if (x <= static_cast<From>(kLeast)) return kLeast;
  if (x >= static_cast<From>(kMost)) return kMost;
  return static_cast<To>(x);
}

// ---- narrow floats: cvt.rn.f16.f32 and cvt.rn.bf16.f32 round once to nearest even; NaN becomes 0x7FFF

inline uint16_t to_bf16(float x) {
  if (std::isnan(x)) return 0x7FFF;
  const uint32_t b = bits(x), kept = b >> 16, dropped = b & 0xFFFFu;
  return static_cast<uint16_t>(kept + (dropped > 0x8000u || (dropped == 0x8000u && (kept & 1u) != 0)));
}

inline float from_bf16(uint16_t h) { return f32(uint32_t{h} << 16); }

inline float from_f16(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  float x = exponent == 0 ? std::ldexp(static_cast<float>(mantissa), -24)
                          : std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  if (exponent == 31)
    x = mantissa != 0 ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  return (h >> 15) != 0 ? -x : x;
}

inline uint16_t to_f16(float x) {
  if (std::isnan(x)) return 0x7FFF;
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double size = std::abs(static_cast<double>(x));
  if (size >= 65520.0) return sign | 0x7C00;
  const int exponent = size < 0x1p-14 ? -14 : std::ilogb(size);
  // In units of the last place: a whole number of at most 11 bits, and a carry goes on into the exponent by itself.
  const auto units = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, 10 - exponent)));
  return static_cast<uint16_t>(sign | (units + (static_cast<uint32_t>(exponent + 14) << 10)));
}

// d = {high half from a, low half from b}: cvt.rn.bf16x2.f32 d, a, b.
inline uint32_t to_bf16x2(float high, float low) { return uint32_t{to_bf16(high)} << 16 | to_bf16(low); }
inline uint32_t to_f16x2(float high, float low) { return uint32_t{to_f16(high)} << 16 | to_f16(low); }

// ---- minimum and maximum: of a number and NaN the number, and -0 below +0

template <class T>
T least(T a, T b) {
  if (a == b) return std::signbit(a) ? a : b;
  return std::fmin(a, b);
}
template <class T>
T most(T a, T b) {
  if (a == b) return std::signbit(a) ? b : a;
  return std::fmax(a, b);
}

template <class Choose>
uint32_t of_halves(uint32_t a, uint32_t b, const Choose& choose) {
  const auto high = choose(static_cast<uint16_t>(a >> 16), static_cast<uint16_t>(b >> 16));
  return uint32_t{high} << 16 | choose(static_cast<uint16_t>(a), static_cast<uint16_t>(b));
}
inline uint16_t least_bf16(uint16_t a, uint16_t b) { return to_bf16(least(from_bf16(a), from_bf16(b))); }
inline uint16_t most_bf16(uint16_t a, uint16_t b) { return to_bf16(most(from_bf16(a), from_bf16(b))); }
inline uint16_t least_f16(uint16_t a, uint16_t b) { return to_f16(least(from_f16(a), from_f16(b))); }
inline uint16_t most_f16(uint16_t a, uint16_t b) { return to_f16(most(from_f16(a), from_f16(b))); }

// ---- integers

template <class T>
T divided(T a, T b, int line) {
  if (b == 0) emulator::die("division by zero", line);
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return static_cast<T>(0 - static_cast<std::make_unsigned_t<T>>(a));
  }
  return static_cast<T>(a / b);
}
template <class T>
T remainder(T a, T b, int line) {
  if (b == 0) emulator::die("remainder of a division by zero", line);
  if constexpr (std::is_signed_v<T>) {
    if (b == -1) return 0;
  }
  return static_cast<T>(a % b);
}

inline uint32_t high_product(uint32_t a, uint32_t b) { return static_cast<uint32_t>(uint64_t{a} * b >> 32); }
inline uint32_t high_product(int32_t a, int32_t b) { return static_cast<uint32_t>(int64_t{a} * b >> 32); }
inline uint64_t high_product(uint64_t a, uint64_t b) {
  return static_cast<uint64_t>(static_cast<unsigned __int128>(a) * b >> 64);
}
inline uint64_t high_product(int64_t a, int64_t b) { return static_cast<uint64_t>(static_cast<__int128>(a) * b >> 64); }

// Shifts by any amount: as by the register's width if it is more.
template <class T>
T shifted_left(T a, uint32_t by) {
  return by >= 8 * sizeof(T) ? T{0} : static_cast<T>(a << by);
}
template <class T>
T shifted_right(T a, uint32_t by) {
  if (by >= 8 * sizeof(T)) return std::is_signed_v<T> && a < 0 ? static_cast<T>(-1) : T{0};
  return static_cast<T>(a >> by);
}

// shf: the high (left) or low (right) half of high:low shifted.
inline uint32_t funnel_left(uint32_t low, uint32_t high, uint32_t by) {
  return static_cast<uint32_t>(((uint64_t{high} << 32 | low) << by) >> 32);
}
inline uint32_t funnel_right(uint32_t low, uint32_t high, uint32_t by) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> by);
}

// lop3: bit i of the result is bit (a_i << 2 | b_i << 1 | c_i) of the table.
inline uint32_t lop3(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
  uint32_t result = 0;
  for (uint32_t row = 0; row < 8; ++row) {
    if ((table >> row & 1u) != 0) result |= ((row & 4u) ? a : ~a) & ((row & 2u) ? b : ~b) & ((row & 1u) ? c : ~c);
  }
  return result;
}

// prmt: each byte of the result is a byte of b:a, or eight times its sign.
inline uint32_t permuted(uint32_t a, uint32_t b, uint32_t selectors) {
  const uint64_t bytes = uint64_t{b} << 32 | a;
  uint32_t result = 0;
  for (int i = 0; i < 4; ++i) {
    const uint32_t selector = selectors >> 4 * i & 15u;
    uint32_t byte = static_cast<uint32_t>(bytes >> 8 * (selector & 7u)) & 255u;
    if ((selector & 8u) != 0) byte = (byte & 128u) != 0 ? 255u : 0u;
    result |= byte << 8 * i;
  }
  return result;
}

// bfe and bfi: position and length are the low bytes of their operands.
template <class T>
T extracted_bits(T a, uint32_t position, uint32_t length) {  // unsigned
  position &= 255u, length &= 255u;
  const T field = shifted_right(a, position);
  return length >= 8 * sizeof(T) ? field : static_cast<T>(field & static_cast<T>((T{1} << length) - 1));
}
template <class T>
T inserted_bits(T field, T into, uint32_t position, uint32_t length) {
  position &= 255u, length &= 255u;
  const T ones = length >= 8 * sizeof(T) ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << length) - 1);
  const T mask = shifted_left(ones, position);
  return static_cast<T>((into & static_cast<T>(~mask)) | (shifted_left(field, position) & mask));
}

}  // namespace ptx
