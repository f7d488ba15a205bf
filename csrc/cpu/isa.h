// The kernel table of each instruction set, and which one is in use: chosen once, when the library is loaded.
#pragma once

#include <string>
#include <vector>

#include "../plan.h"
#include "torch_kernels.h"

namespace fastinit {

struct Isa {
  const char* name;
  // Elements first .. first + count of the job's stream, into dense memory. Any law but the diagonal.
  void (*fill)(const FillJob& job, void* out, uint64_t first, int64_t count);
  // See sparse-inl.h.
  int64_t (*scan_draws)(const uint32_t* words, int64_t count, uint32_t low, uint32_t span, uint32_t* counts,
                        uint32_t* within);
  TorchKernels torch;
};

// Those that were compiled in and that this processor has; the best one first.
const std::vector<Isa>& available_isas();

// The one named by FASTINIT_ISA, or else the best. Throws std::runtime_error that lists what there is if FASTINIT_ISA
// names anything else.
const Isa& isa();

// For tests, which run on every instruction set in one process: FASTINIT_ISA is for everyone else.
void use_isa(const std::string& name);

#if defined(__x86_64__)
extern const Isa kAvx512, kAvx2;
#elif defined(__aarch64__)
extern const Isa kNeon;
#endif
extern const Isa kScalar;

}  // namespace fastinit
