#include "torch_fill.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "cpu/isa.h"
#include "cpu/lanes_scalar.h"
#include "maths/mt19937.h"
#include "maths/narrow.h"

namespace fastinit {

NormalPair serial_normal_pair(double u1, double u2) {
  const double radius = std::sqrt(-2.0 * std::log1p(-u2)), angle = 2.0 * M_PI * u1;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

double uniform53(const uint32_t* words) {
  const scalar::Int draw = temper<scalar::Lanes>(scalar::Lanes::load(words));
  return static_cast<double>((static_cast<uint64_t>(draw.low) << 32 | draw.high) & ((uint64_t{1} << 53) - 1)) * 0x1p-53;
}

namespace {

constexpr int64_t kLeastPart = int64_t{1} << 17;  // elements that are worth another thread
constexpr int64_t kMostPart = int64_t{1} << 30;   // elements that 32-bit numbers are enough for

// ---- The types

uint16_t rounded16(DType dtype, float x) {
  const scalar::Float lanes{x, x};
  return static_cast<uint16_t>(
      (dtype == DType::kBFloat16 ? to_bfloat16<scalar::Lanes>(lanes) : to_float16_portable<scalar::Lanes>(lanes)).low);
}

// The numbers of a floating type in their order, as integers; both zeros are 0.
template <class Signed>
Signed ordered(Signed bits) {
  return bits < 0 ? static_cast<Signed>(std::numeric_limits<Signed>::min() - bits) : bits;
}
int16_t ordered16(uint16_t bits) { return ordered(static_cast<int16_t>(bits)); }

// The least float32 that, rounded to the 16-bit type, is not below `bound`.
float least_reaching(DType dtype, int bound) {
  int64_t below = -0x7F800000LL, reaching = 0x7F800000LL;  // float32 numbers in their order: the infinities
  auto number = [](int64_t place) {
    const uint32_t bits = place < 0 ? 0x80000000u | static_cast<uint32_t>(-place) : static_cast<uint32_t>(place);
    return scalar::float_from_bits(bits);
  };
  while (reaching - below > 1) {
    const int64_t middle = below + (reaching - below) / 2;
    (ordered16(rounded16(dtype, number(middle))) >= bound ? reaching : below) = middle;
  }
  return number(reaching);
}

bool is_16_bit(DType dtype) { return item_size(dtype) == 2; }

int64_t words_of_uniform(DType dtype) { return dtype == DType::kFloat64 ? 2 : 1; }

// ---- Where elements lie

// What `write(out, count)` makes for elements begin .. end, one after another: in place, or by way of a buffer.
template <class Write>
void write_elements(const TorchTarget& target, int64_t begin, int64_t end, const Write& write) {
  const int64_t item = item_size(target.dtype);
  if (target.axes.empty()) return write(target.data + begin * item, end - begin);
  constexpr int64_t kBuffer = 2048;  // elements; a multiple of every law's period
  alignas(64) char buffer[kBuffer * 8];
  std::vector<int64_t> place(target.axes.size());
  int64_t rest = begin, offset = 0;
  for (size_t i = 0; i < place.size(); ++i) {
    place[i] = rest % target.axes[i].size;
    rest /= target.axes[i].size;
    offset += place[i] * target.axes[i].stride;
  }
  while (begin < end) {
    const int64_t count = std::min(end - begin, kBuffer);
    write(buffer, count);
    for (int64_t done = 0; done < count;) {
      const Axis& fast = target.axes[0];
      const int64_t run = std::min(fast.size - place[0], count - done);
      char* out = target.data + offset * item;
      const char* from = buffer + done * item;
      switch (item) {
        case 2:
          for (int64_t i = 0; i < run; ++i) std::memcpy(out + i * fast.stride * 2, from + i * 2, 2);
          break;
        case 4:
          for (int64_t i = 0; i < run; ++i) std::memcpy(out + i * fast.stride * 4, from + i * 4, 4);
          break;
        default:
          for (int64_t i = 0; i < run; ++i) std::memcpy(out + i * fast.stride * 8, from + i * 8, 8);
      }
      done += run, place[0] += run, offset += run * fast.stride;
      for (size_t i = 0; i + 1 < place.size() && place[i] == target.axes[i].size; ++i) {
        offset += target.axes[i + 1].stride - place[i] * target.axes[i].stride;
        place[i] = 0, ++place[i + 1];
      }
    }
    begin += count;
  }
}

void write_one(const TorchTarget& target, int64_t element, double value) {
  write_elements(target, element, element + 1, [&](void* out, int64_t) {
    const float narrow = static_cast<float>(value);
    const uint16_t narrower = rounded16(target.dtype, narrow);
    const void* bytes = &narrower;
    if (target.dtype == DType::kFloat64) bytes = &value;
    if (target.dtype == DType::kFloat32) bytes = &narrow;
    std::memcpy(out, bytes, item_size(target.dtype));
  });
}

// ---- Parts

// [0, elements) in parts for the workers, each of them but the last a multiple of `grain`.
struct Parts {
  int64_t elements, grain, count;

  Parts(int64_t elements, int64_t grain, const Workers& workers)
      : elements(elements),
        grain(grain),
        count(std::max(std::clamp<int64_t>(elements / kLeastPart, 1, workers.threads),
                       (elements + kMostPart - 1) / kMostPart)) {}
  int64_t begin(int64_t part) const {
    return part == count ? elements : static_cast<int64_t>(__int128{elements} * part / count / grain * grain);
  }
};

// fill(state, begin, end) for parts of [0, elements), each with the state of the generator before its words.
template <class Fill>
void fill_parts(const Parts& parts, int64_t words_per_element, Mt19937& engine, const Workers& workers,
                const Fill& fill) {
  const Mt19937 start = engine;
  workers.run(parts.count, [&](int64_t part) {
    Mt19937 state = start;
    state.discard(parts.begin(part) * words_per_element);
    fill(state, parts.begin(part), parts.begin(part + 1));
    if (part == parts.count - 1) engine = state;
  });
}

// ---- Normal values in float64, by the C library

void serial_normal64(Mt19937& state, const NormalNumbers& law, double* out, int64_t count) {
  isa().torch.uniform(state, DType::kFloat64, {0.0, 1.0, 0.0f}, out, count);
  for (int64_t i = 0; i < count; i += 2) {
    const NormalPair z = serial_normal_pair(out[i], out[i + 1]);
    out[i] = std::fma(z.first, law.std, law.mean);
    out[i + 1] = std::fma(z.second, law.std, law.mean);
  }
}

// A block of 16: uniform values become normal ones.
void normal_block64(const NormalNumbers& law, double* block) {
  for (int j = 0; j < 8; ++j) {
    const double u1 = 1.0 - block[j], u2 = block[j + 8];
    const double radius = std::sqrt(-2.0 * std::log(u1)), angle = 2.0 * M_PI * u2;
    block[j] = std::fma(radius * std::cos(angle), law.std, law.mean);
    block[j + 8] = std::fma(radius * std::sin(angle), law.std, law.mean);
  }
}

void normal64(Mt19937& state, const NormalNumbers& law, double* out, int64_t count) {
  const int64_t whole = count / 16 * 16;
  isa().torch.uniform(state, DType::kFloat64, {0.0, 1.0, 0.0f}, out, whole);
  for (int64_t i = 0; i < whole; i += 16) normal_block64(law, out + i);
  if (whole == count) return;
  double block[16];
  isa().torch.uniform(state, DType::kFloat64, {0.0, 1.0, 0.0f}, block, 16);
  normal_block64(law, block);
  std::memcpy(out + whole, block, (count - whole) * sizeof *out);
}

// ---- Normal values, by torch's two ways

NormalPair draw_pair(Mt19937& engine) {
  double u[2];
  isa().torch.uniform(engine, DType::kFloat64, {0.0, 1.0, 0.0f}, u, 2);
  return serial_normal_pair(u[0], u[1]);
}

// One after another in pairs, of which the second may have to wait in the generator.
void normal_serially(const TorchTarget& target, const NormalNumbers& law, TorchGenerator& generator,
                     const Workers& workers) {
  const int64_t first = generator.next_normal.has_value() ? 1 : 0, pairs = (target.elements - first) / 2;
  if (first == 1) {
    write_one(target, 0, std::fma(*generator.next_normal, law.std, law.mean));
    generator.next_normal.reset();
  }
  fill_parts(Parts(2 * pairs, 2, workers), 2, generator.engine, workers,
             [&](Mt19937& state, int64_t begin, int64_t end) {
               write_elements(target, first + begin, first + end, [&](void* out, int64_t count) {
                 if (target.dtype == DType::kFloat64)
                   return serial_normal64(state, law, static_cast<double*>(out), count);
                 isa().torch.serial_normal(state, target.dtype, law, out, count);
               });
             });
  if (first + 2 * pairs < target.elements) {
    const NormalPair z = draw_pair(generator.engine);
    write_one(target, target.elements - 1, std::fma(z.first, law.std, law.mean));
    generator.next_normal = z.second;
  }
}

// Blocks of 16 elements from 16 draws. Where they do not come out even, the last 16 elements are drawn anew from 16
// more draws: so all before them are the body, and they are the tail.
struct Blocks {
  int64_t body, tail, body_words, gap_words, tail_words;  // between body and tail are words that no element takes

  explicit Blocks(const TorchTarget& target)
      : body(target.elements % 16 == 0 ? target.elements : target.elements - 16), tail(target.elements - body) {
    const int64_t words = words_of_uniform(target.dtype);
    body_words = target.elements / 16 * 16 * words;
    gap_words = is_16_bit(target.dtype) ? 0 : target.elements % 16 * words;
    tail_words = tail * words;
  }
  int64_t words() const { return body_words + gap_words + tail_words; }
};

void normal_in_blocks(const TorchTarget& target, const NormalNumbers& law, TorchGenerator& generator,
                      const Workers& workers) {
  const Blocks blocks(target);
  const int64_t item = item_size(target.dtype);
  auto fill = [&](Mt19937& state, int64_t begin, int64_t end) {
    char* out = target.data + begin * item;
    if (target.dtype == DType::kFloat64) return normal64(state, law, reinterpret_cast<double*>(out), end - begin);
    isa().torch.normal(state, target.dtype, law, out, end - begin);
  };
  fill_parts(Parts(blocks.body, 16, workers), words_of_uniform(target.dtype), generator.engine, workers, fill);
  if (blocks.tail == 0) return;
  generator.engine.discard(blocks.gap_words);
  fill(generator.engine, blocks.body, target.elements);
}

// ---- Truncated normal values

// Elements begin .. begin + count in blocks, drawn again in every round by themselves, while any of them is outside:
// which word an element takes in which round does not depend on the others.
struct Redrawn {
  const TorchTarget& target;
  const NormalNumbers& law;
  const TorchWindow& window;
  Mt19937 state;
  char* out;
  int64_t count, rounds = 0;
  std::vector<uint32_t> outside;

  Redrawn(const TorchTarget& target, const NormalNumbers& law, const TorchWindow& window, const Mt19937& state,
          int64_t begin, int64_t end)
      : target(target),
        law(law),
        window(window),
        state(state),
        out(target.data + begin * item_size(target.dtype)),
        count(end - begin) {}

  void draw() {
    constexpr int64_t kChunk = kOutsideRoom << 9;  // whole groups of `redraw`, which takes them in order
    int64_t listed = 0;
    for (int64_t i = 0; i < count; i += kChunk) {
      const int64_t n = std::min(kChunk, count - i);
      if (outside.size() < static_cast<size_t>(listed + n + kOutsideRoom)) {
        outside.resize(listed + n + kOutsideRoom +
                       static_cast<int64_t>(1.1 * listed / std::max<int64_t>(i, 1) * (count - i)));
      }
      listed += isa().torch.normal_within(state, target.dtype, law, window, out + i * item_size(target.dtype), n,
                                          static_cast<uint32_t>(i), outside.data() + listed);
    }
    outside.resize(listed + kOutsideRoom);
  }
  void redraw(int64_t words_between) {
    for (int64_t listed = outside.size() - kOutsideRoom; listed > 0; ++rounds) {
      state.discard(words_between);
      listed = isa().torch.redraw(state, target.dtype, law, window, out, count, outside.data(), listed);
    }
  }
};

bool trunc_normal_in_blocks(const TorchTarget& target, const NormalNumbers& law, const TorchWindow& window,
                            Mt19937& engine, const Workers& workers) {
  const Blocks blocks(target);
  const Parts parts(blocks.body, 16, workers);
  const int64_t words = blocks.words();
  struct End {
    Mt19937 state;
    int64_t rounds, words_left;  // words of the last round that come after it
  };
  std::vector<End> ends(parts.count + 1);
  workers.run(parts.count, [&](int64_t part) {
    const int64_t begin = parts.begin(part), end = parts.begin(part + 1);
    const bool last = part == parts.count - 1;
    const int64_t end_words = last ? blocks.body_words : end;
    Redrawn body(target, law, window, engine, begin, end);
    body.state.discard(begin);
    body.draw();
    if (last && blocks.tail > 0) {
      Redrawn tail(target, law, window, body.state, blocks.body, target.elements);
      tail.state.discard(blocks.gap_words);
      tail.draw();
      tail.redraw(words - blocks.tail_words);
      ends[parts.count] = {tail.state, tail.rounds, 0};
    }
    body.redraw(words - (end_words - begin));
    ends[part] = {body.state, body.rounds, words - end_words};
  });
  // All elements take part in all rounds, until the last of them is done.
  const End* longest = &ends[0];
  for (const End& end : ends) {
    if (end.rounds > longest->rounds || (end.rounds == longest->rounds && end.words_left < longest->words_left)) {
      longest = &end;
    }
  }
  engine = longest->state;
  engine.discard(longest->words_left);
  return longest->rounds > 0;
}

// Everything else, as torch does it: into memory of its own, over and over.
template <class T, class Order>
bool trunc_normal_by_copies(const TorchTarget& target, const NormalNumbers& law, T low, T high, const Order& order,
                            TorchGenerator& generator, const Workers& workers) {
  torch_normal(target, law, generator, workers);
  T* values = reinterpret_cast<T*>(target.data);
  std::vector<T> drawn;
  TorchTarget redrawn = target;
  auto outside = [&](T x) { return order(x) < order(low) || order(high) < order(x); };
  while (std::any_of(values, values + target.elements, outside)) {
    drawn.resize(target.elements);
    redrawn.data = reinterpret_cast<char*>(drawn.data());
    torch_normal(redrawn, law, generator, workers);
    for (int64_t i = 0; i < target.elements; ++i) {
      if (outside(values[i])) values[i] = drawn[i];
    }
  }
  return !drawn.empty();
}

}  // namespace

void torch_uniform(const TorchTarget& target, double from, double to, TorchGenerator& generator,
                   const Workers& workers) {
  TorchUniform law{from, to, static_cast<float>(to)};
  if (is_16_bit(target.dtype)) law.top = least_reaching(target.dtype, ordered16(rounded16(target.dtype, law.top)));
  fill_parts(Parts(target.elements, 1, workers), words_of_uniform(target.dtype), generator.engine, workers,
             [&](Mt19937& state, int64_t begin, int64_t end) {
               write_elements(target, begin, end, [&](void* out, int64_t count) {
                 isa().torch.uniform(state, target.dtype, law, out, count);
               });
             });
}

void torch_normal(const TorchTarget& target, const NormalNumbers& law, TorchGenerator& generator,
                  const Workers& workers) {
  (target.in_blocks ? normal_in_blocks : normal_serially)(target, law, generator, workers);
}

void skip_torch_uniform(const TorchTarget& target, TorchGenerator& generator) {
  generator.engine.discard(target.elements * words_of_uniform(target.dtype));
}

void skip_torch_normal(const TorchTarget& target, TorchGenerator& generator) {
  if (target.in_blocks) return generator.engine.discard(Blocks(target).words());
  const int64_t drawn = target.elements - (generator.next_normal.has_value() ? 1 : 0);
  generator.next_normal.reset();
  generator.engine.discard(drawn / 2 * 4);
  if (drawn % 2 == 1) generator.next_normal = draw_pair(generator.engine).second;
}

bool torch_trunc_normal(const TorchTarget& target, const NormalNumbers& law, double a, double b,
                        TorchGenerator& generator, const Workers& workers) {
  const float low = static_cast<float>(a), high = static_cast<float>(b);
  const bool rarely_left = law.mean - a > 3 * law.std && b - law.mean > 3 * law.std;
  auto itself = [](auto x) { return x; };
  if (target.dtype == DType::kFloat64) return trunc_normal_by_copies(target, law, a, b, itself, generator, workers);
  if (!is_16_bit(target.dtype)) {
    if (!target.in_blocks) return trunc_normal_by_copies(target, law, low, high, itself, generator, workers);
    return trunc_normal_in_blocks(target, law, {low, high, rarely_left}, generator.engine, workers);
  }
  const uint16_t low16 = rounded16(target.dtype, low), high16 = rounded16(target.dtype, high);
  if (!target.in_blocks) return trunc_normal_by_copies(target, law, low16, high16, ordered16, generator, workers);
  const float above = least_reaching(target.dtype, ordered16(high16) + 1);
  const TorchWindow window{least_reaching(target.dtype, ordered16(low16)),
                           std::nextafter(above, -std::numeric_limits<float>::infinity()), rarely_left};
  return trunc_normal_in_blocks(target, law, window, generator.engine, workers);
}

}  // namespace fastinit
