// Whether torch would write a tensor by its own CPU kernel, and nothing else has a say in it.
#pragma once

#include <ATen/core/Tensor.h>

namespace fastinit {

// A tensor with elements, each in memory of its own, that no dispatch mode, subclass, transform or inference mode
// watches over, but for what has the keys `beside`.
bool is_ordinary(const at::Tensor& tensor, c10::DispatchKeySet beside = {});

// The parts of it. The tensor's own, on the CPU or, where `devices` has its keys, elsewhere; and this thread's.
bool has_ordinary_elements(const at::Tensor& tensor, c10::DispatchKeySet devices = {});
bool calls_are_ordinary(c10::DispatchKeySet beside = {});

// The parts of those: whether torch's dispatcher goes to the CPU's kernels, but for autograd and autocast.
bool has_ordinary_keys(const at::Tensor& tensor, c10::DispatchKeySet beside = {});
bool only_ordinary_keys_included(c10::DispatchKeySet beside = {});

// Whether what is written in place is counted in the tensor's version here.
bool counts_versions();

}  // namespace fastinit
