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

// By the bits: the difference of sets of keys leaves the bits of devices where they are.
bool only_ordinary(c10::DispatchKeySet keys, c10::DispatchKeySet beside) {
  return (keys.raw_repr() & ~(kOrdinaryKeys | beside).raw_repr()) == 0;
}

}  // namespace

bool has_ordinary_keys(const at::Tensor& t, c10::DispatchKeySet beside) { return only_ordinary(t.key_set(), beside); }

bool has_ordinary_elements(const at::Tensor& t, c10::DispatchKeySet devices) {
  return t.defined() && has_ordinary_keys(t, devices) && t.numel() > 0 && !t.is_inference() &&
         !torch::autograd::isFwGradDefined(t) && t.has_storage() && t.storage().nbytes() > 0 && elements_apart(t);
}

bool only_ordinary_keys_included(c10::DispatchKeySet beside) {
  return only_ordinary(c10::impl::tls_local_dispatch_key_set().included_, beside);
}

bool calls_are_ordinary(c10::DispatchKeySet beside) {
  return only_ordinary_keys_included(beside) && !c10::impl::TorchDispatchModeTLS::any_modes_set() &&
         !c10::InferenceMode::is_enabled();
}

bool counts_versions() {
  return !c10::impl::tls_local_dispatch_key_set().excluded_.has(c10::DispatchKey::ADInplaceOrView);
}

bool is_ordinary(const at::Tensor& t, c10::DispatchKeySet beside) {
  return has_ordinary_elements(t) && calls_are_ordinary(beside) && counts_versions();
}

}  // namespace fastinit
