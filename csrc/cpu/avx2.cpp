#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "isa.h"
#include "target.h"

FASTINIT_TARGET_BEGIN("avx2,fma,f16c")
#include "kernels-inl.h"
#include "lanes_avx2.h"
#include "torch_kernels-inl.h"
FASTINIT_TARGET_END

namespace fastinit {
const Isa kAvx2{"avx2", fill<avx2::Lanes>, scan_draws<avx2::Lanes>, torch_stream::Kernels<avx2::Lanes>::kTable};
}  // namespace fastinit

#endif
