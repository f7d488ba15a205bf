// Checks the kernel core alone, without torch or Python, so that it can run under sanitizers and emulators.
// Every law, type and instruction set of this processor, over odd sizes, starts, strides and indices: each output is
// compared with the scalar kernel's dense run over the same indices, guard bytes lie around and between the elements,
// and no byte may be written by two chunks. Prints one digest a law and type: two machines must print the same.
#include <algorithm>
#include <cfenv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "../../csrc/cpu/isa.h"
#include "../../csrc/laws.h"
#include "../../csrc/plan.h"

namespace {

using namespace fastinit;
using Bytes = std::vector<unsigned char>;

constexpr int64_t kGuard = 256;                     // bytes before and after each output
constexpr unsigned char kFillers[] = {0xA5, 0x5A};  // no bit in common: a byte that is equal in both was written

int64_t checked_elements = 0;

[[noreturn]] void fail(const std::string& where, const char* what) {
  std::fprintf(stderr, "FAILED: %s: %s\n", where.c_str(), what);
  std::exit(1);
}

// ---- what is filled

struct Case {
  std::string name;
  DType dtype;
  Law law;
  LawNumbers numbers;
};

// Every sixth draw or so is zero; some of those are kept.
const SparseColumns& sparse_columns() {
  static const SparseColumns columns = [] {
    SparseColumns c(0, 0, 1, 97, 0, 0, 97);
    for (int32_t i = 0; i < 97; ++i) c.limits.push_back(i % 7 == 0 ? -1 : (1 << 28) + i * (1 << 21));
    for (int64_t i = 0; i < 1000; ++i) c.kept.push_back(i * 11);
    return c;
  }();
  return columns;
}

std::vector<Case> cases() {
  std::vector<Case> all;
  for (DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16, DType::kFloat8E4M3FN,
                      DType::kFloat8E5M2}) {
    const std::string type = std::string(dtype_name(dtype)) + " ";
    LawNumbers n{};
    n.pattern = 0x3131313131313131;  // one byte over and over: right in any type
    all.push_back({type + "constant", dtype, Law::kConstant, n});
    for (auto [a, b] : {std::pair{0.0, 1.0}, {-0.125, 0.375}, {2.0, 2.0}}) {
      const Law law = uniform_numbers(dtype, a, b, n = {});
      all.push_back({type + "uniform " + std::to_string(a) + " " + std::to_string(b), dtype, law, n});
    }
    for (auto [mean, std] : {std::pair{0.0, 1.0}, {1.0, 0.02}, {0.0, 100.0}}) {
      const Law law = normal_numbers(dtype, mean, std, n = {});
      all.push_back({type + "normal " + std::to_string(mean) + " " + std::to_string(std), dtype, law, n});
    }
    n = {};
    n.sparse = {{0.0, 0.02}, &sparse_columns()};
    all.push_back({type + "sparse", dtype, Law::kSparse, n});
    n.diagonal = {0x3131313131313131, 3, 98, 3, 500, 7};
    all.push_back({type + "diagonal", dtype, Law::kDiagonal, n});
    n.diagonal = {0x3131313131313131, 0, 1001, int64_t{1} << 50, 1, 1};
    all.push_back({type + "long diagonal", dtype, Law::kDiagonal, n});
    for (auto [a, b] : {std::pair{-2.0, 2.0}, {-100.0, 100.0}, {-1.0, 3.0}, {4.0, 7.0}, {-7.0, -4.0}, {11.0, 14.0}}) {
      const Law law = trunc_normal_numbers(dtype, 0.0, 1.0, a, b, n = {});
      all.push_back({type + "trunc_normal " + std::to_string(a) + " " + std::to_string(b), dtype, law, n});
    }
  }
  return all;
}

struct Layout {
  std::string name;
  uint64_t offset, first_index;
  std::vector<Dim> dims;
  int64_t start;  // elements past a 64-byte boundary
};

Layout dense(int64_t size, uint64_t offset, uint64_t first_index, int64_t start) {
  return {"dense " + std::to_string(size) + " of block " + std::to_string(offset) + " from element " +
              std::to_string(first_index) + " at " + std::to_string(start),
          offset,
          first_index,
          {{size, 1, 1}},
          start};
}

