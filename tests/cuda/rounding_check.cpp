// How the square root and the division that csrc/cuda/arithmetic.h writes out round, for every seed that the
// approximate instruction before them may return: PTX ISA gives rsqrt.approx.ftz.f32 a relative error of at most
// 2^-22.9 and rcp.approx.ftz.f32 one of 1 unit in the last place. Enumerated, not sampled: all mantissas of the square
// root, and all arguments of the divisions that the truncated normal makes. Prints what it found; test_rounding.py says
// what that must be.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "../../csrc/cpu/lanes_scalar.h"
#include "../../csrc/maths/elementary.h"

namespace {

using fastinit::scalar::bits;
using fastinit::scalar::float_from_bits;
using Lanes = fastinit::scalar::Lanes;
using namespace fastinit;

struct Count {
  uint64_t arguments = 0, pairs = 0, wrong = 0;
};

void print(const char* name, const Count& c) {
  std::printf("%s: %llu arguments, %llu with their seeds, %llu not rounded correctly\n", name,
              static_cast<unsigned long long>(c.arguments), static_cast<unsigned long long>(c.pairs),
              static_cast<unsigned long long>(c.wrong));
}

// The steps of arithmetic.h from the seed on.
float root_from(float x, float y) {
  const float root = x * y, half = y * 0.5f;
  return std::fma(std::fma(-root, root, x), half, root);
}
float quotient_from(float a, float b, float y) {
  y = std::fma(y, std::fma(-b, y, 1.0f), y);
  const float quotient = a * y;
  return std::fma(y, std::fma(-b, quotient, a), quotient);
}

// Two binades: the steps scale exactly by powers of four.
Count square_roots() {
  Count count;
  const double bound = std::exp2(-22.9);
  for (uint32_t b = bits(1.0f); b < bits(4.0f); ++b) {
    const float x = float_from_bits(b), root = std::sqrt(x);
    const double exact = 1 / std::sqrt(static_cast<double>(x));
    const uint32_t last = bits(static_cast<float>(exact * (1 + bound)));
    ++count.arguments;
    for (uint32_t s = bits(static_cast<float>(exact * (1 - bound))); s <= last; ++s) {
      const float seed = float_from_bits(s);
      if (std::abs(seed / exact - 1) > bound) continue;
      ++count.pairs;
      count.wrong += root_from(x, seed) != root;
    }
  }
  return count;
}

// N(x) / D(x) for every float x in [low, high].
template <const auto& n, const auto& d>
Count quotients(float low, float high) {
  Count count;
  for (uint32_t b = bits(low); b <= bits(high); ++b) {
    const auto x = Lanes::f32(float_from_bits(b));
    const float above = horner<Lanes, n>(x).low, below = horner<Lanes, d>(x).low, quotient = above / below;
    const double exact = 1 / static_cast<double>(below);
    const uint32_t nearest = bits(static_cast<float>(exact));
    const double unit = static_cast<double>(float_from_bits(nearest + 1)) - float_from_bits(nearest);
    ++count.arguments;
    for (uint32_t s = nearest - 1; s <= nearest + 1; ++s) {
      if (std::abs(float_from_bits(s) - exact) > unit) continue;
      ++count.pairs;
      count.wrong += quotient_from(above, below, float_from_bits(s)) != quotient;
    }
  }
  return count;
}

}  // namespace

int main() {
  print("square root", square_roots());
  print("central quotient", (quotients<coefficients::kCentralN, coefficients::kCentralD>(0.0262f, 0.50001f)));
  print("tail quotient", (quotients<coefficients::kTailN, coefficients::kTailD>(3.5f, 14.5f)));
}
