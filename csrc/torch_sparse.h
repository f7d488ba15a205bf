// The zeros of torch's sparse_: as many in each column of a matrix, at rows of torch.randperm. Torch-free.
#pragma once

#include "cpu/torch_kernels.h"
#include "torch_fill.h"

namespace fastinit {

constexpr int64_t kMostRows = 214748363;  // from the next one on, torch.randperm draws words of 64 bits

// Of `rows` <= kMostRows, `zeros` become +0.0 in each column; rows - 1 words are drawn for it. `item`: an element's
// bytes.
void torch_sparse(const Matrix& matrix, int item, int64_t zeros, Mt19937& engine, const Workers& workers);

}  // namespace fastinit
