#include "isa.h"

#include <cstdlib>
#include <stdexcept>

namespace fastinit {
namespace {

std::vector<Isa> detect() {
  std::vector<Isa> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl")) {
    found.push_back(kAvx512);
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    found.push_back(kAvx2);
  }
#elif defined(__aarch64__)
  found.push_back(kNeon);
#endif
  found.push_back(kScalar);
  return found;
}

const Isa& find(const std::string& name) {
  std::string names;
  for (const Isa& isa : available_isas()) {
    if (name == isa.name) return isa;
    names += names.empty() ? isa.name : std::string(", ") + isa.name;
  }
  throw std::runtime_error("FASTINIT_ISA must be one of " + names + " on this machine, got '" + name + "'");
}

const Isa& choose() {
  const char* forced = std::getenv("FASTINIT_ISA");
  return forced != nullptr && *forced != '\0' ? find(forced) : available_isas().front();
}

const Isa*& current() {
  static const Isa* chosen = &choose();
  return chosen;
}

}  // namespace

const std::vector<Isa>& available_isas() {
  static const std::vector<Isa> isas = detect();
  return isas;
}

const Isa& isa() { return *current(); }

void use_isa(const std::string& name) { current() = &find(name); }

}  // namespace fastinit
