#include "record.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ExpandUtils.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <cstring>
#include <optional>
#include <unordered_map>

#include "../cpu/float_environment.h"
#include "../cuda_kernels.h"
#include "../ops.h"
#include "../ordinary.h"
#include "../torch_generator.h"
#include "../torch_stream.h"

namespace fastinit::batched {
namespace {

using c10::IValue;
using torch::jit::Stack;
using Arguments = c10::ArrayRef<IValue>;

constexpr c10::DispatchKeySet kCuda({c10::DispatchKey::CUDA, c10::DispatchKey::AutogradCUDA});

bool tracks_gradients(const at::Tensor& tensor) { return c10::GradMode::is_enabled() && tensor.requires_grad(); }

// Nothing but the memory would know that the tensor was filled. Whether the fill may wait is another question.
bool is_fillable(const at::Tensor& tensor, c10::DispatchKeySet devices) {
  return has_ordinary_elements(tensor, devices) && calls_are_ordinary(devices.add(kKey)) && !tracks_gradients(tensor) &&
         Place(tensor).end <= static_cast<int64_t>(tensor.storage().nbytes());
}

bool may_record(Block& block, const at::Tensor& tensor, c10::DispatchKeySet devices = {}) {
  return is_default_float_environment() && is_fillable(tensor, devices) && block.pending.may_wait(tensor.storage());
}

void add(Block& block, const at::Tensor& tensor, decltype(Record::fill) fill) {
  block.pending.add(tensor.storage(), Record{Place(tensor), std::move(fill), {}});
}

// ---- Numbers by a key

// All that the fill would raise; the tensors' memory, which fills may wait for, is not touched.
void check(at::TensorList tensors, FillArguments arguments) {
  const Plainly guard;
  std::vector<at::Tensor> shapes;
  for (const at::Tensor& tensor : tensors) {
    if (tensor.is_cuda()) cuda_kernels();
    shapes.push_back(at::empty_strided(tensor.sizes(), tensor.strides(), tensor.options().device(at::kMeta)));
  }
  arguments.tensors = shapes;
  check_fill(arguments);
}

bool fill_keyed(Block& block, const at::Tensor& tensor, LawCode law, double first, double second,
                const IValue& generator) {
  if (!tensor.defined() || tensor.is_meta() || tensor.numel() == 0) return false;  // nothing to fill
  const auto given = generator.toOptional<at::Generator>();
  TORCH_CHECK(!given || !given->defined(),
              "in fastinit.batched with a key the numbers are the key's: generator must be None, got one of torch's");
  const KeyedDraw draw = block.keyed_draw(tensor, static_cast<int64_t>(law), {first, second, 0.0, 0.0});
  if (tracks_gradients(tensor)) return false;  // torch refuses it
  fill_by_key(block, tensor, draw);
  return true;
}

// ---- Numbers from torch's generator

at::CPUGeneratorImpl* cpu_generator(const IValue& given) {
  const auto generator = given.toOptional<at::Generator>();
  if (!generator || !generator->defined()) {
    return at::check_generator<at::CPUGeneratorImpl>(at::detail::getDefaultCPUGenerator());
  }
  return generator->device().is_cpu() ? at::check_generator<at::CPUGeneratorImpl>(generator) : nullptr;
}

bool record_draw(Block& block, const at::Tensor& tensor, LawCode law, Arguments numbers) {
  const double first = numbers[0].toScalar().to<double>(), second = numbers[1].toScalar().to<double>();
  if (block.is_keyed()) return fill_keyed(block, tensor, law, first, second, numbers[2]);
  if (!may_record(block, tensor)) return false;
  at::CPUGeneratorImpl* generator = cpu_generator(numbers[2]);
  if (generator == nullptr || !draws_natively(law, tensor.scalar_type(), first, second)) return false;
  auto draw = std::make_unique<TorchDraw>();
  {
    LockedGenerator locked(generator);
    if (!locked.is_ordinary()) return false;
    *draw = {law, first, second, locked.state};
    (law == LawCode::kUniform ? skip_torch_uniform : skip_torch_normal)(extent_of(tensor), locked.state);
    locked.save();
  }
  add(block, tensor, std::move(draw));
  return true;
}

bool record_uniform(Block& block, const c10::OperatorHandle&, const at::Tensor& tensor, Arguments numbers) {
  return record_draw(block, tensor, LawCode::kUniform, numbers);
}

bool record_normal(Block& block, const c10::OperatorHandle&, const at::Tensor& tensor, Arguments numbers) {
  return record_draw(block, tensor, LawCode::kNormal, numbers);
}

// ---- Constants

// Like the tensor, but of two elements, or one where it has one: torch converts and refuses numbers by ways of its own
// there.
at::Tensor sample_of(const at::Tensor& tensor) {
  return at::empty({std::min<int64_t>(tensor.numel(), 2)}, at::TensorOptions(tensor.scalar_type()).device(at::kCPU));
}

// The bytes of an element of the tensor as `write` makes them, with torch's errors; none for wide types.
template <class Write>
std::optional<uint64_t> bits_of(const at::Tensor& tensor, const Write& write) {
  if (c10::elementSize(tensor.scalar_type()) > sizeof(uint64_t)) return std::nullopt;
  const Plainly guard;
  at::Tensor sample = sample_of(tensor);
  write(sample);
  uint64_t bits = 0;
  std::memcpy(&bits, sample.const_data_ptr(), sample.element_size());
  return bits;
}

// The one value that the tensor's elements have, if that is known, or an undefined tensor.
at::Tensor value_of(Block& block, const at::Tensor& tensor) {
  if (tensor.numel() == 1) {
    block.pending.settle(tensor.storage().unsafeGetStorageImpl());
    return tensor.view(at::IntArrayRef());
  }
  const Record* last = block.pending.last_of(tensor.storage(), Place(tensor));
  if (last == nullptr || !std::holds_alternative<Constant>(last->fill) || !last->steps.empty()) return {};
  at::Tensor value = at::empty({}, tensor.options());
  std::memcpy(value.mutable_data_ptr(), &std::get<Constant>(last->fill).bits, value.element_size());
  return value;
}

// The bytes of the elements that copying the source makes, if they are all the same and that is known.
std::optional<uint64_t> copied_bits(Block& block, const at::Tensor& tensor, const at::Tensor& source) {
  if (!has_ordinary_elements(source) || tracks_gradients(source)) return std::nullopt;
  if (!at::is_expandable_to(source.sizes(), tensor.sizes())) return std::nullopt;
  if (source.storage().unsafeGetStorageImpl() == tensor.storage().unsafeGetStorageImpl()) return std::nullopt;
  const Plainly guard;
  const at::Tensor value = value_of(block, source);
  if (!value.defined() || value.ne(value).item<bool>()) return std::nullopt;  // vectors copy a NaN with other bits
  return bits_of(tensor, [&](at::Tensor& sample) { sample.copy_(value); });
}

bool record_constant(Block& block, const at::Tensor& tensor, const std::optional<uint64_t>& bits) {
  if (bits) add(block, tensor, Constant{*bits});
  return bits.has_value();
}

bool record_zero(Block& block, const c10::OperatorHandle&, const at::Tensor& tensor, Arguments) {
  return may_record(block, tensor) && c10::elementSize(tensor.scalar_type()) <= sizeof(uint64_t) &&
         record_constant(block, tensor, 0);
}

bool record_number(Block& block, const c10::OperatorHandle&, const at::Tensor& tensor, Arguments value) {
  if (!may_record(block, tensor)) return false;
  const at::Scalar number = value[0].toScalar();
  return record_constant(block, tensor, bits_of(tensor, [&](at::Tensor& sample) { sample.fill_(number); }));
}

bool record_copy(Block& block, const c10::OperatorHandle&, const at::Tensor& tensor, Arguments source) {
  return may_record(block, tensor) && record_constant(block, tensor, copied_bits(block, tensor, source[0].toTensor()));
}

bool record_value(Block& block, const c10::OperatorHandle& op, const at::Tensor& tensor, Arguments value) {
  return value[0].toTensor().dim() == 0 && record_copy(block, op, tensor, value);
}

// ---- Steps

// A real number, or none, and not a NaN: which bits that has depends on where in a vector it is computed.
bool is_number(const IValue& value) {
  if (value.isDouble()) return !std::isnan(value.toDouble());
  if (value.isNone() || value.isInt() || value.isBool()) return true;
  if (!value.isTensor() || !value.toTensor().unsafeGetTensorImpl()->is_wrapped_number()) return false;
  return !value.toTensor().is_complex() && !std::isnan(value.toTensor().item().to<double>());
}

// An operation by numbers on exactly what was drawn last, each element by itself: add_ and sub_ with another factor
// than one round differently at the end of a vector.
bool record_step(Block& block, const c10::OperatorHandle& op, const at::Tensor& tensor, Arguments numbers) {
  if (!may_record(block, tensor) || !tensor.is_floating_point()) return false;
  if (!std::all_of(numbers.begin(), numbers.end(), is_number)) return false;
  const std::string& name = op.operator_name().name;
  if ((name == "aten::add_" || name == "aten::sub_") && numbers[1].toScalar().to<double>() != 1.0) return false;
  Record* filled = block.pending.last_of(tensor.storage(), Place(tensor));
  if (filled == nullptr || std::holds_alternative<Constant>(filled->fill)) return false;
  {
    const Plainly guard;  // an error comes now
    Stack trial{sample_of(tensor).fill_(0.5)};
    trial.insert(trial.end(), numbers.begin(), numbers.end());
    op.callBoxed(trial);
  }
  filled->steps.push_back({op, Stack(numbers.begin(), numbers.end())});
  return true;
}

using Recorder = bool (*)(Block&, const c10::OperatorHandle&, const at::Tensor&, Arguments);
const std::unordered_map<std::string, Recorder> kRecorders = {
    {"aten::uniform_", record_uniform},   {"aten::normal_", record_normal},
    {"aten::zero_", record_zero},         {"aten::fill_.Scalar", record_number},
    {"aten::fill_.Tensor", record_value}, {"aten::copy_", record_copy},
    {"aten::erfinv_", record_step},       {"aten::mul_.Tensor", record_step},
    {"aten::mul_.Scalar", record_step},   {"aten::div_.Tensor", record_step},
    {"aten::div_.Scalar", record_step},   {"aten::add_.Tensor", record_step},
    {"aten::add_.Scalar", record_step},   {"aten::sub_.Tensor", record_step},
    {"aten::sub_.Scalar", record_step},   {"aten::clamp_", record_step},
    {"aten::clamp_min_", record_step},    {"aten::clamp_max_", record_step},
    {"aten::neg_", record_step}};

}  // namespace

void count_version(const at::Tensor& tensor) {
  if (counts_versions()) tensor.unsafeGetTensorImpl()->bump_version();
}

bool records(const std::string& operator_name) { return kRecorders.contains(operator_name); }

bool record(Block& block, const c10::OperatorHandle& op, Stack* stack) {
  const size_t count = op.schema().arguments().size();
  const Arguments arguments = torch::jit::last(*stack, count);
  const at::Tensor tensor = arguments[0].toTensor();
  thread_local std::unordered_map<c10::OperatorHandle, Recorder> known;
  Recorder& recorder = known[op];
  if (recorder == nullptr) recorder = kRecorders.at(toString(op.operator_name()));
  if (!recorder(block, op, tensor, arguments.slice(1))) return false;
  count_version(tensor);
  torch::jit::drop(*stack, count);
  stack->emplace_back(tensor);
  return true;
}

bool is_copy_over(const at::Tensor& tensor, const at::Tensor& source) {
  return is_fillable(tensor, {}) && has_ordinary_elements(source) && !tracks_gradients(source) &&
         tensor.storage().unsafeGetStorageImpl() != source.storage().unsafeGetStorageImpl() &&
         at::is_expandable_to(source.sizes(), tensor.sizes());
}

void fill_by_key(Block& block, const at::Tensor& tensor, KeyedDraw draw) {
  TORCH_CHECK_VALUE(
      has_ordinary_elements(tensor, kCuda),
      "tensor must be one that a key can fill in fastinit.batched, on the CPU or a CUDA device, each element "
      "in memory of its own, and neither a subclass nor made in inference mode");
  const auto arguments = [&](const at::Tensor& filled, const int64_t (&key)[2]) {
    return FillArguments{filled, draw.law, draw.numbers, key, draw.shard};
  };
  check(tensor, arguments(tensor, {0, 0}));
  if (may_record(block, tensor, kCuda)) return add(block, tensor, std::move(draw));
  const Plainly guard;
  block.pending.settle(tensor.storage().unsafeGetStorageImpl());
  block.pending.keep_order(draw, tensor.storage());
  block.pending.count(draw);
  const at::Tensor same = Place(tensor).in(tensor.storage());
  fill_by_op(arguments(same, {static_cast<int64_t>(draw.seed), static_cast<int64_t>(draw.offset)}));
}

bool record_native(Block& block, Stack* stack) {
  const Arguments arguments = torch::jit::last(*stack, 5);
  const std::vector<at::Tensor> tensors = arguments[0].toTensorVector();
  for (const at::Tensor& tensor : tensors) {
    if (!may_record(block, tensor, kCuda)) return false;
  }
  const std::vector<int64_t> laws = arguments[1].toIntVector(), keys = arguments[3].toIntVector(),
                             shards = arguments[4].toIntVector();
  const std::vector<double> numbers = arguments[2].toDoubleVector();
  check(tensors, {tensors, laws, numbers, keys, shards});
  size_t of_shard = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    KeyedDraw draw{laws[i], {}, static_cast<uint64_t>(keys[2 * i]), static_cast<uint64_t>(keys[2 * i + 1]), {}, -1};
    std::copy_n(numbers.begin() + kNumbers * i, kNumbers, draw.numbers.begin());
    if (!shards.empty()) {
      const size_t words = 2 * tensors[i].dim();
      draw.shard.assign(shards.begin() + of_shard, shards.begin() + of_shard + words);
      of_shard += words;
    }
    add(block, tensors[i], std::move(draw));
    count_version(tensors[i]);
  }
  torch::jit::drop(*stack, 5);
  return true;
}

}  // namespace fastinit::batched
