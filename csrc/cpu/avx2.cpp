#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "isa.h"
#include "target.h"

FASTINIT_TARGET_BEGIN("avx2,fma,f16c")
#include "kernels-inl.h"
#include "lanes_avx2.h"
FASTINIT_TARGET_END

namespace fastinit {
const Isa kAvx2{"avx2", fill<avx2::Lanes>};
}  // namespace fastinit

#endif
