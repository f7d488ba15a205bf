// What happens to each call of an operator while a block is open: torch's dispatcher comes here first.
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/ops/empty.h>
#include <c10/core/DefaultDtype.h>
#include <c10/core/impl/LocalDispatchKeySet.h>
#include <c10/core/impl/TorchDispatchModeTLS.h>
#include <c10/util/strides.h>
#include <torch/library.h>

#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "../ordinary.h"
#include "../pages.h"
#include "block.h"
#include "record.h"

namespace fastinit::batched {
namespace {

using c10::IValue;
using torch::jit::Stack;

enum class Role {
  kRecords,     // a fill, which may be recorded
  kNativeFill,  // our own op
  kMakes,       // a new tensor, and a fill of it that comes here too; of tensors given it wants no values
  kEmpty,       // a new tensor
  kViews,       // new tensors on memory that it does not look at, or what makes them by calls that come here too
  kLooks,       // at its arguments' values, perhaps, and at nothing else's
  kForeign      // may look anywhere: Python code, which knows more tensors than it is given
};

// These are made of at::empty and a fill, as their kernels call them, and read nothing in between.
const std::unordered_set<std::string> kMaking = {"aten::zeros",          "aten::ones",
                                                 "aten::full",           "aten::rand",
                                                 "aten::rand.generator", "aten::randn",
                                                 "aten::zeros_like",     "aten::ones_like",
                                                 "aten::full_like",      "aten::rand_like",
                                                 "aten::randn_like",     "aten::randn.generator",
                                                 "aten::new_zeros",      "aten::new_ones",
                                                 "aten::new_full",       "aten::empty_like",
                                                 "aten::new_empty",      "aten::new_empty_strided",
                                                 "aten::empty_strided",  "aten::normal.float_float"};

bool is_of_tensors(const c10::Argument& argument) { return argument.type()->isSubtypeOf(*c10::TensorType::get()); }

// Of one tensor: where there are others, they may tell where to cut it, as in tensor_split.
bool views(const c10::FunctionSchema& schema) {
  int64_t tensors = 0;
  for (const c10::Argument& argument : schema.arguments()) {
    if (argument.alias_info() != nullptr && argument.alias_info()->isWrite()) return false;
    if (is_of_tensors(argument)) ++tensors;
  }
  if (tensors > 1) return false;
  for (const c10::Argument& result : schema.returns()) {
    if (result.alias_info() == nullptr) return false;
  }
  return !schema.returns().empty();
}

Role find_role(const c10::OperatorHandle& op) {
  const std::string& name = op.operator_name().name;
  const std::string full = toString(op.operator_name());
  if (name == "fastinit::fill_") return Role::kNativeFill;
  if (!name.starts_with("aten::") || !op.hasSchema()) return Role::kForeign;
  if (records(full)) return Role::kRecords;
  if (full == "aten::empty.memory_format") return Role::kEmpty;
  if (kMaking.contains(full)) return Role::kMakes;
  return views(op.schema()) ? Role::kViews : Role::kLooks;
}

struct Known {
  Role role;
  bool draws;     // writes numbers from a generator to a tensor, or makes one of nothing else
  bool may_draw;  // takes tensors, and may or may not draw: dropout, attention
};

const Known& known(const c10::OperatorHandle& op) {
  thread_local std::unordered_map<c10::OperatorHandle, Known> all;
  const auto found = all.find(op);
  if (found != all.end()) return found->second;
  Known of_op{find_role(op), false, false};
  if (op.hasSchema() && op.hasTag(at::Tag::nondeterministic_seeded)) {
    const auto& arguments = op.schema().arguments();
    const bool writes = std::any_of(arguments.begin(), arguments.end(), [](const c10::Argument& argument) {
      return argument.alias_info() != nullptr && argument.alias_info()->isWrite();
    });
    const bool makes = std::none_of(arguments.begin(), arguments.end(), is_of_tensors);
    of_op.draws = writes || makes;
    of_op.may_draw = !of_op.draws;
  }
  return all.emplace(op, of_op).first->second;
}

// ---- Who looks at what

// Of tensors that are their storage's elements and no more.
constexpr c10::DispatchKeySet kPlain({c10::DispatchKey::CUDA, c10::DispatchKey::AutogradCUDA, c10::DispatchKey::Meta,
                                      c10::DispatchKey::AutogradMeta, c10::DispatchKey::Conjugate,
                                      c10::DispatchKey::Negative});

void settle_for(Pending& pending, const at::Tensor& tensor) {
  if (!tensor.defined()) return;
  // sparse ones, for instance, quantized ones with their scales, and Python's own
  const bool stands_for_others = !tensor.has_storage() || !has_ordinary_keys(tensor, kPlain);
  if (stands_for_others) return pending.settle_all();
  pending.settle(tensor.storage().unsafeGetStorageImpl());
}

void settle_for(Pending& pending, const IValue& value) {
  if (value.isTensor()) return settle_for(pending, value.toTensor());
  if (value.isStorage()) return pending.settle(value.toStorage().unsafeGetStorageImpl());
  if (!value.isList()) return;
  for (const IValue& each : value.toListRef()) settle_for(pending, each);
}

void settle_arguments(Pending& pending, const c10::OperatorHandle& op, const Stack& stack) {
  for (const IValue& value : torch::jit::last(stack, op.schema().arguments().size())) {
    if (pending.empty()) return;
    settle_for(pending, value);
  }
}

// As without the block: calls that its kernels make are their own business.
void run_at_once(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const c10::impl::ExcludeDispatchKeyGuard unseen(kKey);
  op.redispatchBoxed(keys, stack);
}

void copy(Pending& pending, const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const at::Tensor tensor = torch::jit::peek(*stack, 0, 3).toTensor(),
                   source = torch::jit::peek(*stack, 1, 3).toTensor();
  settle_for(pending, source);
  if (!is_copy_over(tensor, source)) {
    settle_for(pending, tensor);
    return run_at_once(op, keys, stack);
  }
  Overwriting overwriting(pending, tensor);
  run_at_once(op, keys, stack);
  overwriting.succeeded();
}

// ---- Memory for new tensors

// A large one on the CPU, in huge pages; torch's kernel for all others.
bool make_in_huge_pages(const c10::OperatorHandle& op, Stack* stack) {
  const auto arguments = torch::jit::last(*stack, op.schema().arguments().size());
  const auto device = arguments[3].toOptional<c10::Device>();
  const auto layout = arguments[2].toOptional<c10::Layout>();
  const auto format = arguments[5].toOptional<c10::MemoryFormat>();
  const at::ScalarType dtype = c10::dtype_or_default(arguments[1].toOptional<at::ScalarType>());
  const bool usual = only_ordinary_keys_included(c10::DispatchKeySet(kKey)) &&
                     c10::device_or_default(device).is_cpu() && c10::layout_or_default(layout) == at::kStrided &&
                     !arguments[4].toOptional<bool>().value_or(false) && !c10::isQIntType(dtype) &&
                     format.value_or(c10::MemoryFormat::Contiguous) == c10::MemoryFormat::Contiguous &&
                     arguments[0].isIntList() && !at::globalContext().deterministicAlgorithms();
  if (!usual) return false;
  const c10::List<int64_t> list = arguments[0].toIntList();
  const at::DimVector sizes(list.begin(), list.end());
  if (std::any_of(sizes.begin(), sizes.end(), [](int64_t size) { return size < 0; })) return false;  // an error
  at::detail::computeStorageNbytesContiguous(sizes, c10::elementSize(dtype));  // torch's words for one too large
  at::Tensor made = new_huge_tensor(sizes, c10::contiguous_strides(sizes), dtype);
  if (!made.defined()) return false;
  torch::jit::drop(*stack, arguments.size());
  stack->emplace_back(std::move(made));
  return true;
}

// ---- The fallback

bool is_meta(const Stack& stack, size_t arguments) {
  for (const IValue& value : torch::jit::last(stack, arguments)) {
    if (value.isTensor() && value.toTensor().defined() && value.toTensor().is_meta()) return true;
    if (value.isDevice() && value.toDevice().is_meta()) return true;
  }
  return false;
}

[[noreturn]] void refuse(const c10::OperatorHandle& op) {
  TORCH_CHECK(false, "in fastinit.batched with a key, ", op.operator_name(),
              " would draw from torch's generator, which the key does not decide: fill the model's parameters by "
              "uniform_, normal_ or torch.nn.init's functions, or do this before the block");
}

void fallback(const c10::OperatorHandle& op, c10::DispatchKeySet keys, Stack* stack) {
  const c10::DispatchKeySet below = keys & c10::DispatchKeySet(c10::DispatchKeySet::FULL_AFTER, kKey);
  Block* block = current_block();
  if (block == nullptr) return run_at_once(op, below, stack);  // a thread of torch's that works for one with a block
  const auto [role, draws, may_draw] = known(op);
  if (c10::impl::TorchDispatchModeTLS::any_modes_set()) {  // Python sees the call
    block->pending.settle_all();
    if (!(block->is_keyed() && draws)) return run_at_once(op, below, stack);
  }
  switch (role) {
    case Role::kRecords:
      if (record(*block, op, stack)) return;
      if (op.operator_name().name == "aten::copy_") return copy(block->pending, op, below, stack);
      break;
    case Role::kNativeFill:
      if (record_native(*block, stack)) return;
      break;
    case Role::kEmpty:
      if (make_in_huge_pages(op, stack)) return;
      [[fallthrough]];
    case Role::kMakes:
    case Role::kViews:
      return op.redispatchBoxed(below, stack);
    case Role::kForeign:
      block->pending.settle_all();
      return run_at_once(op, below, stack);
    case Role::kLooks:
      break;
  }
  const bool in_doubt = block->is_keyed() && role != Role::kRecords && (draws || may_draw) &&
                        !is_meta(*stack, op.schema().arguments().size());
  if (in_doubt && draws) refuse(op);
  settle_arguments(block->pending, op, *stack);
  if (!in_doubt) return run_at_once(op, below, stack);
  at::Generator generator = at::detail::getDefaultCPUGenerator();
  const at::Tensor before = generator.get_state();
  run_at_once(op, below, stack);
  if (generator.get_state().equal(before)) return;
  generator.set_state(before);
  refuse(op);
}

}  // namespace

void register_fallback() {
  static torch::Library library = [] {
    torch::Library made(torch::Library::IMPL, "_", kKey, __FILE__, __LINE__);
    made.fallback(torch::CppFunction::makeFromBoxedFunction<&fallback>());
    return made;
  }();
}

}  // namespace fastinit::batched
