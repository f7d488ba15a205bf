#include "pages.h"

#include <ATen/EmptyTensor.h>
#include <ATen/Functions.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

namespace fastinit {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;  // the same on x86-64 and, with 4 KB pages, on aarch64

const size_t kPage = sysconf(_SC_PAGESIZE);

// The page before the memory holds the bytes of both: torch copies on write only what its address alone can free.
void unmap(void* data) {
  char* const header = static_cast<char*>(data) - kPage;
  munmap(header, *reinterpret_cast<const size_t*>(header));
}

// Fresh memory that starts at a huge page, advised to lie in them; null where the kernel has none to give. Where it
// refuses the advice, the pages are small ones.
c10::DataPtr map(size_t bytes) {
  const size_t used = (bytes + kPage - 1) / kPage * kPage, reserved = used + kHugePage;
  void* start = mmap(nullptr, reserved, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (start == MAP_FAILED) return {};
  char* const first = static_cast<char*>(start);
  const size_t beyond = (reinterpret_cast<uintptr_t>(first) + kPage) % kHugePage;
  const size_t unused = (kHugePage - beyond) % kHugePage;
  char* const header = first + unused;
  char* const data = header + kPage;
  if (unused > 0) munmap(first, unused);
  if (unused + kPage < kHugePage) munmap(data + used, kHugePage - unused - kPage);
  *reinterpret_cast<size_t*>(header) = kPage + used;
  madvise(data, used, MADV_HUGEPAGE);
  return {data, data, unmap, at::kCPU};
}

}  // namespace

at::Tensor tensor_in(c10::Storage storage, at::ScalarType dtype, at::IntArrayRef sizes, at::IntArrayRef strides,
                     int64_t offset) {
  const c10::DispatchKeySet keys(storage.device_type() == at::kCUDA ? c10::DispatchKey::CUDA : c10::DispatchKey::CPU);
  at::Tensor tensor =
      at::detail::make_tensor<c10::TensorImpl>(std::move(storage), keys, c10::scalarTypeToTypeMeta(dtype));
  tensor.unsafeGetTensorImpl()->set_sizes_and_strides(sizes, strides, offset);
  return tensor;
}

at::Tensor new_huge_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype) {
  const size_t bytes = at::detail::computeStorageNbytes(sizes, strides, at::elementSize(dtype));
  c10::DataPtr data = bytes < kHugePage ? c10::DataPtr() : map(bytes);
  if (!data) return {};
  c10::Storage storage(c10::Storage::use_byte_size_t(), bytes, std::move(data), c10::GetCPUAllocator(),
                       /*resizable=*/true);
  return tensor_in(std::move(storage), dtype, sizes, strides, 0);
}

at::Tensor new_tensor(at::IntArrayRef sizes, at::IntArrayRef strides, at::ScalarType dtype) {
  at::Tensor tensor = new_huge_tensor(sizes, strides, dtype);
  return tensor.defined() ? tensor : at::empty_strided(sizes, strides, dtype);
}

bool is_huge(const c10::DataPtr& data) { return data.get_deleter() == unmap; }

}  // namespace fastinit
