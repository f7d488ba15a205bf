// (Semi) orthogonal matrices of the keyed stream.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/DimVector.h>

#include <cstdint>
#include <vector>

namespace fastinit {

// A tensor of a supported type, with memory, that is the part starting at `start` of a tensor of `global` sizes: at
// least two dimensions, of which all but the first count as columns.
struct OrthogonalJob {
  at::Tensor tensor;
  double gain;
  uint64_t seed, offset;
  at::DimVector global, start;
};

// Whether torch.set_float32_matmul_precision and its like let products of float32 numbers be of fewer bits there.
bool products_are_reduced(at::Device device);

void fill_orthogonal(const std::vector<OrthogonalJob>& jobs);

}  // namespace fastinit
