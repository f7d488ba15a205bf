#include "ordinary.h"

#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/functions/utils.h>

#include "tensor_layout.h"

namespace fastinit {
namespace {

constexpr c10::DispatchKeySet kOrdinaryKeys =
    c10::DispatchKeySet({c10::DispatchKey::CPU, c10::DispatchKey::AutogradCPU, c10::DispatchKey::ADInplaceOrView,
                         c10::DispatchKey::BackendSelect}) |
    c10::autocast_dispatch_keyset;

bool only_ordinary(c10::DispatchKeySet keys) { return (keys.raw_repr() & ~kOrdinaryKeys.raw_repr()) == 0; }

// Whether calls go through the kernels that they go through by default, the one that counts versions among them.
bool dispatches_as_usual() {
  const c10::impl::LocalDispatchKeySet local = c10::impl::tls_local_dispatch_key_set();
  return only_ordinary(local.included_) && !local.excluded_.has(c10::DispatchKey::ADInplaceOrView) &&
         !c10::impl::TorchDispatchModeTLS::any_modes_set() && !c10::InferenceMode::is_enabled();
}

}  // namespace

bool is_ordinary(const at::Tensor& t) {
  return t.defined() && only_ordinary(t.key_set()) && t.numel() > 0 && dispatches_as_usual() && !t.is_inference() &&
         !torch::autograd::isFwGradDefined(t) && t.has_storage() && t.storage().nbytes() > 0 && elements_apart(t);
}

}  // namespace fastinit