std::vector<Layout> layouts() {
  std::vector<Layout> all;
  for (int64_t size : {0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 17, 31, 33, 63, 64, 65, 127, 129, 257, 511, 1023, 1025, 2049}) {
    all.push_back(dense(size, 0, 0, size % 3));
  }
  for (uint64_t first : {1, 2, 3, 6, 1021}) all.push_back(dense(301, 9, first, static_cast<int64_t>(first % 5)));
  all.push_back(dense(FillPlan().chunk_elements + 1237, 0, 0, 1));
  // The 2^32nd element; the 2^32nd block, of two elements and of four; the block number's own wrap.
  for (uint64_t first : {uint64_t{1} << 32, uint64_t{1} << 33, uint64_t{1} << 34, uint64_t{1} << 62}) {
    all.push_back(dense(1111, 0, first - 555, 0));
  }
  all.push_back(dense(700, (uint64_t{1} << 32) - 50, 3, 2));
  all.push_back(dense(700, ~uint64_t{0} - 49, 1, 0));
  const uint64_t far = (uint64_t{1} << 34) - 91;
  all.push_back({"scalar", 0, far, {}, 3});
  all.push_back({"every third", 5, 2, {{401, 3, 1}}, 1});
  all.push_back({"transposed", 0, far, {{37, 1, 53}, {53, 37, 1}}, 0});
  all.push_back({"transposed, large", 0, 0, {{211, 1, 307}, {307, 211, 1}}, 0});
  all.push_back({"transposed, with gaps", 1, 7, {{19, 2, 130}, {130, 41, 1}}, 1});
  all.push_back({"transposed, short rows", 0, 0, {{1025, 1, 3}, {3, 1025, 1}}, 0});
  all.push_back({"transposed, long rows", 0, 0, {{3, 1, 1025}, {1025, 3, 1}}, 0});
  all.push_back({"rows with gaps", 0, 3, {{23, 101, 97}, {97, 1, 1}}, 2});
  all.push_back({"channels last", 0, 0, {{4, 315, 315}, {5, 1, 63}, {7, 45, 9}, {9, 5, 1}}, 0});
  all.push_back({"box of a larger tensor", 3, 100003, {{6, 187, 5000}, {11, 17, 70}, {17, 1, 1}}, 1});
  all.push_back({"box, dimensions reversed", 0, far, {{6, 1, 5000}, {11, 6, 70}, {17, 66, 1}}, 0});
  all.push_back({"dimensions of one", 0, 0, {{1, 9999, 9999}, {65, 1, 1}, {1, 0, 0}}, 0});
  all.push_back({"an empty dimension", 0, 0, {{5, 0, 0}, {0, 1, 1}}, 0});
  return all;
}

// ---- running it

// Elements and their indices past first_index, in any order.
struct Place {
  int64_t element, index;
};

std::vector<Place> places(const std::vector<Dim>& dims) {
  std::vector<Place> all{{0, 0}};
  for (const Dim& dim : dims) {
    std::vector<Place> outer;
    outer.swap(all);
    for (const Place& p : outer) {
      for (int64_t i = 0; i < dim.size; ++i) {
        all.push_back({p.element + i * dim.stride, p.index + i * dim.index_stride});
      }
    }
  }
  return all;
}

FillJob job_of(const Case& c, const Layout& layout, void* data, int64_t elements) {
  FillJob job{};
  job.data = data;
  job.seed = 0x0123456789ABCDEF;
  job.offset = layout.offset;
  job.first_index = layout.first_index;
  job.elements = elements;
  job.dtype = c.dtype;
  job.law = c.law;
  job.numbers = c.numbers;
  return job;
}

bool is_one(const DiagonalNumbers& n, int64_t index) {
  for (int64_t g = 0; g < n.groups; ++g) {
    const int64_t steps = index - n.first - g * n.group_step;
    if (steps >= 0 && steps % n.step == 0 && steps / n.step < n.count) return true;
  }
  return false;
}

// What the scalar kernel writes into a dense run of `count` elements.
Bytes scalar_run(const Case& c, const Layout& layout, int64_t count) {
  const int64_t item = item_size(c.dtype);
  Bytes out(count * item, 0x31);
  if (c.law == Law::kDiagonal) {
    for (int64_t i = 0; i < count; ++i) {
      if (!is_one(c.numbers.diagonal, static_cast<int64_t>(layout.first_index) + i))
        std::memset(&out[i * item], 0, item);
    }
  }
  if (c.law != Law::kConstant && c.law != Law::kDiagonal && count > 0) {
    kScalar.fill(job_of(c, layout, nullptr, count), out.data(), layout.first_index, count);
  }
  return out;
}

int64_t chunk_elements = FillPlan().chunk_elements;

// The output with its guards as a chunk leaves it; `chunk` -1 is all of them, last one first.
Bytes run(const Case& c, const Layout& layout, int64_t elements, int64_t span, unsigned char filler, int64_t chunk,
          int64_t* chunks) {
  const int64_t item = item_size(c.dtype), first = kGuard + layout.start * item;
  Bytes memory(first + span * item + kGuard + 64, filler);
  const int64_t shift = -reinterpret_cast<intptr_t>(memory.data()) & 63;
  FillPlan plan;
  plan.chunk_elements = chunk_elements;
  plan.add(job_of(c, layout, memory.data() + shift + first, elements), layout.dims);
  *chunks = plan.chunks();
  for (int64_t i = *chunks; i-- > 0;) {
    if (chunk == -1 || chunk == i) run_chunk(plan, i);
  }
  Bytes out(first + span * item + kGuard);
  std::memcpy(out.data(), memory.data() + shift, out.size());
  return out;
}

