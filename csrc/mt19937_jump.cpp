// Jumps by polynomial arithmetic modulo 2 (Haramoto, Matsumoto, Nishimura, Panneton and L'Ecuyer, 2008). One step of
// the generator, x_0 .. x_623 -> x_1 .. x_624, is a linear map F of 19968 bits, so its characteristic polynomial P has
// P(F) = 0, and if t^n = sum of g_i t^i modulo P, then x_{n+j} = sum of g_i x_{i+j}: some 10000 of the next 19968
// words, added up, whatever n is.
#include "mt19937_jump.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <mutex>
#include <utility>

namespace fastinit {
namespace {

constexpr int kN = 624, kM = 397;
constexpr uint32_t kTwist = 0x9908B0DF;

// ---- t^n modulo P

constexpr int kWords = 312;  // of a polynomial of degree below 19968
struct Polynomial {
  uint64_t words[kWords];  // coefficient of t^i at bit i % 64 of word i / 64
};

// t^(64 word + shift)
struct Term {
  int word, shift;
};
constexpr int kTerms = 134;

// The terms of P but the first, t^19968, by rising exponents. Matsumoto and Nishimura (1998) give t^-31 P in closed
// form (the 31 bits of x_0 that no step looks at are the factor t^31); with s = t^623 + t^396 it is
//   t (s^32 + sum of a_i s^(31 - i)) + 1,  a_i the bits of kTwist, i < 31.
// Modulo 2, s^k has the term t^(396 k + 227 j) wherever every bit of j is one of k's.
constexpr std::array<Term, kTerms> other_terms() {
  std::array<int, kTerms + 1> exponents{31};
  int count = 1;
  for (int k = 1; k <= 32; ++k) {
    if (k < 32 && (kTwist >> (31 - k) & 1) == 0) continue;
    for (int j = 0; j <= k; ++j) {
      if ((j & ~k) == 0) exponents[count++] = 31 + 1 + (kM - 1) * k + (kN - kM) * j;
    }
  }
  std::sort(exponents.begin(), exponents.end());
  std::array<Term, kTerms> terms{};
  for (int i = 0; i < kTerms; ++i) terms[i] = {exponents[i] / 64, exponents[i] % 64};
  return terms;
}
constexpr std::array<Term, kTerms> kP = other_terms();

// Sixteen bytes; GCC keeps arrays of these in registers, and arrays of integers in memory.
template <typename Word>
using Vector [[gnu::vector_size(16)]] = Word;

template <typename Word>
Vector<Word> load(const Word* from) {
  Vector<Word> v;
  std::memcpy(&v, from, sizeof v);
  return v;
}

// The low 32 bits, each followed by a zero: the square of a polynomial.
uint64_t spread(uint64_t x) {
  x &= 0xFFFFFFFF;
  x = (x | x << 16) & 0x0000FFFF0000FFFF;
  x = (x | x << 8) & 0x00FF00FF00FF00FF;
  x = (x | x << 4) & 0x0F0F0F0F0F0F0F0F;
  x = (x | x << 2) & 0x3333333333333333;
  return (x | x << 1) & 0x5555555555555555;
}

// p = p^2 t^times_t modulo P.
void square(Polynomial& p, int times_t) {
  // Words 0 .. 311 of the square go to `low`; 312 .. 623, to be replaced, to `high`, with the zeros around it that are
  // read.
  constexpr int kBlock = 8;
  uint64_t padded[kWords + 2 * kBlock]{}, *const high = padded + kBlock;
  Polynomial low;
  for (int i = 0; i < kWords; ++i) {
    uint64_t* to = i < kWords / 2 ? low.words + 2 * i : high + 2 * i - kWords;
    to[0] = spread(p.words[i]) << times_t;
    to[1] = spread(p.words[i] >> 32) << times_t;
  }
  // Each term brings word w a part of high[w - word] and of the one below. These lie above all words of w's block of
  // eight, so a block at a time, the highest first, is replaced.
  static_assert(kP.back().word + 1 + kBlock <= kWords);
  const Term *first = kP.end(), *last = kP.end();
  for (int w = 2 * kWords - kBlock; w >= 0; w -= kBlock) {
    // The terms that reach a word of `high`.
    while (first > kP.begin() && w - first[-1].word - 1 < kWords) --first;
    while (last > kP.begin() && w + kBlock - 1 < last[-1].word) --last;
    uint64_t* block = w < kWords ? low.words + w : high + w - kWords;
    Vector<uint64_t> sums[kBlock / 2];
    std::memcpy(sums, block, sizeof sums);
    for (const Term* term = first; term < last; ++term) {
      const uint64_t* from = high + w - term->word;
      for (int k = 0; k < kBlock / 2; ++k) {
        sums[k] ^= load(from + 2 * k) << term->shift | load(from + 2 * k - 1) >> 1 >> (63 - term->shift);
      }
    }
    std::memcpy(block, sums, sizeof sums);
  }
  p = low;
}

// t^n modulo P: from the leading binary digits of n, which are the exponent of a monomial, to all of them.
Polynomial power(uint64_t n) {
  int digits = 0;  // yet to come
  while (n >> digits >= 64 * kWords) ++digits;
  Polynomial p{};
  p.words[(n >> digits) / 64] = uint64_t{1} << (n >> digits) % 64;
  while (digits-- > 0) square(p, n >> digits & 1);
  return p;
}

// The same; of the last few that took time, from memory: a model asks for the same distances again and again.
Polynomial recent_power(uint64_t n) {
  static std::mutex mutex;
  static std::array<std::pair<uint64_t, Polynomial>, 16> recent;
  static size_t oldest = 0;
  if (n < 64 * kWords) return power(n);  // so that no entry's 0 is ever meant
  {
    std::lock_guard lock(mutex);
    for (const auto& [exponent, p] : recent) {
      if (exponent == n) return p;
    }
  }
  const Polynomial p = power(n);
  std::lock_guard lock(mutex);
  recent[oldest++ % recent.size()] = {n, p};
  return p;
}

// ---- adding up words of the sequence

constexpr int kPart = 12;               // words of the polynomial that are taken at a time
constexpr int kSpan = 64 * kPart + kN;  // words of the sequence that they reach
static_assert(kWords % kPart == 0);

// Continues the sequence from its first 624 words.
void extend(uint32_t (&x)[kSpan]) {
  for (int i = 0; i + kN < kSpan; ++i) {
    const uint32_t y = (x[i] & 0x80000000) | (x[i + 1] & 0x7FFFFFFF);
    x[i + kN] = x[i + kM] ^ y >> 1 ^ (kTwist & -(y & 1));
  }
}

}  // namespace

void mt19937_jump(const uint32_t (&block)[624], uint64_t words, uint32_t (&out)[624]) {
  const Polynomial g = recent_power(words);
  // Coefficients are taken up to four at a time: multiples[c][i] is the sum of the words x_{i+b} for the bits b of 2c
  // + 1.
  uint32_t multiples[8][kSpan], (&x)[kSpan] = multiples[0];
  std::copy(std::begin(block), std::end(block), x);
  uint32_t sums[kN]{};
  for (int part = 0; part < kWords; part += kPart) {
    extend(x);
    for (int c = 1; c < 8; ++c) {
      const int top = std::bit_width(static_cast<unsigned>(c));
      const uint32_t* rest = multiples[c ^ 1 << (top - 1)];
      for (int i = 0; i < kSpan - top; ++i) multiples[c][i] = rest[i] ^ x[i + top];
    }
    const uint32_t* runs[16 * kPart];  // of 624 words, to be added
    int count = 0;
    for (int i = 0; i < kPart; ++i) {
      for (uint64_t rest = g.words[part + i]; rest != 0;) {
        const int bit = std::countr_zero(rest);
        runs[count++] = multiples[(rest >> bit & 15) >> 1] + 64 * i + bit;
        rest &= ~(uint64_t{15} << bit);
      }
    }
    constexpr int kVectors = 13;  // as many as there are registers for
    for (int j = 0; j < kN; j += 4 * kVectors) {
      Vector<uint32_t> sum[kVectors];
      std::memcpy(sum, sums + j, sizeof sum);
      for (int i = 0; i < count; ++i) {
        const uint32_t* run = runs[i] + j;
#pragma GCC unroll 16
        for (int k = 0; k < kVectors; ++k) sum[k] ^= load(run + 4 * k);
      }
      std::memcpy(sums + j, sum, sizeof sum);
    }
    std::copy(x + 64 * kPart, x + kSpan, x);
  }
  std::copy(std::begin(sums), std::end(sums), out);
}

}  // namespace fastinit
