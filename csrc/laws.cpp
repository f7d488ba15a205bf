#include "laws.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <stdexcept>

#include "maths/normal_cdf.h"

namespace fastinit {
namespace {

// A binary floating type: bits after the binary point, the exponent of its smallest normal number, its largest number.
struct Format {
  const char* name;
  int mantissa, min_exponent;
  double max;
};

Format format_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return {"float32", 23, -126, std::numeric_limits<float>::max()};
    case DType::kFloat64:
      return {"float64", 52, -1022, std::numeric_limits<double>::max()};
    case DType::kBFloat16:
      return {"bfloat16", 7, -126, 0x1.FEp127};
    case DType::kFloat16:
      return {"float16", 10, -14, 65504.0};
    case DType::kFloat8E4M3FN:
      return {"float8_e4m3fn", 3, -6, 448.0};
    default:
      return {"float8_e5m2", 2, -14, 57344.0};
  }
}

// The spacing of the type's numbers around x.
double spacing(const Format& f, double x) {
  int exponent = 0;
  std::frexp(x, &exponent);
  return std::ldexp(1.0, std::max(x == 0 ? f.min_exponent : exponent - 1, f.min_exponent) - f.mantissa);
}

// The largest number of the type that is at most x (-infinity if there is none), and the smallest that is at least x.
double round_down(const Format& f, double x) {
  if (x < -f.max) return -std::numeric_limits<double>::infinity();
  if (f.mantissa == 52) return x;
  const double unit = spacing(f, x);
  return std::min(std::floor(x / unit) * unit, f.max);
}

double round_up(const Format& f, double x) { return -round_down(f, -x); }

double round_nearest(const Format& f, double x) {
  if (f.mantissa == 52) return x;
  const double unit = spacing(f, x);
  return std::nearbyint(x / unit) * unit;
}

// The type that the arithmetic is done in: float32, or float64 for float64.
double in_arithmetic(DType dtype, double x) { return dtype == DType::kFloat64 ? x : static_cast<float>(x); }

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream message;
  message.precision(17);
  (message << ... << parts);
  throw std::invalid_argument(message.str());
}

// `limit` is what the type of the arithmetic, or of the tensor, can hold.
void require_finite(const char* name, double value, const Format& type) {
  if (!(std::abs(value) <= type.max)) {
    fail(name, " must be a finite number that ", type.name, " can hold (at most ", type.max, " in size), got ", value);
  }
}

const Format& arithmetic_format(DType dtype) {
  static const Format f32 = format_of(DType::kFloat32), f64 = format_of(DType::kFloat64);
  return dtype == DType::kFloat64 ? f64 : f32;
}

void require_std(DType dtype, double std) {
  require_finite("std", std, arithmetic_format(dtype));
  if (std < 0) fail("std must be at least 0, got ", std);
}

void require_ordered(double a, double b) {
  if (a > b) fail("a must be at most b, got a = ", a, " and b = ", b);
}

}  // namespace

const char* dtype_name(DType dtype) { return format_of(dtype).name; }

Law uniform_numbers(DType dtype, double a, double b, LawNumbers& numbers) {
  const Format f = format_of(dtype);
  require_finite("a", a, f);
  require_finite("b", b, f);
  require_ordered(a, b);
  const double span = b - a;
  if (!(span <= arithmetic_format(dtype).max)) {
    fail("b - a must be at most ", arithmetic_format(dtype).max, ", got a = ", a, " and b = ", b);
  }
  const double low = in_arithmetic(dtype, a);
  // Where the type has no number in [a, b), all values are a, rounded to the type.
  const double below = round_down(f, std::nextafter(b, -std::numeric_limits<double>::infinity()));
  numbers.uniform = {in_arithmetic(dtype, span), low, std::max(below, round_nearest(f, low))};
  return Law::kUniform;
}

Law normal_numbers(DType dtype, double mean, double std, LawNumbers& numbers) {
  require_finite("mean", mean, arithmetic_format(dtype));
  require_std(dtype, std);
  numbers.normal = {mean, std};
  return Law::kNormal;
}

void check_gain(DType dtype, double gain) { require_finite("gain", gain, arithmetic_format(dtype)); }

Law trunc_normal_numbers(DType dtype, double mean, double std, double a, double b, LawNumbers& numbers) {
  constexpr double kFarthest = 12.0;  // standard deviations that a window may lie away from the mean
  const Format f = format_of(dtype);
  require_finite("mean", mean, arithmetic_format(dtype));
  require_std(dtype, std);
  require_finite("a", a, format_of(DType::kFloat64));
  require_finite("b", b, format_of(DType::kFloat64));
  require_ordered(a, b);
  const double low = round_up(f, a), high = round_down(f, b);
  if (!(low <= high)) fail("[a, b] must hold a number of type ", f.name, ", got a = ", a, " and b = ", b);
  if (std == 0 || a == b) {  // all the mass is at one point
    numbers.normal = {std::min(std::max(mean, low), high), 0.0};
    return Law::kNormal;
  }
  double x = (a - mean) / std, y = (b - mean) / std;
  if (!(x <= kFarthest && y >= -kFarthest)) {
    fail("[a, b] must reach within 12 std of the mean, got a = ", a, " and b = ", b, " with mean = ", mean,
         " and std = ", std, ", ", std::min(std::abs(x), std::abs(y)), " std away");
  }
  if (y - x < (dtype == DType::kFloat64 ? 1e-9 : 1e-4)) {
    // So narrow that the density is level, to a part in a thousand even at 12 std, while probabilities would have only
    // few steps left within the window.
    numbers.uniform = {in_arithmetic(dtype, high - low), low, high};
    return Law::kUniform;
  }
  x = std::max(x, -40.0), y = std::min(y, 40.0);
  const double p_a = normal_upper_tail(-x), q_a = normal_upper_tail(x);
  const double p_b = normal_upper_tail(-y), q_b = normal_upper_tail(y);
  const double window = x > 0 ? q_a - q_b : p_b - p_a;  // the difference of the smaller tails
  const double draws = dtype == DType::kFloat64 ? 0x1p-53 : 0x1p-32;
  const double width = window * draws;
  TruncNormalNumbers& n = numbers.trunc_normal;
  n = {width, p_a + width / 2, q_b + width / 2, mean, std, low, high, false};
  // The window's most central point decides whether all of it lies in the tail.
  const double central = x < 0 && y > 0 ? 0.5 : std::max(std::min(p_a, q_a), std::min(p_b, q_b));
  constexpr double kTailProduct = 0.00069 * 0.999;
  if (dtype != DType::kFloat64 && central * (1 - central) < kTailProduct) {
    n.mirrored = x > 0;
    n.width = std::ldexp(width, 64);
    n.lower = std::ldexp(n.mirrored ? n.upper : n.lower, 64);
    return Law::kTruncNormalTail;
  }
  return Law::kTruncNormal;
}

}  // namespace fastinit
