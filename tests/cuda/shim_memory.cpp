// Noise in the shim's shared memory before each block.
#include "emulator.h"

extern char __start_fastinit_shared[] __attribute__((weak));
extern char __stop_fastinit_shared[] __attribute__((weak));

namespace {

const bool hooked = [] {
  emulator::at_block_start([](const emulator::KernelFacts*) {
    for (char* byte = __start_fastinit_shared; byte != __stop_fastinit_shared; ++byte) {
      *byte = static_cast<char>(emulator::next_random());
    }
  });
  return true;
}();

}  // namespace
