// Runs recorded fills, many tensors at a time: torch's threads take parts of tensors as they come, large ones first.
#include <algorithm>
#include <optional>

#include "../cpu/float_environment.h"
#include "../ops.h"
#include "../pages.h"
#include "../tensor_layout.h"
#include "../threads.h"
#include "../torch_stream.h"
#include "block.h"

namespace fastinit::batched {
namespace {

// Elements after which the steps that follow a fill take their turn: they find them in cache.
constexpr int64_t kPiece = int64_t{1} << 14;
constexpr int64_t kLeastPart = int64_t{1} << 19;  // elements: a part may begin with a jump of the generator
constexpr double kLeastUnit = 300'000.0;          // nanoseconds that are worth a thread's coming for them

const TorchDraw* torch_draw(const Record& record) {
  const auto* draw = std::get_if<std::unique_ptr<TorchDraw>>(&record.fill);
  return draw == nullptr ? nullptr : draw->get();
}

bool is_keyed(const Record& record) { return std::holds_alternative<KeyedDraw>(record.fill); }

// ---- A part of a tensor

void draw(const TorchDraw& draw, const TorchTarget& target, TorchGenerator& state) {
  static const Workers alone{1, [](int64_t tasks, const std::function<void(int64_t)>& run) {
                               for (int64_t task = 0; task < tasks; ++task) run(task);
                             }};
  if (draw.law == LawCode::kUniform) return torch_uniform(target, draw.first, draw.second, state, alone);
  torch_normal(target, {draw.first, draw.second}, state, alone);
}

template <class Bits>
void repeat(char* out, int64_t count, uint64_t bits) {
  std::fill_n(reinterpret_cast<Bits*>(out), count, static_cast<Bits>(bits));
}

void repeat(char* out, int64_t count, int64_t item, uint64_t bits) {
  switch (item) {
    case 1:
      return repeat<uint8_t>(out, count, bits);
    case 2:
      return repeat<uint16_t>(out, count, bits);
    case 4:
      return repeat<uint32_t>(out, count, bits);
    default:
      return repeat<uint64_t>(out, count, bits);
  }
}

void take_steps(const std::vector<Step>& steps, const at::Tensor& tensor) {
  for (const Step& step : steps) {
    torch::jit::Stack stack{tensor};
    stack.insert(stack.end(), step.arguments.begin(), step.arguments.end());
    step.op.callBoxed(stack);
  }
}

void fill_strided(const at::Tensor& tensor, const Place& place, const Constant& constant) {
  const auto fill = [&](at::ScalarType type, int64_t bits) {
    tensor_in(tensor.storage(), type, place.sizes, place.strides, place.offset).fill_(bits);
  };
  switch (tensor.element_size()) {
    case 1:
      return fill(at::kByte, static_cast<uint8_t>(constant.bits));
    case 2:
      return fill(at::kShort, static_cast<int16_t>(constant.bits));
    case 4:
      return fill(at::kInt, static_cast<int32_t>(constant.bits));
    default:
      return fill(at::kLong, static_cast<int64_t>(constant.bits));
  }
}

// Elements that lie apart, or that are drawn one after another.
void run_whole(const Ready& ready) {
  if (const TorchDraw* of_torch = torch_draw(ready.record)) {
    TorchGenerator state = of_torch->start;
    draw(*of_torch, target_of(ready.tensor), state);
  } else if (const auto* constant = std::get_if<Constant>(&ready.record.fill)) {
    fill_strided(ready.tensor, ready.record.place, *constant);
  }
  take_steps(ready.record.steps, ready.tensor);
}

bool has_parts(const Ready& ready) {
  const TorchDraw* of_torch = torch_draw(ready.record);
  const bool one_by_one =
      of_torch != nullptr && of_torch->law == LawCode::kNormal && !extent_of(ready.tensor).in_blocks;
  return ready.record.place.dense && !one_by_one;
}

// Elements begin .. end in the order of memory, where begin is a multiple of 16 and not among the last 16.
void run_part(const Ready& ready, int64_t begin, int64_t end) {
  const Record& record = ready.record;
  const TorchDraw* of_torch = torch_draw(record);
  const auto* constant = std::get_if<Constant>(&record.fill);
  const int64_t item = ready.tensor.element_size();
  char* const data = static_cast<char*>(ready.tensor.storage().mutable_data()) + record.place.begin;
  std::optional<TorchGenerator> state;
  if (of_torch != nullptr) {
    state = of_torch->start;
    state->engine.discard(begin * (item == 8 ? 2 : 1));
  }
  const int64_t piece = record.steps.empty() ? end - begin : kPiece;
  for (int64_t next, i = begin; i < end; i = next) {
    next = end - i < piece + 16 ? end : i + piece;
    if (of_torch != nullptr) {
      const bool in_blocks = of_torch->law == LawCode::kNormal;
      draw(*of_torch, {data + i * item, dtype_of(ready.tensor), next - i, {}, in_blocks}, *state);
    } else if (constant != nullptr) {
      repeat(data + i * item, next - i, item, constant->bits);
    }
    if (record.steps.empty()) continue;
    const Place& place = record.place;
    take_steps(record.steps, tensor_in(ready.tensor.storage(), place.dtype, {next - i}, {1}, place.begin / item + i));
  }
}

// ---- All of them

struct Task {
  const Ready* ready;
  int64_t begin, end;
  double cost;  // nanoseconds, about
};

double cost_of_element(const Record& record) {
  const TorchDraw* of_torch = torch_draw(record);
  const double fill = of_torch == nullptr ? 0.2 : of_torch->law == LawCode::kUniform ? 0.4 : 0.8;
  return fill + 0.7 * static_cast<double>(record.steps.size());
}

// Parts of tensors in units of work, the largest first, none of them much more than its share.
std::vector<std::vector<Task>> divide(const std::vector<const Ready*>& fills) {
  double total = 0.0;
  for (const Ready* ready : fills) total += cost_of_element(ready->record) * ready->record.place.elements;
  const double share = total / (4.0 * usable_threads());
  std::vector<Task> tasks;
  for (const Ready* ready : fills) {
    const int64_t elements = ready->record.place.elements;
    const double each = cost_of_element(ready->record);
    const int64_t wanted = has_parts(*ready) ? static_cast<int64_t>(each * elements / std::max(share, 1.0)) : 1;
    const int64_t parts = std::clamp<int64_t>(wanted, 1, std::max<int64_t>(elements / kLeastPart, 1));
    for (int64_t part = 0, begin = 0; part < parts; ++part) {
      const int64_t end = part + 1 == parts ? elements : begin + elements / parts / 16 * 16;
      tasks.push_back({ready, begin, end, each * (end - begin)});
      begin = end;
    }
  }
  std::stable_sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.cost > b.cost; });
  std::vector<std::vector<Task>> units;
  double filled = kLeastUnit;
  for (const Task& task : tasks) {
    if (filled >= kLeastUnit) {
      units.emplace_back();
      filled = 0.0;
    }
    units.back().push_back(task);
    filled += task.cost + 2000.0;
  }
  return units;
}

