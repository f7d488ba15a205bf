// Checks jumps of MT19937 alone, without torch or Python, so that it can run under sanitizers and emulators. Each jump
// is compared with plain stepping, from a seed's block, from one that the generator made, and from an injected one
// whose first word follows from nothing; jumps too far to step are compared with two that add up to them; and several
// threads jump at once. Prints one digest a starting block: two machines must print the same.
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/mt19937_jump.h"

namespace {

constexpr size_t kN = 624;
struct Block {
  uint32_t words[kN];
  bool operator==(const Block&) const = default;
};

[[noreturn]] void fail(const std::string& where, const char* what) {
  std::fprintf(stderr, "FAILED: %s: %s\n", where.c_str(), what);
  std::exit(1);
}

Block jump(const Block& from, uint64_t words) {
  Block to;
  fastinit::mt19937_jump(from.words, words, to.words);
  return to;
}

// ---- plain stepping

std::vector<uint32_t> sequence(const Block& start, size_t size) {
  std::vector<uint32_t> x(start.words, start.words + kN);
  x.resize(size);
  for (size_t i = kN; i < size; ++i) {
    const uint32_t y = (x[i - 624] & 0x80000000) | (x[i - 623] & 0x7FFFFFFF);
    x[i] = x[i - 227] ^ (y >> 1) ^ (y & 1 ? 0x9908B0DF : 0);
  }
  return x;
}

Block at(const std::vector<uint32_t>& x, size_t position) {
  Block block;
  std::copy_n(x.begin() + position, kN, block.words);
  return block;
}

// ---- what is checked

uint64_t random_state = 0x9E3779B97F4A7C15;

uint64_t random64() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  return random_state ^= random_state << 17;
}

constexpr size_t kFarthest = (size_t{1} << 24) + 5;  // that is stepped

std::vector<uint64_t> distances() {
  std::vector<uint64_t> all = {0, 1, 622, 623, 624, 625, 19936, 19937, 19967, 19968, 19969, 1 << 20, kFarthest};
  for (int i = 0; i < 40; ++i) all.push_back(random64() >> (40 + i % 12));
  return all;
}

Block seeded(uint32_t seed) {
  Block block;
  for (uint32_t i = 0; i < kN; ++i) {
    block.words[i] = seed;
    seed = 1812433253 * (seed ^ seed >> 30) + i + 1;
  }
  return block;
}

uint64_t check(const std::string& name, const Block& start) {
  uint64_t digest = 0xCBF29CE484222325;
  const std::vector<uint64_t> all = distances();
  const std::vector<uint32_t> stepped = sequence(start, kFarthest + kN);
  for (uint64_t words : all) {
    const Block found = jump(start, words);
    if (found != at(stepped, words)) fail(name + ", " + std::to_string(words) + " words", "differs from stepping");
    for (uint32_t word : found.words) digest = (digest ^ word) * 0x100000001B3;
  }

  for (uint64_t words : {uint64_t{1} << 40, uint64_t{1} << 63, ~uint64_t{0}}) {
    const uint64_t part = random64() % words;
    const Block whole = jump(start, words), parts = jump(jump(start, part), words - part);
    if (whole != parts) fail(name + ", " + std::to_string(words) + " words", "differs from two jumps");
    for (uint32_t word : whole.words) digest = (digest ^ word) * 0x100000001B3;
  }

  // No word after the block depends on the low 31 bits of its first, and every other bit counts.
  const Block far = jump(start, 1 << 20);
  Block other = start;
  other.words[0] ^= 0x7FFFFFFF;
  if (jump(other, 1 << 20) != far) fail(name, "bits that no step looks at matter");
  for (auto [word, bit] : {std::pair{0, 31}, {1, 0}, {1, 31}, {396, 7}, {623, 0}, {623, 31}}) {
    other = start;
    other.words[word] ^= uint32_t{1} << bit;
    if (jump(other, 1 << 20) == far) fail(name, "a changed bit does not matter");
  }
  return digest;
}

// Few threads, more distances than are remembered, each thread beginning with another.
void check_threads(const Block& start) {
  const std::vector<uint64_t> all = distances();
  std::vector<Block> expected;
  for (uint64_t words : all) expected.push_back(jump(start, words));
  std::array<bool, 4> equal{};
  std::vector<std::thread> threads;
  for (size_t t = 0; t < equal.size(); ++t) {
    threads.emplace_back([&, t] {
      equal[t] = true;
      for (size_t i = 0; i < all.size(); ++i) {
        const size_t k = (i + t * 3) % all.size();
        equal[t] = equal[t] && jump(start, all[k]) == expected[k];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (bool each : equal) {
    if (!each) fail("threads at once", "a jump differs from that of one thread");
  }
}

}  // namespace

int main() {
  const Block seed = seeded(5489), made = at(sequence(seed, 2 * kN), kN);
  Block injected;
  for (uint32_t& word : injected.words) word = static_cast<uint32_t>(random64());
  std::printf("%016llx from a seed's block\n", static_cast<unsigned long long>(check("seed", seed)));
  std::printf("%016llx from a block made\n", static_cast<unsigned long long>(check("made", made)));
  std::printf("%016llx from an injected block\n", static_cast<unsigned long long>(check("injected", injected)));
  check_threads(made);
}
