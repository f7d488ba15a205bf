// A CUDA device that is none: what torch asks of CUDA, answered on the CPU. Loaded before everything else (LD_PRELOAD),
// it has torch put CUDA tensors into ordinary memory and fastinit's kernels run on the emulator, so that all of
// fastinit runs as it does on a device: Python, the dispatcher, the module fastinit._C_cuda, run.cpp. Copies, streams
// and events are those of a device that is always done already. No kernel of torch's own runs, and to launch one is an
// error, as is whatever torch asks that is not here: the real runtime answers that there is no driver.
#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <map>

#include "emulator.h"

// The emulator's own cudaLaunchKernel and cudaGetLastError, by the names that test_whole.py gives them.
extern "C" cudaError_t emulated_launch(const void*, dim3, dim3, void**, size_t, cudaStream_t);
extern "C" cudaError_t emulated_last_error();

namespace {

constexpr int kDevices = 2;
constexpr size_t kAlignment = 512, kMemory = size_t{1} << 30;

thread_local int device = 0;
cudaError_t last_error = cudaSuccess;
size_t streams = 0;
// Of the last launch.
int launch_device = -1;
cudaStream_t launch_stream = nullptr;

// The kernels here, by the address of nvcc's stub in fastinit._C_cuda, which registers its own by name when it is
// loaded.
std::map<const void*, const void*>& kernels() {
  static std::map<const void*, const void*> all;
  return all;
}

cudaError_t allocate(void** memory, size_t bytes) {
  *memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  return *memory != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}

// What of the driver torch looks up, and needs no answer of.
CUresult any_driver_function() { return CUDA_SUCCESS; }

}  // namespace

// ---- for tests, by ctypes

extern "C" {

int emulated_launches() { return emulator::launches(); }
int emulated_launch_device() { return launch_device; }
cudaStream_t emulated_launch_stream() { return launch_stream; }
void emulated_fail_next() { emulator::fail_launch(0, cudaErrorInvalidConfiguration); }

// ---- kernels

void __cudaRegisterFunction(void** module, const char* stub, char* in_module, const char* name, int threads,
                            uint3* thread, uint3* block, dim3* block_size, dim3* grid_size, int* warp) {
  using Register = decltype(__cudaRegisterFunction);
  static auto* const next =
      reinterpret_cast<Register*>(dlsym(dlopen("libcudart.so.13", RTLD_NOLOAD | RTLD_LAZY), "__cudaRegisterFunction"));
  if (std::strncmp(name, "fastinit_", 9) == 0) kernels()[stub] = dlsym(RTLD_DEFAULT, name);
  next(module, stub, in_module, name, threads, thread, block, block_size, grid_size, warp);
}

cudaError_t cudaLaunchKernel(const void* stub, dim3 grid, dim3 threads, void** arguments, size_t shared,
                             cudaStream_t stream) {
  const auto kernel = kernels().find(stub);
  if (kernel == kernels().end()) return last_error = cudaErrorInvalidDeviceFunction;
  launch_device = device, launch_stream = stream;
  return emulated_launch(kernel->second, grid, threads, arguments, shared, stream);
}

// What kernel<<<...>>>() becomes, which fastinit has none of.
cudaError_t __cudaLaunchKernel(cudaKernel_t, dim3, dim3, void**, size_t, cudaStream_t) {
  return last_error = cudaErrorInvalidDeviceFunction;
}

cudaError_t cudaGetLastError() {
  const cudaError_t error = last_error != cudaSuccess ? last_error : emulated_last_error();
  last_error = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError() { return last_error; }
const char* cudaGetErrorName(cudaError_t) { return "an error of the emulated device"; }

// ---- devices

cudaError_t cudaGetDeviceCount(int* count) { return *count = kDevices, cudaSuccess; }
cudaError_t cudaGetDevice(int* which) { return *which = device, cudaSuccess; }
cudaError_t cudaSetDevice(int which) {
  if (which < 0 || which >= kDevices) return cudaErrorInvalidDevice;
  return device = which, cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* about, int) {
  *about = {};
  std::strcpy(about->name, "emulator");
  about->major = 9, about->multiProcessorCount = 1, about->warpSize = 32, about->totalGlobalMem = kMemory;
  about->maxThreadsPerBlock = 1024, about->maxThreadsPerMultiProcessor = 2048;
  return cudaSuccess;
}
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { return *can = 0, cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** function, unsigned, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  void* const known = dlsym(RTLD_DEFAULT, name);
  *function = known != nullptr ? known : reinterpret_cast<void*>(any_driver_function);
  if (result != nullptr) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
CUresult cuDevicePrimaryCtxGetState(CUdevice, unsigned* flags, int* active) {
  return *flags = 0, *active = 1, CUDA_SUCCESS;
}

// ---- memory

cudaError_t cudaMalloc(void** memory, size_t bytes) { return allocate(memory, bytes); }
cudaError_t cudaFree(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned) { return allocate(memory, bytes); }
cudaError_t cudaFreeHost(void* memory) { return std::free(memory), cudaSuccess; }
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { return *free = *total = kMemory, cudaSuccess; }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* about, const void*) { return *about = {}, cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t) {
  return std::memcpy(to, from, bytes), cudaSuccess;
}
cudaError_t cudaMemsetAsync(void* to, int byte, size_t bytes, cudaStream_t) {
  return std::memset(to, byte, bytes), cudaSuccess;
}

// ---- streams and events

cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) { return *least = *greatest = 0, cudaSuccess; }
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned, int) {
  return *stream = reinterpret_cast<cudaStream_t>(16 * ++streams), cudaSuccess;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long*, cudaGraph_t*,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  return *status = cudaStreamCaptureStatusNone, cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  return *event = reinterpret_cast<cudaEvent_t>(1), cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

}  // extern "C"
