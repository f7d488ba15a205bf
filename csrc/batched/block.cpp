#include "block.h"

#include <c10/core/impl/LocalDispatchKeySet.h>
#include <torch/csrc/autograd/python_variable.h>
#include <torch/extension.h>

#include <optional>
#include <tuple>

#include "record.h"

namespace fastinit::batched {
namespace {

namespace py = pybind11;

thread_local std::unique_ptr<Block> innermost;

Block& open_block() {
  TORCH_CHECK(innermost != nullptr, "a block of fastinit.batched belongs to the thread in which it began");
  return *innermost;
}

void enter(const py::object& key_of) {
  register_fallback();
  if (innermost != nullptr && !innermost->is_keyed() && key_of.is_none()) {
    ++innermost->depth;
    return;
  }
  if (innermost != nullptr) {
    const py::gil_scoped_release released;
    innermost->pending.settle_all();
  }
  auto block = std::make_unique<Block>();
  block->key_of = key_of;
  block->outer = std::move(innermost);
  innermost = std::move(block);
  c10::impl::tls_set_dispatch_key_included(kKey, true);
}

py::tuple counts() {
  const Pending& pending = open_block().pending;
  return py::make_tuple(pending.recorded(), pending.dead(), pending.computed());
}

py::tuple leave() {
  open_block();
  if (--innermost->depth > 0) return counts();
  struct Closing {  // whether or not what is pending can run
    ~Closing() {
      innermost->key_of = py::none();
      innermost = std::move(innermost->outer);
      if (innermost == nullptr) c10::impl::tls_set_dispatch_key_included(kKey, false);
    }
  } closing;
  {
    const py::gil_scoped_release released;
    innermost->pending.settle_all();
  }
  return counts();
}

void settle(const at::Tensor& tensor) {
  if (innermost == nullptr || !tensor.defined() || !tensor.has_storage()) return;
  const py::gil_scoped_release released;
  innermost->pending.settle(tensor.storage().unsafeGetStorageImpl());
}

void pin(const at::Tensor& tensor) {
  if (innermost == nullptr || !tensor.defined() || !tensor.has_storage()) return;
  const py::gil_scoped_release released;
  innermost->pending.pin(tensor.storage());
}

void fill_parameter(const at::Tensor& tensor, int64_t law, const std::array<double, 4>& numbers) {
  Block& block = open_block();
  fill_by_key(block, tensor, block.keyed_draw(tensor, law, numbers));
  count_version(tensor);
}

// Python's `with`: within it calls are as without the block. `succeeded` says that the tensor was overwritten. Without
// one, nothing is left pending.
class Aside {
 public:
  explicit Aside(std::optional<at::Tensor> tensor) : tensor_(std::move(tensor)) {}
  void enter() {
    Block& block = open_block();
    {
      const py::gil_scoped_release released;
      if (!tensor_) {
        block.pending.settle_all();
      } else if (tensor_->has_storage()) {
        overwriting_.emplace(block.pending, *tensor_);
      }
    }
    c10::impl::tls_set_dispatch_key_included(kKey, false);
  }
  void succeeded() {
    if (overwriting_) overwriting_->succeeded();
  }
  void exit(const py::args&) {
    overwriting_.reset();
    c10::impl::tls_set_dispatch_key_included(kKey, true);
  }

 private:
  std::optional<at::Tensor> tensor_;
  std::optional<Overwriting> overwriting_;
};

}  // namespace

Block* current_block() { return innermost.get(); }

KeyedDraw Block::keyed_draw(const at::Tensor& tensor, int64_t law, const std::array<double, 4>& numbers) const {
  const py::gil_scoped_acquire acquired;
  const auto [parameter, seed, offset] = key_of(py::reinterpret_steal<py::object>(THPVariable_Wrap(tensor)))
                                             .cast<std::tuple<int64_t, uint64_t, uint64_t>>();
  return {law, numbers, seed, offset, {}, parameter};
}

void on_raw_access(c10::StorageImpl* storage) {
  TORCH_CHECK(innermost != nullptr && innermost->pending.pin_known(storage),
              "this memory is still to be filled: it is of a tensor that another thread has filled in a block of "
              "fastinit.batched, which has not ended");
}

void bind(py::module_& m) {
  m.def("batched_enter", torch::wrap_pybind_function(enter));
  m.def("batched_leave", torch::wrap_pybind_function(leave));
  m.def("batched_counts", torch::wrap_pybind_function(counts));
  m.def("batched_settle", torch::wrap_pybind_function(settle));
  m.def("batched_pin", torch::wrap_pybind_function(pin));
  m.def("batched_fill_parameter", torch::wrap_pybind_function(fill_parameter));
  m.def("address", [](const at::Tensor& tensor) { return reinterpret_cast<uintptr_t>(tensor.const_data_ptr()); });
  m.def("batched_stream", []() -> py::object {
    if (innermost == nullptr || !c10::impl::tls_is_dispatch_key_included(kKey)) return py::none();
    return py::str(innermost->is_keyed() ? "keyed" : "torch");
  });
  py::class_<Aside>(m, "Aside")
      .def(py::init<std::optional<at::Tensor>>())
      .def(
          "__enter__",
          [](Aside& aside) -> Aside& {
            aside.enter();
            return aside;
          },
          py::return_value_policy::reference)
      .def("__exit__", &Aside::exit)
      .def("succeeded", &Aside::succeeded);
}

}  // namespace fastinit::batched
