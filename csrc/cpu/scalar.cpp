#include "isa.h"
#include "lanes_scalar.h"
#include "kernels-inl.h"

namespace fastinit {
const Isa kScalar{"scalar", fill<scalar::Lanes>};
}  // namespace fastinit