// Elements of the output in the order of `places`, after every check of one job.
Bytes check(const Case& c, const Layout& layout) {
  const int64_t item = item_size(c.dtype);
  const std::vector<Place> all = places(layout.dims);
  const std::string where = std::string(isa().name) + ", " + c.name + ", " + layout.name;
  int64_t span = 0, indices = 0;
  for (const Place& p : all) span = std::max(span, p.element + 1), indices = std::max(indices, p.index + 1);
  const int64_t elements = static_cast<int64_t>(all.size());
  const Bytes expected = scalar_run(c, layout, indices);

  Bytes belongs(kGuard + (layout.start + span) * item + kGuard), values;
  for (const Place& p : all) {
    std::memset(&belongs[kGuard + (layout.start + p.element) * item], 1, item);
    values.insert(values.end(), &expected[p.index * item], &expected[p.index * item] + item);
  }

  int64_t chunks = 0;
  for (unsigned char filler : kFillers) {
    chunk_elements = filler == kFillers[0] ? 96 : FillPlan().chunk_elements;  // chunks do not matter
    const Bytes out = run(c, layout, elements, span, filler, -1, &chunks);
    for (size_t i = 0; i < out.size(); ++i) {
      if (!belongs[i] && out[i] != filler) fail(where, "a byte outside the elements was written");
    }
    for (int64_t i = 0; i < elements; ++i) {
      if (std::memcmp(&out[kGuard + (layout.start + all[i].element) * item], &values[i * item], item) != 0) {
        fail(where, ("element " + std::to_string(i) + " differs from the scalar kernel's").c_str());
      }
    }
  }
  Bytes writers(belongs.size());
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    int64_t unused = 0;
    const Bytes a = run(c, layout, elements, span, kFillers[0], chunk, &unused);
    const Bytes b = run(c, layout, elements, span, kFillers[1], chunk, &unused);
    for (size_t i = 0; i < a.size(); ++i) writers[i] += a[i] == b[i];
  }
  if (writers != belongs) fail(where, "a byte was written by no chunk, or by two");
  checked_elements += elements;
  return values;
}

// The table's own entry, which the plan may never call with such counts.
void check_dense_fill(const Case& c, int64_t count) {
  const int64_t item = item_size(c.dtype);
  const Layout layout = dense(count, 0, 3, 0);
  Bytes out(2 * kGuard + count * item, kFillers[0]);
  isa().fill(job_of(c, layout, nullptr, count), out.data() + kGuard, layout.first_index, count);
  Bytes expected(out.size(), kFillers[0]);
  const Bytes values = scalar_run(c, layout, count);
  std::copy(values.begin(), values.end(), expected.begin() + kGuard);
  if (out != expected) fail(std::string(isa().name) + ", " + c.name + ", fill of " + std::to_string(count), "differs");
}

// ---- the floating-point environment, which must change nothing and be left alone

uint64_t control_register() {
#if defined(__x86_64__)
  return __builtin_ia32_stmxcsr() & ~0x3Fu;  // without the exception flags
#else
  uint64_t value;
  asm volatile("mrs %0, fpcr" : "=r"(value));
  return value;
#endif
}

void set_control_register(uint64_t value) {
#if defined(__x86_64__)
  __builtin_ia32_ldmxcsr(static_cast<unsigned>(value));
#else
  asm volatile("msr fpcr, %0" : : "r"(value));
#endif
}

void check_environment(const Case& c, const Layout& layout) {
  const std::vector<Place> all = places(layout.dims);
  const int64_t elements = static_cast<int64_t>(all.size());
  int64_t chunks = 0;
  const Bytes expected = run(c, layout, elements, elements, kFillers[0], -1, &chunks);
  const uint64_t before = control_register();
#if defined(__x86_64__)
  constexpr uint64_t kUpwardAndFlush = 0x4000 | 0x8040;  // round upwards, flush to zero, subnormals are zeros
#else
  constexpr uint64_t kUpwardAndFlush = 1 << 22 | 1 << 24;
#endif
  set_control_register(before | kUpwardAndFlush);
  const Bytes out = run(c, layout, elements, elements, kFillers[0], -1, &chunks);
  const uint64_t after = control_register();
  set_control_register(before);
  const std::string where = std::string(isa().name) + ", " + c.name;
  if (out != expected) fail(where, "the rounding mode or flush-to-zero changed the values");
  if (after != (before | kUpwardAndFlush)) fail(where, "the floating-point environment was not put back");
}

uint64_t fnv1a(uint64_t hash, const Bytes& bytes) {
  for (unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001B3;
  return hash;
}

}  // namespace

int main() {
  const std::vector<Layout> all_layouts = layouts();
  for (const Case& c : cases()) {
    uint64_t digest = 0;
    for (const Isa& table : available_isas()) {
      use_isa(table.name);
      digest = 0xCBF29CE484222325;
      for (const Layout& layout : all_layouts) digest = fnv1a(digest, check(c, layout));
      if (c.law != Law::kDiagonal) {
        for (int64_t count = 1; count < 150; ++count) check_dense_fill(c, count);
      }
      check_environment(c, dense(5000, 0, 1, 0));
    }
    std::printf("%016llx %s\n", static_cast<unsigned long long>(digest), c.name.c_str());
  }
  std::string names;
  for (const Isa& table : available_isas()) names += std::string(" ") + table.name;
  std::printf("checked %lld elements:%s\n", static_cast<long long>(checked_elements), names.c_str());
}
