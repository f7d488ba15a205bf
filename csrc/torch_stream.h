// The torch stream's part of the module fastinit._C.
#pragma once

#include <pybind11/pybind11.h>

namespace fastinit {

void bind_torch_stream(pybind11::module_& m);

// Of self-checks: they are made for the instruction set in use.
void forget_verdicts();

}  // namespace fastinit
