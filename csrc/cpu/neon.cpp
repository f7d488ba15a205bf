#if defined(__aarch64__)

#include "isa.h"
#include "lanes_neon.h"
#include "kernels-inl.h"

namespace fastinit {
const Isa kNeon{"neon", fill<neon::Lanes>};
}  // namespace fastinit

#endif