void draw_keyed(const std::vector<const Ready*>& fills) {
  std::vector<at::Tensor> tensors;
  std::vector<int64_t> laws, keys, shards;
  std::vector<double> numbers;
  const bool any_shard = std::any_of(fills.begin(), fills.end(), [](const Ready* ready) {
    return !std::get<KeyedDraw>(ready->record.fill).shard.empty();
  });
  for (const Ready* ready : fills) {
    const auto& draw = std::get<KeyedDraw>(ready->record.fill);
    tensors.push_back(ready->tensor);
    laws.push_back(draw.law);
    numbers.insert(numbers.end(), draw.numbers.begin(), draw.numbers.end());
    keys.insert(keys.end(), {static_cast<int64_t>(draw.seed), static_cast<int64_t>(draw.offset)});
    if (!draw.shard.empty()) {
      shards.insert(shards.end(), draw.shard.begin(), draw.shard.end());
    } else if (any_shard) {
      shards.insert(shards.end(), ready->tensor.sizes().begin(), ready->tensor.sizes().end());
      shards.insert(shards.end(), ready->tensor.dim(), 0);
    }
  }
  fill_by_op({tensors, laws, numbers, keys, shards});
}

void run_level(const std::vector<const Ready*>& fills) {
  std::vector<const Ready*> keyed, others;
  for (const Ready* ready : fills) {
    if (is_keyed(ready->record)) keyed.push_back(ready);
    if (!is_keyed(ready->record) || !ready->record.steps.empty()) others.push_back(ready);
  }
  if (!keyed.empty()) draw_keyed(keyed);
  const std::vector<std::vector<Task>> units = divide(others);
  for_each_unit(static_cast<int64_t>(units.size()), [&](int64_t unit) {
    const DefaultFloatEnvironment environment;  // as when they were recorded
    const Plainly guard;
    for (const Task& task : units[unit]) {
      if (has_parts(*task.ready)) {
        run_part(*task.ready, task.begin, task.end);
      } else {
        run_whole(*task.ready);
      }
    }
  });
}

}  // namespace

void run_fills(std::vector<Ready>& fills) {
  const Plainly guard;
  std::vector<const Ready*> of_level;
  for (int64_t level = 0, done = 0; done < static_cast<int64_t>(fills.size()); ++level) {
    of_level.clear();
    for (const Ready& ready : fills) {
      if (ready.level == level) of_level.push_back(&ready);
    }
    run_level(of_level);
    done += of_level.size();
  }
}

}  // namespace fastinit::batched
