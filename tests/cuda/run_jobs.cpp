// Fills the tensors of a job table with the CUDA kernels, on the emulator, and again with the CPU's, and compares all
// bytes.
//
//     run_jobs TABLE OUT SCHEDULE...      SCHEDULE: forward, reverse, or a number, the seed of a shuffle
//
// It is linked with csrc/cuda/run.cpp, the torch-free rest of csrc/, and either the .cu files through cuda_shim.h (then
// under sanitizers) or nvcc's PTX translated (FASTINIT_PTX; then every byte of each element must be stored exactly
// once, and no other, and the tensors of plans whose names begin with "whole" in vectors of 16 bytes alone, for they
// are what the budgets are about). jobs.py writes TABLE, whose lines are
//
//     plan NAME MEMORY_BLOCKS             the jobs after it share a plan; MEMORY_BLOCKS: see `tail`
//     job DTYPE SEED OFFSET FIRST_INDEX MISALIGNED TAIL DIMS (SIZE STRIDE INDEX_STRIDE)... LAW NUMBERS...
//
// FIRST_INDEX is that of the element at the start; MISALIGNED the bytes that the data lies behind a multiple of 64;
// TAIL, if not 0, says that only the last so many elements of a tensor have memory, whose other dimensions are of size
// 1, and MEMORY_BLOCKS of its plan how many blocks of threads at the end of each launch run. OUT gets the elements of
// each tensor, or its tail, in logical order; with - as its name the first failure ends the program.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "../../csrc/cuda/run.h"
#include "../../csrc/laws.h"
#include "../../csrc/plan.h"
#include "emulator.h"
#if defined(FASTINIT_PTX)
#include "ptx_runtime.h"
#endif

namespace {

using namespace fastinit;

constexpr unsigned char kFiller = 0xA5;
int stream = 0;  // whose address is the stream's
void* const kStream = &stream;

struct Free {
  void operator()(void* memory) const { std::free(memory); }
};

// ---- the table

struct Job {
  FillJob fill{};
  int64_t misaligned = 0, tail = 0;
  std::vector<Dim> dims;
  std::unique_ptr<SparseColumns> sparse;  // what it is made from, for a sparse matrix
  std::string line;

  int64_t item() const { return item_size(fill.dtype); }
  bool is_empty() const {
    for (const Dim& d : dims) {
      if (d.size == 0) return true;
    }
    return false;
  }
  // Elements from the first to the last that has memory.
  int64_t span() const {
    if (is_empty()) return 0;
    int64_t reach = 1;
    if (tail != 0) return reach + (tail - 1) * dims[0].stride;
    for (const Dim& d : dims) reach += (d.size - 1) * d.stride;
    return reach;
  }
  int64_t without_memory() const { return tail != 0 ? dims[0].size - tail : 0; }  // elements
  // Places of the elements in memory, in logical order.
  std::vector<int64_t> places() const {
    std::vector<int64_t> all{0};
    if (tail != 0) {
      all.resize(tail);
      for (int64_t i = 0; i < tail; ++i) all[i] = i * dims[0].stride;
      return all;
    }
    for (const Dim& dim : dims) {
      std::vector<int64_t> outer;
      outer.swap(all);
      for (const int64_t place : outer) {
        for (int64_t i = 0; i < dim.size; ++i) all.push_back(place + i * dim.stride);
      }
    }
    return all;
  }
};

struct Plan {
  std::string name;
  unsigned last_blocks = 0;
  std::vector<Job> jobs;
};

DType dtype_named(const std::string& name) {
  for (DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16, DType::kFloat8E4M3FN,
                      DType::kFloat8E5M2}) {
    if (name == dtype_name(dtype)) return dtype;
  }
  throw std::invalid_argument("no type " + name);
}

double number(std::istream& in) {  // decimal or hexadecimal
  std::string text;
  in >> text;
  return std::strtod(text.c_str(), nullptr);
}

void read_law(std::istream& in, Job& job) {
  std::string law;
  in >> law;
  FillJob& f = job.fill;
  double n[4];
  const auto numbers = [&](int count) {
    for (int i = 0; i < count; ++i) n[i] = number(in);
  };
  if (law == "constant") {
    f.law = Law::kConstant;
    in >> f.numbers.pattern;
  } else if (law == "uniform") {
    numbers(2);
    f.law = uniform_numbers(f.dtype, n[0], n[1], f.numbers);
  } else if (law == "normal") {
    numbers(2);
    f.law = normal_numbers(f.dtype, n[0], n[1], f.numbers);
  } else if (law == "trunc_normal") {
    numbers(4);
    f.law = trunc_normal_numbers(f.dtype, n[0], n[1], n[2], n[3], f.numbers);
  } else if (law == "diagonal") {
    f.law = Law::kDiagonal;
    DiagonalNumbers& d = f.numbers.diagonal;
    in >> d.one >> d.first >> d.step >> d.count >> d.group_step >> d.groups;
  } else if (law == "sparse") {
    f.law = Law::kSparse;
    int64_t rows = 0, columns = 0, zeros = 0, first = 0, count = 0;
    in >> rows >> columns >> zeros >> first >> count;
    normal_numbers(f.dtype, 0.0, number(in), f.numbers);
    job.sparse = std::make_unique<SparseColumns>(f.seed, f.offset, rows, columns, zeros, first, count);
  } else {
    throw std::invalid_argument("no law " + law);
  }
}

