#if defined(__aarch64__)

#include "isa.h"
#include "kernels-inl.h"
#include "lanes_neon.h"

namespace fastinit {
const Isa kNeon{"neon", fill<neon::Lanes>};
}  // namespace fastinit

#endif
