#if defined(__x86_64__)

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "isa.h"
#include "target.h"

#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 warns of what its own undefined-value intrinsics do.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

FASTINIT_TARGET_BEGIN("avx512f,avx512dq,avx512bw,avx512vl,fma")
#include "kernels-inl.h"
#include "lanes_avx512.h"
#include "torch_kernels-inl.h"
FASTINIT_TARGET_END

namespace fastinit {
const Isa kAvx512{"avx512", fill<avx512::Lanes>, scan_draws<avx512::Lanes>,
                  torch_stream::Kernels<avx512::Lanes>::kTable};
}  // namespace fastinit

#endif
