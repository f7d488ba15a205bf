// Jobs for the kernels: plain structs, built once by jobs.cpp, read by every thread. Torch-free.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "dim.h"
#include "maths/numbers.h"
#include "sparse.h"

namespace fastinit {

// A tensor to fill. The element at coordinates c lies at data + item_size * sum(c_d stride_d) and gets the value number
// first_index + sum(c_d index_stride_d) of the stream of (seed, offset). Without dims: `elements` in one dense run.
//
// Work is handed out in units, which no two threads share: kRunUnit elements of a dense run, or one tile of a strided
// tensor (tile.h).
struct FillJob {
  void* data;
  uint64_t seed, offset;  // Philox key, and number of the block that holds element 0
  uint64_t first_index;
  int64_t elements, units, unit_elements;
  int32_t first_dim, dims;  // in FillPlan::dims, largest memory stride first
  DType dtype;
  Law law;
  LawNumbers numbers;
};

inline constexpr int64_t kRunUnit = 1024;  // elements; a multiple of every vector, cache line and Philox block

struct FillPlan {
  std::vector<FillJob> jobs;
  std::vector<Dim> dims;
  std::vector<std::unique_ptr<SparseColumns>> sparse;  // of the sparse jobs, to be selected before any chunk runs
  int64_t chunk_elements = 32 * 1024;                  // that a thread takes at a time: about 10 microseconds
  std::vector<int64_t> starts;  // position of each job on the line of all units' elements, and the end of that line

  // Appends a job over the given dims (in any order; size 1 and mergeable ones are dropped, none are left for a dense
  // run) and counts its units.
  void add(FillJob job, std::vector<Dim> shape);
  int64_t chunks() const { return (starts.back() + chunk_elements - 1) / chunk_elements; }

  FillPlan() : starts{0} {}
  void reserve(int64_t count) {
    jobs.reserve(count);
    starts.reserve(count + 1);
  }
};

// Runs chunk number `chunk` of the plan, that many times chunk_elements along the line, on the calling thread with the
// kernels of the instruction set in use. Chunks may run in any order, on any threads.
void run_chunk(const FillPlan& plan, int64_t chunk);

}  // namespace fastinit
