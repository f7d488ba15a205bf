#include "isa.h"
#include "kernels-inl.h"
#include "lanes_scalar.h"
#include "torch_kernels-inl.h"

namespace fastinit {
const Isa kScalar{"scalar", fill<scalar::Lanes>, scan_draws<scalar::Lanes>,
                  torch_stream::Kernels<scalar::Lanes>::kTable};
}  // namespace fastinit
