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

// The arguments for the tensors of one device.
struct DeviceArguments {
  at::Device device;
  std::vector<at::Tensor> tensors;
  std::vector<int64_t> laws;
  std::vector<double> numbers;
  std::vector<int64_t> keys, shards;

  FillArguments view() const { return {tensors, laws, numbers, keys, shards}; }
};

bool on_one_device(at::TensorList tensors);

// The arguments of each device, in the order in which the devices first come, once they are as many as they must be.
std::vector<DeviceArguments> split_by_device(const FillArguments& arguments);

struct FillJobs {
  FillPlan plan;
  std::vector<OrthogonalJob> orthogonal;
};

// All jobs together, or where tensors may share memory those of each tensor by themselves, to be run in turn: then the
// last fill of an element is the one that counts.
std::vector<FillJobs> make_jobs(const FillArguments& arguments);

}  // namespace fastinit
