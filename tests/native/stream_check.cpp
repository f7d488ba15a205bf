// Checks the torch stream's fills alone, without torch or Python, so that they can run under sanitizers and emulators:
// every law, type and way of drawing gives the same bytes and the same generator on every instruction set, in any
// number of parts and whatever lies around the memory, and the words are MT19937's. Prints one digest a case: two
// machines must print the same. (That the numbers are torch's is for the tests in Python.)
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

#include "../../csrc/cpu/isa.h"
#include "../../csrc/torch_fill.h"
#include "../../csrc/torch_sparse.h"

using namespace fastinit;

namespace {

int64_t checked = 0;

[[noreturn]] void fail(const std::string& where, const char* what) {
  std::fprintf(stderr, "FAILED: %s: %s\n", where.c_str(), what);
  std::exit(1);
}

TorchGenerator seeded(uint32_t seed, int64_t drawn) {
  TorchGenerator generator{};
  uint32_t* s = generator.engine.words;
  s[0] = seed;
  for (uint32_t j = 1; j < Mt19937::kWords; ++j) s[j] = 1812433253u * (s[j - 1] ^ (s[j - 1] >> 30)) + j;
  generator.engine.next = Mt19937::kWords;
  generator.engine.discard(drawn);
  return generator;
}

uint32_t next_word(Mt19937& engine) {
  engine.discard(1);
  uint32_t y = engine.words[engine.next - 1];
  y ^= y >> 11;
  y ^= y << 7 & 0x9D2C5680u;
  y ^= y << 15 & 0xEFC60000u;
  return y ^ y >> 18;
}

Workers in_parts(int threads) {
  return {threads, [](int64_t tasks, const std::function<void(int64_t)>& run) {
            std::vector<std::thread> running;
            for (int64_t task = 0; task < tasks; ++task) running.emplace_back(run, task);
            for (std::thread& thread : running) thread.join();
          }};
}

enum class Way { kUniform, kBlocks, kSerial, kTruncated };
constexpr const char* kWayNames[] = {"uniform", "normal in blocks", "serial normal", "truncated"};

// Guarded memory, its tensor filled by `threads`; everything that the fill left behind, as bytes.
std::string filled(Way way, DType dtype, int64_t elements, bool strided, int threads) {
  const int64_t item = item_size(dtype), step = strided ? 3 : 1, rows = strided && elements % 5 == 0 ? 5 : 1;
  constexpr int64_t kGuard = 64;
  std::string memory(elements * step * item + 2 * kGuard, '\x5A');
  TorchTarget target{memory.data() + kGuard, dtype, elements, {}, way != Way::kSerial};
  if (strided) target.axes = {{elements / rows, step}, {rows, elements / rows * step}};
  TorchGenerator generator = seeded(5, 100);
  if (way == Way::kSerial && elements % 2 == 1) generator.next_normal = 0.25;
  switch (way) {
    case Way::kUniform:
      torch_uniform(target, -0.7, 0.9, generator, in_parts(threads));
      break;
    case Way::kTruncated:
      torch_trunc_normal(target, {0.1, 1.0}, -0.9, 1.1, generator, in_parts(threads));
      break;
    default:
      torch_normal(target, {0.3, 0.02}, generator, in_parts(threads));
  }
  for (int64_t i = 0; i < elements * step; ++i) {
    if (i % step == 0) continue;
    for (int64_t byte = 0; byte < item; ++byte) {
      if (memory[kGuard + i * item + byte] != '\x5A') fail(kWayNames[static_cast<int>(way)], "wrote between elements");
    }
  }
  const std::string guard(kGuard, '\x5A');
  if (memory.compare(0, kGuard, guard) != 0 || memory.compare(memory.size() - kGuard, kGuard, guard) != 0) {
    fail(kWayNames[static_cast<int>(way)], "wrote outside the tensor");
  }
  checked += elements;
  memory.append(reinterpret_cast<const char*>(&generator.engine), sizeof generator.engine);
  return memory + std::to_string(generator.next_normal.value_or(-1));
}

// Guarded memory of ones in which `zero(matrix, engine)` made zeros, and the generator.
template <class Zero>
std::string zeroed(Matrix matrix, int item, const Zero& zero) {
  constexpr int64_t kGuard = 64;
  const int64_t last = (matrix.rows - 1) * matrix.row_stride + (matrix.columns - 1) * matrix.column_stride;
  std::string memory((last + 1) * item + 2 * kGuard, '\xFF');
  matrix.data = memory.data() + kGuard;
  Mt19937 engine = seeded(5, 100).engine;
  zero(matrix, engine);
  checked += matrix.rows * matrix.columns;
  return memory.append(reinterpret_cast<const char*>(&engine), sizeof engine);
}

// As torch does it: a permutation for each column.
void zero_by_shuffles(const Matrix& matrix, int item, int64_t zeros, Mt19937& engine) {
  std::vector<int64_t> permutation(matrix.rows);
  for (int64_t column = 0; column < matrix.columns; ++column) {
    std::iota(permutation.begin(), permutation.end(), 0);
    for (int64_t i = 0; i < matrix.rows - 1; ++i) {
      std::swap(permutation[i], permutation[i + next_word(engine) % (matrix.rows - i)]);
    }
    for (int64_t i = 0; i < zeros; ++i) {
      const int64_t place = permutation[i] * matrix.row_stride + column * matrix.column_stride;
      std::memset(matrix.data + place * item, 0, item);
    }
  }
}

void check_zeros(int64_t rows, int64_t columns, int item) {
  const Matrix layouts[] = {{nullptr, rows, columns, columns, 1},         {nullptr, rows, columns, 1, rows},
                            {nullptr, rows, columns, columns + 5, 1},     {nullptr, rows, columns, 1, rows + 5},
                            {nullptr, rows, columns, 2 * columns + 1, 2}, {nullptr, rows, columns, 3, 3 * rows}};
  for (const Matrix& matrix : layouts) {
    for (const int64_t zeros : {int64_t{0}, int64_t{1}, (rows + 2) / 3, rows - 1, rows}) {
      const std::string expected = zeroed(
          matrix, item, [&](const Matrix& each, Mt19937& engine) { zero_by_shuffles(each, item, zeros, engine); });
      for (const Isa& isa : available_isas()) {
        use_isa(isa.name);
        for (const int threads : {1, 3}) {
          if (zeroed(matrix, item, [&](const Matrix& each, Mt19937& engine) {
                torch_sparse(each, item, zeros, engine, in_parts(threads));
              }) != expected) {
            fail(std::string("zeros on ") + isa.name, "differ from those by shuffles");
          }
        }
      }
    }
  }
}

uint64_t digest(const std::string& bytes) {
  uint64_t h = 0xCBF29CE484222325u;
  for (const unsigned char byte : bytes) h = (h ^ byte) * 0x100000001B3u;
  return h;
}

// MT19937's ten thousandth word after seed 5489 is known (ISO C++, [rand.predef]).
void check_words() {
  const std::string where = std::string("MT19937 on ") + isa().name;
  TorchGenerator generator = seeded(5489, 9999);
  float value;
  isa().torch.uniform(generator.engine, DType::kFloat32, {0.0, 1.0, 1.0f}, &value, 1);
  if (value != static_cast<float>(4123659995u & 0xFFFFFFu) * 0x1p-24f) fail(where, "wrong word");
  // Far ahead: by a jump, and in steps too short for one.
  Mt19937 jumped = seeded(7, 11).engine, stepped = jumped;
  jumped.discard(10'000'000);
  for (int i = 0; i < 1000; ++i) stepped.discard(10'000);
  if (std::memcmp(&jumped, &stepped, sizeof jumped) != 0) fail(where, "a jump and steps differ");
}

}  // namespace

int main() {
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16};
  constexpr const char* kTypeNames[] = {"float32", "float64", "bfloat16", "float16"};
  const int64_t sizes[] = {16, 17, 31, 32, 47, 100, 623, 640, 1000, 4095, (3 << 17) + 35};
  std::string names;
  for (const Isa& each : available_isas()) {
    use_isa(each.name);
    check_words();
    names += std::string(" ") + each.name;
  }
  for (const int item : {2, 4, 8}) {
    for (const auto& [rows, columns] : {std::pair{1, 3}, {2, 40}, {7, 33}, {33, 7}, {625, 31}}) {
      check_zeros(rows, columns, item);
    }
  }
  check_zeros(4100, 97, 4);  // of which threads take parts
  for (const Way way : {Way::kUniform, Way::kBlocks, Way::kSerial, Way::kTruncated}) {
    for (int type = 0; type < 4; ++type) {
      for (const bool strided : {false, true}) {
        if (strided && (way == Way::kBlocks || way == Way::kTruncated)) continue;  // these are for dense memory
        const std::string where =
            std::string(kWayNames[static_cast<int>(way)]) + (strided ? " strided " : " ") + kTypeNames[type];
        std::string all;
        for (const int64_t size : sizes) {
          std::string expected;
          for (const Isa& each : available_isas()) {
            use_isa(each.name);
            for (const int threads : {1, 2, 3}) {
              if (size < 10'000 && threads > 1) continue;
              const std::string found = filled(way, kTypes[type], size, strided, threads);
              if (expected.empty()) expected = found;
              if (found != expected) fail(where + " on " + each.name, "differs");
            }
          }
          all += expected;
        }
        // The C library makes the normal values of float64, and its last bit differs between machines.
        if (way != Way::kUniform && kTypes[type] == DType::kFloat64) continue;
        std::printf("%016llx %s\n", static_cast<unsigned long long>(digest(all)), where.c_str());
      }
    }
  }
  std::printf("checked %lld elements:%s\n", static_cast<long long>(checked), names.c_str());
  return 0;
}
