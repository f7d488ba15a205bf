#include "isa.h"
#include "kernels-inl.h"
#include "lanes_scalar.h"

namespace fastinit {
const Isa kScalar{"scalar", fill<scalar::Lanes>};
}  // namespace fastinit
