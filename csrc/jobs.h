// From the arguments of the op fastinit::fill_ to jobs, with every check of every argument.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "orthogonal.h"
#include "plan.h"

namespace fastinit {

inline constexpr int64_t kNumbers = 4;  // of each law

struct FillArguments {
  at::TensorList tensors;
  at::IntArrayRef laws;          // a LawCode for each tensor
  at::ArrayRef<double> numbers;  // kNumbers for each tensor
  at::IntArrayRef keys;          // seed and offset for each tensor, uint64 as int64
  at::IntArrayRef shards;        // empty, or for each tensor its global sizes and then its start
};

struct FillJobs {
  FillPlan plan;
  std::vector<OrthogonalJob> orthogonal;
};

// All jobs together, or where tensors may share memory those of each tensor by themselves, to be run in turn: then the
// last fill of an element is the one that counts.
std::vector<FillJobs> make_jobs(const FillArguments& arguments);

}  // namespace fastinit
