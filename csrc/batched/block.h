// A block of fastinit.batched, from where it begins to where it ends: it belongs to one thread.
#pragma once

#include <ATen/core/LegacyTypeDispatch.h>
#include <c10/core/DispatchKey.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <pybind11/pybind11.h>

#include <memory>

#include "pending.h"

namespace fastinit::batched {

// Included in a thread's dispatch keys while a block is open, so that every call of an operator comes to our fallback
// first. torch keeps the key for deferred initialisation outside of torch, and has nothing registered for it.
inline constexpr c10::DispatchKey kKey = c10::DispatchKey::DeferredInit;

// While it lives, calls of this thread go by autograd and by us.
struct Plainly {
  at::AutoDispatchBelowADInplaceOrView below;
  c10::impl::ExcludeDispatchKeyGuard unseen{kKey};
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