Job read_job(std::istream& in, const std::string& line) {
  Job job;
  job.line = line;
  std::string dtype;
  int dims = 0;
  FillJob& f = job.fill;
  in >> dtype >> f.seed >> f.offset >> f.first_index >> job.misaligned >> job.tail >> dims;
  f.dtype = dtype_named(dtype);
  job.dims.resize(dims);
  for (Dim& d : job.dims) in >> d.size >> d.stride >> d.index_stride;
  read_law(in, job);
  if (!in) throw std::invalid_argument("not a job: " + line);
  return job;
}

std::vector<Plan> read_table(const char* path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error(std::string("no job table ") + path);
  std::vector<Plan> plans;
  for (std::string line; std::getline(file, line);) {
    std::istringstream in(line);
    std::string word;
    in >> word;
    if (word == "plan") {
      plans.emplace_back();
      in >> plans.back().name >> plans.back().last_blocks;
    } else {
      plans.back().jobs.push_back(read_job(in, line));
    }
  }
  return plans;
}

// ---- memory

// A tensor's bytes and nothing behind them, so that AddressSanitizer sees a store beyond.
class Memory {
 public:
  explicit Memory(const Job& job) : before_(job.misaligned), bytes_(job.span() * job.item()) {
    void* memory = nullptr;
    if (posix_memalign(&memory, 64, before_ + std::max<int64_t>(bytes_, 1)) != 0) throw std::bad_alloc();
    memory_.reset(static_cast<unsigned char*>(memory));
    std::memset(memory, kFiller, before_ + bytes_);
  }
  unsigned char* data() const { return memory_.get() + before_; }
  int64_t bytes() const { return bytes_; }
  bool is_same_as(const Memory& other) const {
    return std::memcmp(memory_.get(), other.memory_.get(), before_ + bytes_) == 0;
  }

 private:
  int64_t before_, bytes_;
  std::unique_ptr<unsigned char, Free> memory_;
};

void add_to(FillPlan& plan, const Job& job, void* data, uint64_t first_index, std::vector<Dim> dims) {
  FillJob fill = job.fill;
  fill.data = data;
  fill.first_index = first_index;
  if (job.sparse != nullptr) {
    const SparseColumns& c = *job.sparse;
    plan.sparse.push_back(
        std::make_unique<SparseColumns>(c.seed, c.offset, c.rows, c.columns, c.zeros, c.first, c.count));
    fill.numbers.sparse = {job.fill.numbers.normal, plan.sparse.back().get()};
  }
  plan.add(fill, std::move(dims));
}

void run_on_cpu(FillPlan& plan) {
  SparseSelection selection(plan.sparse, 1);
  for (int64_t unit = 0; unit < selection.units(); ++unit) selection.run(unit);
  selection.finish();
  for (int64_t chunk = 0; chunk < plan.chunks(); ++chunk) run_chunk(plan, chunk);
}

[[noreturn]] void fail(const Job& job, const std::string& what) {
  throw std::logic_error(what + "\n  " + job.line);  // ends the plan; the others go on
}

// ---- checks

void check_writes([[maybe_unused]] const Plan& plan) {
#if defined(FASTINIT_PTX)
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const Job& job = plan.jobs[i];
    const std::vector<uint8_t>& writes = ptx::global_memory.regions()[i].writes;
    std::vector<uint8_t> expected(writes.size());
    if (!job.is_empty()) {
      for (const int64_t place : job.places()) std::memset(&expected[place * job.item()], 1, job.item());
    }
    for (size_t byte = 0; byte < writes.size(); ++byte) {
      if (writes[byte] != expected[byte]) {
        fail(job, "byte " + std::to_string(byte) + " was stored " + std::to_string(writes[byte]) + " times, not " +
                      std::to_string(expected[byte]));
      }
    }
    const uint64_t vectors = ptx::global_memory.regions()[i].vectors;
    if (plan.name.starts_with("whole") && 16 * vectors != writes.size()) {
      fail(job, std::to_string(vectors) + " stores of 16 bytes for " + std::to_string(writes.size()) + " bytes");
    }
  }
#endif
}

void check_values(const Job& job, const Memory& device, const Memory& cpu) {
  if (device.is_same_as(cpu)) return;
  const std::vector<int64_t> places = job.places();
  for (size_t i = 0; i < places.size(); ++i) {
    const int64_t byte = places[i] * job.item();
    if (std::memcmp(device.data() + byte, cpu.data() + byte, job.item()) != 0) {
      std::ostringstream what;
      what << "element " << i << " of " << places.size() << " differs from the CPU's:" << std::hex;
      for (const Memory* memory : {&device, &cpu}) {
        uint64_t bits = 0;
        std::memcpy(&bits, memory->data() + byte, job.item());
        what << ' ' << bits;
      }
      fail(job, what.str());
    }
  }
  fail(job, "a byte outside the elements was written");
}

