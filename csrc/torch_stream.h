// The torch stream's part of the module fastinit._C, and what fastinit.batched asks it.
#pragma once

#include <ATen/core/Tensor.h>
#include <pybind11/pybind11.h>

#include "laws.h"
#include "torch_fill.h"

namespace fastinit {

void bind_torch_stream(pybind11::module_& m);

// Of self-checks: they are made for the instruction set in use.
void forget_verdicts();

// Whether fills by this uniform or normal law are torch's own bits here, in a tensor that is ordinary.
bool draws_natively(LawCode law, at::ScalarType type, double first, double second);

// A tensor as a target: without its memory, which is not touched, or with it.
TorchTarget extent_of(const at::Tensor& tensor);
TorchTarget target_of(const at::Tensor& tensor);

}  // namespace fastinit
