// The normal distribution function in float64 for the host, frozen: +, -, *, / and square root alone, no libm, so that
// the window of a truncated normal is the same on every machine. Relative error below 2e-14 out to 20 standard
// deviations.
#pragma once

#include <cmath>

namespace fastinit {

// exp(x) for -1000 < x <= 0: x = k ln 2 + r, Taylor series of r.
inline double exp_negative(double x) {
  constexpr double kLn2High = 0x1.62e42fefa38p-1, kLn2Low = 0x1.ef35793c7673p-45;
  const double k = static_cast<double>(static_cast<int>(x / kLn2High - 0.5));
  const double r = (x - k * kLn2High) - k * kLn2Low;
  double sum = 1.0;
  for (int n = 17; n >= 1; --n) sum = 1.0 + sum * r / n;
  return std::ldexp(sum, static_cast<int>(k));
}

inline double normal_density(double x) {
  // x^2 / 2 in two parts: the first factor's argument is exact
  const double head = static_cast<double>(static_cast<float>(x)), rest = (x - head) * (x + head);
  return 0x1.9884533d43651p-2 * exp_negative(-0.5 * head * head) * (1.0 - 0.5 * rest * (1.0 - 0.25 * rest));
}

// Probability above x: Marsaglia's series (J. Stat. Software 11(4), 2004) near the centre, Laplace's continued fraction
// in the tail.
inline double normal_upper_tail(double x) {
  if (x < 0.0) return 1.0 - normal_upper_tail(-x);
  if (x < 2.0) {
    double term = x, sum = x;
    for (int n = 3; n < 140; n += 2) {
      term = term * x * x / n;
      sum += term;
    }
    return 0.5 - normal_density(x) * sum;
  }
  double fraction = x;
  for (int n = 150; n >= 1; --n) fraction = x + n / fraction;
  return normal_density(x) / fraction;
}

}  // namespace fastinit
