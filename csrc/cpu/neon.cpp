#if defined(__aarch64__)

#include "isa.h"
#include "kernels-inl.h"
#include "lanes_neon.h"
#include "torch_kernels-inl.h"

namespace fastinit {
const Isa kNeon{"neon", fill<neon::Lanes>, scan_draws<neon::Lanes>, torch_stream::Kernels<neon::Lanes>::kTable};
}  // namespace fastinit

#endif