// Returns how many launches the plan took. `values` gets the elements.
int run(const Plan& plan, std::vector<unsigned char>* values) {
  FillPlan on_device, on_cpu;
  std::vector<Memory> device, cpu;
#if defined(FASTINIT_PTX)
  ptx::global_memory.clear();
#endif
  for (const Job& job : plan.jobs) {
    device.emplace_back(job);
    cpu.emplace_back(job);
    const int64_t without = job.without_memory();
    const int64_t stride = without != 0 ? job.dims[0].stride : 0, step = without != 0 ? job.dims[0].index_stride : 0;
    // The tensor's start, which may not exist.
    void* start =
        reinterpret_cast<void*>(reinterpret_cast<uintptr_t>(device.back().data()) - without * stride * job.item());
    add_to(on_device, job, start, job.fill.first_index, job.dims);
    std::vector<Dim> dims = job.dims;
    if (job.tail != 0) dims[0].size = job.tail;
    add_to(on_cpu, job, cpu.back().data(), job.fill.first_index + static_cast<uint64_t>(without * step), dims);
#if defined(FASTINIT_PTX)
    ptx::global_memory.add(device.back().data(), static_cast<uint64_t>(device.back().bytes()));
#endif
  }
  emulator::run_last_blocks_only(plan.last_blocks);
  const int before = emulator::launches();
  fill_on_device(on_device, kStream);
  const int launches = emulator::launches() - before;
  check_writes(plan);
  run_on_cpu(on_cpu);
  for (size_t i = 0; i < plan.jobs.size(); ++i) {
    const Job& job = plan.jobs[i];
    check_values(job, device[i], cpu[i]);
    if (values == nullptr || job.is_empty()) continue;
    for (const int64_t place : job.places()) {
      const unsigned char* element = device[i].data() + place * job.item();
      values->insert(values->end(), element, element + job.item());
    }
  }
  return launches;
}

// A launch that fails must be an exception that says why, whichever launch it is, and the next fill knows nothing of
// it.
void check_failures(const Plan& plan, int launches) {
  for (int launch = 0; launch < launches; ++launch) {
    emulator::fail_launch(launch, cudaErrorMemoryAllocation);
    try {
      run(plan, nullptr);
    } catch (const std::runtime_error& error) {
      if (std::strstr(error.what(), "out of memory") == nullptr) {
        fail(plan.jobs[0], std::string("a failed launch says: ") + error.what());
      }
      try {
        run(plan, nullptr);
        continue;
      } catch (const std::runtime_error& later) {
        fail(plan.jobs[0], std::string("after a launch that failed: ") + later.what());
      }
    }
    fail(plan.jobs[0], "launch " + std::to_string(launch) + " failed, and nobody noticed");
  }
}

emulator::Schedule schedule_named(const std::string& name) {
  if (name == "forward") return {emulator::Order::kForward, 1};
  if (name == "reverse") return {emulator::Order::kReverse, 2};
  return {emulator::Order::kShuffled, std::strtoull(name.c_str(), nullptr, 10)};
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 4) {
    std::fprintf(stderr, "usage: run_jobs TABLE OUT SCHEDULE...\n");
    return 2;
  }
  const std::vector<Plan> plans = read_table(arguments[1]);
  std::vector<unsigned char> values;
  bool failed = false;
  emulator::expect_stream(kStream);
  for (int i = 3; i < count; ++i) {
    const bool is_first = i == 3;
    emulator::set_schedule(schedule_named(arguments[i]));
    for (const Plan& plan : plans) {
      try {
        const int launches = run(plan, is_first ? &values : nullptr);
        if (is_first) std::printf("%s: %zu jobs, %d launches\n", plan.name.c_str(), plan.jobs.size(), launches);
        if (plan.name.starts_with("many") && launches > static_cast<int>(30 + plan.jobs.size() / 10)) {
          fail(plan.jobs[0], std::to_string(launches) + " launches of kernels that take ten tensors and more each");
        }
        if (is_first && plan.name.starts_with("failing")) check_failures(plan, launches);
      } catch (const std::exception& error) {
        std::fprintf(stderr, "FAILED: %s, %s: %s\n", plan.name.c_str(), arguments[i], error.what());
        if (std::strcmp(arguments[2], "-") == 0) return 1;
        failed = true;
      }
    }
  }
  emulator::print_launched();
  if (std::strcmp(arguments[2], "-") == 0) return 0;
  std::ofstream(arguments[2], std::ios::binary).write(reinterpret_cast<const char*>(values.data()), values.size());
  return failed ? 1 : 0;
}
