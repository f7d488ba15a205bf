// How this thread rounds and whether it keeps subnormal numbers, which torch.set_flush_denormal and fesetround change.
#pragma once

#include <cstdint>
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fastinit {

// Whether this thread rounds to nearest and keeps subnormal numbers.
inline bool is_default_float_environment() {
#if defined(__SSE2__)
  constexpr unsigned kFlags = 0x3F;  // exceptions that were seen, of no consequence
  return (_mm_getcsr() & ~kFlags) == 0x1F80;
#elif defined(__aarch64__)
  uint64_t control;
  asm volatile("mrs %0, fpcr" : "=r"(control));
  return control == 0;
#else
  return true;
#endif
}

// While it lives, this thread rounds to nearest and keeps subnormal numbers; then everything is put back.
class DefaultFloatEnvironment {
 public:
#if defined(__SSE2__)
  DefaultFloatEnvironment() : saved_(_mm_getcsr()) { _mm_setcsr(0x1F80); }
  ~DefaultFloatEnvironment() { _mm_setcsr(saved_); }

 private:
  unsigned saved_;
#elif defined(__aarch64__)
  DefaultFloatEnvironment() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" : : "r"(uint64_t{0}));
  }
  ~DefaultFloatEnvironment() { asm volatile("msr fpcr, %0" : : "r"(saved_)); }

 private:
  uint64_t saved_;
#else
  DefaultFloatEnvironment() {}
#endif

 public:
  DefaultFloatEnvironment(const DefaultFloatEnvironment&) = delete;
  DefaultFloatEnvironment& operator=(const DefaultFloatEnvironment&) = delete;
};

}  // namespace fastinit
