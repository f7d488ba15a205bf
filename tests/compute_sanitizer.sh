#!/usr/bin/env bash
# tests/test_gpu.py under each tool of NVIDIA's compute-sanitizer, on a machine with a CUDA device:
#     tests/compute_sanitizer.sh [PYTHON [arguments for pytest...]]
# Left out are matrix products, which are not our kernels, and CUDA graphs, which cannot be captured without a cache of memory.
set -euo pipefail
cd "$(dirname "$0")/.."

python=${1:-python3}
shift || true
sanitizer=$(command -v compute-sanitizer || true)
if [ -z "$sanitizer" ]; then
  echo "compute-sanitizer is not in PATH: it comes with NVIDIA's CUDA toolkit, often in /usr/local/cuda/bin." >&2
  exit 1
fi
if ! "$python" -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; then
  echo "torch finds no CUDA device by '$python': there is nothing to run the tests on." >&2
  exit 1
fi
# Memory of the caching allocator is one block to memcheck: without it, each tensor has its own.
export PYTORCH_NO_CUDA_MEMORY_CACHING=1
for tool in memcheck racecheck initcheck synccheck; do
  echo "== $tool"
  "$sanitizer" --tool "$tool" --error-exitcode 1 --target-processes all \
    --kernel-name kernel_substring=fastinit "$python" -m pytest -q -m gpu tests/test_gpu.py \
    -k "not orthogonal and not graph" "$@"
done
