// Runs one translated kernel of test_ptx_to_cpp.py: run_snippets KERNEL SCHEDULE BLOCKS THREADS OUT_BYTES INPUT...
// The kernel's parameters are the addresses of the inputs (hexadecimal 64-bit words) and of the output, which is
// printed as words after the number of bytes that were stored exactly once.
#include <cuda_runtime_api.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ptx_runtime.h"

struct Named {
  const char* name;
  void (*kernel)(const void*);
};
extern const Named snippets[];

int main(int count, char** arguments) {
  const std::string name = arguments[1], order = arguments[2];
  const auto number = [&](int i) { return std::strtoull(arguments[i], nullptr, i < 6 ? 10 : 16); };
  std::vector<uint64_t> inputs, output((number(5) + 7) / 8, 0xEEEEEEEEEEEEEEEE);
  for (int i = 6; i < count; ++i) inputs.push_back(number(i));
  inputs.reserve(1);
  struct {
    const uint64_t* inputs;
    uint64_t* output;
  } parameters{inputs.data(), output.data()};

  emulator::set_schedule({order == "forward"   ? emulator::Order::kForward
                          : order == "reverse" ? emulator::Order::kReverse
                                               : emulator::Order::kShuffled,
                          std::strtoull(order.c_str(), nullptr, 10)});
  ptx::global_memory.add(inputs.data(), inputs.size() * 8);
  ptx::global_memory.add(output.data(), number(5));
  const Named* snippet = snippets;
  while (name != snippet->name) ++snippet;
  void* table = &parameters;
  const cudaError_t error =
      cudaLaunchKernel(reinterpret_cast<const void*>(snippet->kernel), dim3(static_cast<unsigned>(number(3))),
                       dim3(static_cast<unsigned>(number(4))), &table, 0, nullptr);
  if (error != cudaSuccess) {
    std::printf("%s\n", cudaGetErrorString(cudaGetLastError()));
    return 4;
  }
  int once = 0;
  for (const uint8_t writes : ptx::global_memory.regions()[1].writes) once += writes == 1;
  std::printf("%d", once);
  for (const uint64_t word : output) std::printf(" %llx", static_cast<unsigned long long>(word));
  std::printf("\n");
}
