// Measures the laws' maths against float64 (the float64 laws against long double) and prints one line a quantity:
// its name and its greatest absolute error. tests/test_accuracy.py holds each to its bound.
#include <cmath>
#include <cstdio>
#include <stdexcept>

#include "../../csrc/cpu/lanes_scalar.h"
#include "../../csrc/laws.h"
#include "../../csrc/maths/normal.h"
#include "../../csrc/maths/normal_cdf.h"
#include "../../csrc/maths/trunc_normal.h"

using namespace fastinit;
using V = scalar::Lanes;

namespace {

constexpr long double kPi = 3.14159265358979323846264338327950288L;

void report(const char* name, double error) { std::printf("%s %.3g\n", name, error); }

double greater(double a, double b) { return b > a || std::isnan(b) ? b : a; }

template <class Distribution>
void values(const Distribution& law, V::Int even, V::Int odd, typename Distribution::State& state) {
  law.start(even, odd, state);
  law.middle(state);
  law.finish(state);
}

LawNumbers standard_normal(DType dtype) {
  LawNumbers numbers{};
  normal_numbers(dtype, 0.0, 1.0, numbers);
  return numbers;
}

// Every float32 that a radius is computed from, and angles in small steps at the greatest radius.
void check_normal() {
  const Normal<V> law(standard_normal(DType::kFloat32));
  Normal<V>::State state;
  double radius_error = 0, angle_error = 0, z_error = 0;
  for (uint64_t r = 0; r < uint64_t{1} << 32;) {
    law.start(V::int32(static_cast<uint32_t>(r)), V::int32(0x40000000u), state);
    const double u = std::fma(static_cast<float>(static_cast<uint32_t>(r)), 0x1p-32f, 0x1p-33f);
    radius_error = greater(radius_error, std::abs(std::sqrt(state.radius.low) - std::sqrt(-2 * std::log(u))));
    const int bits_used = r == 0 ? 0 : 64 - __builtin_clzll(r);
    r += bits_used > 24 ? uint64_t{1} << (bits_used - 24) : 1;
  }
  auto z_at = [&](uint32_t r, uint32_t v) {
    values(law, V::int32(r), V::int32(v), state);
    const double u = std::fma(static_cast<float>(r), 0x1p-32f, 0x1p-33f), radius = std::sqrt(-2 * std::log(u));
    const double angle = 2 * static_cast<double>(kPi) * (v + 0.5) * 0x1p-32;
    return greater(std::abs(state.even.low - radius * std::cos(angle)),
                   std::abs(state.odd.low - radius * std::sin(angle)));
  };
  for (uint64_t v = 0; v < uint64_t{1} << 32; v += 509) {
    angle_error = greater(angle_error, z_at(0, static_cast<uint32_t>(v)));
    uint32_t words[4];
    philox_block(7, v, words);
    z_error = greater(z_error, z_at(words[0] >> (words[2] & 31), words[1]));
  }
  report("normal_radius", radius_error);
  report("normal_z", greater(angle_error, z_error));
}

void check_normal64() {
  const Normal64<V> law(standard_normal(DType::kFloat64));
  Normal64<V>::State state;
  double error = 0;
  for (uint64_t i = 0; i < 2000000; ++i) {
    uint32_t w[4];
    philox_block(3, i, w);
    if (i % 4 == 0) w[0] >>= i / 4 % 32;
    if (i % 64 == 1) w[0] = 0, w[1] >>= i / 64 % 32;
    if (i % 64 == 2) w[0] = ~0u, w[1] |= ~0u << (i / 64 % 32);
    values(law, {w[0], w[2]}, {w[1], w[3]}, state);
    const uint64_t r = static_cast<uint64_t>(w[0]) << 32 | w[1], v = static_cast<uint64_t>(w[2]) << 32 | w[3];
    const double u = std::fma(static_cast<double>(r), 0x1p-64, 0x1p-65);
    const long double radius = std::sqrt(-2 * std::log(static_cast<long double>(u)));
    const long double angle = 2 * kPi * (static_cast<long double>(v) + 0.5L) * 0x1p-64L;
    error = greater(error, std::abs(static_cast<double>(state.even.v - radius * std::cos(angle))));
    error = greater(error, std::abs(static_cast<double>(state.odd.v - radius * std::sin(angle))));
  }
  report("normal64_z", error);
}

// The error of z, seen as the distance of its probability from the draw's, over the density there.
template <class Distribution, class Draw>
double trunc_error(DType dtype, double a, double b, int bits, Draw draw) {
  LawNumbers numbers{};
  trunc_normal_numbers(dtype, 0.0, 1.0, a, b, numbers);
  const Distribution law(numbers);
  typename Distribution::State state;
  const long double root = std::sqrt(0.5L), draws = std::ldexp(1.0L, bits);
  auto upper = [&](long double x) { return std::erfc(x * root) / 2; };
  const long double p_a = upper(-a), q_a = upper(a), p_b = upper(-b), q_b = upper(b),
                    window = a > 0 ? q_a - q_b : p_b - p_a;
  double error = 0;
  auto at = [&](uint64_t k) {
    const double z = draw(law, state, k);
    const long double below = window * ((k + 0.5L) / draws), above = window * ((draws - k - 0.5L) / draws);
    const long double density = std::exp(-static_cast<long double>(z) * z / 2) / std::sqrt(2 * kPi);
    const long double off = z < 0 ? upper(-static_cast<long double>(z)) - (p_a + below) : (q_b + above) - upper(z);
    error = greater(error, std::abs(static_cast<double>(off / density)));
  };
  const uint64_t last = (uint64_t{1} << (bits - 1)) - 1 + (uint64_t{1} << (bits - 1));
  for (uint64_t i = 0; i < 20000; ++i) {
    at(i), at(last - i);
    at(i * 37), at(last - i * 37);
    uint32_t w[4];
    philox_block(11, i, w);
    at((static_cast<uint64_t>(w[0]) << 32 | w[1]) >> (64 - bits));
    at((static_cast<uint64_t>(w[2]) << 32 | w[3]) >> (64 - bits) >> (i % (bits - 1)));
  }
  return error;
}

void check_trunc_normal() {
  auto draw32 = [](const auto& law, auto& state, uint64_t k) {
    values(law, V::int32(static_cast<uint32_t>(k)), V::int32(static_cast<uint32_t>(k)), state);
    return static_cast<double>(state.even.low);
  };
  auto draw64 = [](const auto& law, auto& state, uint64_t k) {
    const V::Int even{static_cast<uint32_t>(k >> 32), 0}, odd{static_cast<uint32_t>(k), 0};
    values(law, even, odd, state);
    return state.even.v;
  };
  double central = 0, tail = 0, wide = 0;
  const double windows[][2] = {{-2, 2},  {-38, 38},  {-3, 3},    {2, 12},       {3, 12},   {0, 12},   {-1, 12},
                               {-12, 3}, {3.1, 3.3}, {-12, 3.1}, {-1e-3, 1e-3}, {-38, -1}, {-6, 0.5}, {-4, 38}};
  for (const auto& w : windows) {
    central = greater(central, trunc_error<TruncNormal<V>>(DType::kFloat32, w[0], w[1], 32, draw32));
    wide = greater(wide, trunc_error<TruncNormal64<V>>(DType::kFloat64, w[0], w[1], 53, draw64));
  }
  for (const auto& w : {std::pair{4.0, 12.0}, {-12.0, -5.0}, {11.5, 12.0}, {-38.0, -4.0}, {11.9, 38.0}, {5.0, 5.01}}) {
    tail = greater(tail, trunc_error<TruncNormalTail<V>>(DType::kFloat32, w.first, w.second, 32, draw32));
    wide = greater(wide, trunc_error<TruncNormal64<V>>(DType::kFloat64, w.first, w.second, 53, draw64));
  }
  report("trunc_normal_z", central);
  report("trunc_normal_tail_z", tail);
  report("trunc_normal64_z", wide);
}

// The host's own distribution function, relative.
void check_cdf() {
  double error = 0;
  for (double x = -8; x < 20; x += 0.00137) {
    const long double exact = std::erfc(static_cast<long double>(x) * std::sqrt(0.5L)) / 2;
    error = greater(error, std::abs(static_cast<double>(normal_upper_tail(x) / exact - 1)));
  }
  report("normal_cdf_relative", error);
}

}  // namespace

int main() {
  check_normal();
  check_normal64();
  check_trunc_normal();
  check_cdf();
}
