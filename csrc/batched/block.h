// A block of fastinit.batched, from where it begins to where it ends: it belongs to one thread.
#pragma once

#include <c10/core/DispatchKeySet.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "pending.h"

namespace fastinit::batched {

// Included in a thread's dispatch keys while a block is open, so that every call of an operator comes to our fallback
// first. torch has nothing registered for it but in tests of its own. The key that it keeps for deferred initialisation
// outside of torch would not do: torch.tensor excludes that one while it reads the tensors in a list.
inline constexpr c10::DispatchKey kKey = c10::DispatchKey::TESTING_ONLY_GenericMode;

// While it lives, calls of this thread go by us, autograd, and whatever modes, transforms and tracers it is in.
struct Plainly {
  const c10::impl::ForceDispatchKeyGuard only{
      c10::default_included_set, c10::default_excluded_set | c10::autograd_dispatch_keyset_with_ADInplaceOrView};
};

struct Block {
  Pending pending;
  // Of a tensor: the number of the parameter that it is a part of, seed and offset of its key; or an exception. None in
  // the torch stream.
  pybind11::object key_of;
  int64_t depth = 1;  // blocks of the torch stream within one another are one
  std::unique_ptr<Block> outer;

  // A thread that ends within its block has no hold on the interpreter.
  ~Block() { key_of.release(); }

  bool is_keyed() const { return !key_of.is_none(); }
  KeyedDraw keyed_draw(const at::Tensor& tensor, int64_t law, const std::array<double, 4>& numbers) const;
};

// This thread's innermost, or null.
Block* current_block();

// torch's hook for memory that is about to be written past the dispatcher: whatever waits there runs.
void on_raw_access(c10::StorageImpl* storage);

// Has torch's dispatcher come to us, from the first block on.
void register_fallback();

void bind(pybind11::module_& m);

}  // namespace fastinit::batched
