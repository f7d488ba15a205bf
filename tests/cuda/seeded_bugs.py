"""Bugs to put into a copy of csrc/, one at a time, each with the rung of the ladder that must be the first to
catch it.

The text must stand exactly once in the file. What lies in `#if __CUDA_ARCH__` is no bug for the shim, and flags
are none for it either: those are there to show that what nvcc makes is looked at. Each costs a compilation, so what the
translator refuses on sight has one of a kind: test_ptx_refused.py has them all.
"""

from typing import NamedTuple

from job_table import many_plan, plans
from jobs import Plan


class Bug(NamedTuple):
    name: str
    file: str  # in csrc/
    text: str
    replacement: str
    rung: str  # shim, nvcc, ptx, sass or budget
    flags: tuple[str, ...] = ()


SHIM, NVCC, PTX, SASS, BUDGET = "shim", "nvcc", "ptx", "sass", "budget"

BUGS = [
    # --- Which elements
    Bug("last Philox block of a ragged chunk missing", "cuda/dense.cu",
        "b * kPerBlock < end; b += kThreads", "(b + 1) * kPerBlock <= end; b += kThreads", SHIM),
    Bug("ragged chunks written twice", "cuda/dense.cu",
        "b * kPerBlock < end; b += kThreads", "b * kPerBlock < end; b += kThreads / 2", PTX),
    Bug("counter repeats inside a vector", "cuda/dense.cu",
        "number + u * kThreads * kBlocks + b, even", "number + u * kThreads * kBlocks, even", SHIM),
    Bug("alignment not looked at", "cuda/dense.cu",
        "reinterpret_cast<uintptr_t>(to) % kVector == 0", "true", SHIM),
    Bug("element index in 32 bits", "cuda/dense.cu",
        "const int64_t first = (blockIdx.x", "const int32_t first = (blockIdx.x", SHIM),
    Bug("offset of the key dropped", "cuda/dense.cu",
        "tensor.offset + first / Law::kPerBlock;", "static_cast<uint64_t>(first / Law::kPerBlock);", SHIM),
    Bug("wrap of the block's number not seen", "cuda/dense.cu", " && !wraps)", ")", SHIM),
    Bug("search of the tensor off by one", "cuda/device.h",
        "table.starts[i + step] <= blockIdx.x", "table.starts[i + step] < blockIdx.x", SHIM),
    Bug("stride of an outer dimension dropped", "cuda/rows.h",
        "place.memory += at * dim.stride;", "place.memory += at;", SHIM),
    Bug("last group of a row missing", "cuda/run.cpp",
        "(rows.length + 2 * (per_block - 1)) / per_block", "(rows.length + per_block - 1) / per_block", SHIM),
    Bug("tail of a constant one element too long", "cuda/pattern.cu",
        "if (end == vectors && tail + mine < bytes)", "if (end == vectors && tail + mine <= bytes)", SHIM),
    Bug("row number in 32 bits", "cuda/rows.h",
        "uint64_t left = static_cast<uint64_t>(row);", "uint64_t left = static_cast<uint32_t>(row);", SHIM),
    Bug("vectors of a constant in 32 bits", "cuda/pattern.cu",
        "static_cast<int64_t>(blockIdx.x - table.starts[i]) * kPatternVectors;",
        "static_cast<int64_t>((blockIdx.x - table.starts[i]) * static_cast<uint32_t>(kPatternVectors));", SHIM),
    Bug("groups of ones in 32 bits", "cuda/pattern.cu",
        "int64_t group = from / d.group_step;", "int64_t group = static_cast<int32_t>(from) / d.group_step;", SHIM),
    Bug("hot loop never taken", "cuda/dense.cu", "end - begin == kChunk &&", "end - begin > kChunk &&", PTX),
    # --- The host
    Bug("launched on another stream", "cuda/run.cpp", "arguments, 0, stream);", "arguments, 0, nullptr);", SHIM),
    Bug("a launch for each tensor", "cuda/run.cpp",
        "open.table.count == Table::kMost ||", "open.table.count == 1 ||", SHIM),
    Bug("more blocks than a launch can have", "cuda/run.cpp",
        " || open.blocks + blocks > kMostBlocks) open.launch", ") open.launch", SHIM),
    Bug("a table takes one tensor too many", "cuda/run.cpp",
        "open.table.count == Table::kMost ||", "open.table.count == Table::kMost + 1 ||", SHIM),
    Bug("last tables not launched", "cuda/run.cpp", "    floats_.launch_all(stream_);\n", "", SHIM),
    Bug("failed launches not noticed", "cuda/run.cpp",
        "if (error != cudaSuccess) {", "if (error == cudaErrorUnknown) {", SHIM),
    # --- Which words
    Bug("nine rounds of Philox", "cuda/philox.h", "r < kPhiloxRounds;", "r < kPhiloxRounds - 1;", SHIM),
    Bug("halves of mul.wide swapped (device only)", "cuda/arithmetic.h",
        "mov.b64 {%0, %1}, t;", "mov.b64 {%1, %0}, t;", PTX),
    # --- Arithmetic
    Bug("sign of a zero bound dropped", "cuda/general.cu",
        "return tensor.settles_zero && x == 0.0f ? tensor.zero : x;", "return x;", SHIM),
    Bug("square root without its last steps (device only)", "cuda/arithmetic.h",
        "return multiply_add(multiply_add(-root, root, x), half, root);",
        "return multiply_add(half, 0.0f, root);", PTX),
    Bug("sqrt.approx (device only)", "cuda/arithmetic.h",
        'asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));',
        'asm("sqrt.approx.f32 %0, %1;" : "=f"(y) : "f"(x)); y = __frcp_rn(y);', PTX),
    Bug("division without its last step (device only)", "cuda/arithmetic.h",
        "return multiply_add(y, multiply_add(-b, quotient, a), quotient);", "return quotient;", PTX),
    Bug("an addition rounds up (device only)", "cuda/arithmetic.h",
        "return __fadd_rn(a, b);", "return __fadd_ru(a, b);", PTX),
    Bug("halves of a bfloat16 pair swapped (device only)", "cuda/stores.h",
        'asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(words[0]) : "f"(odd.low), "f"(even.low));',
        'asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(words[0]) : "f"(even.low), "f"(odd.low));', PTX),
    Bug("--use_fast_math", "", "", "", PTX, ("--use_fast_math",)),
    Bug("--fmad=true and no intrinsics (device only)", "cuda/arithmetic.h",
        "return __fmul_rn(a, b);", "return a * b;", PTX, ("--fmad=true",)),
    Bug("-prec-sqrt=false and no intrinsics (device only)", "cuda/arithmetic.h",
        "const float root = multiply(x, y), half = multiply(y, 0.5f);",
        "const float half = multiply(y, 0.5f), root = sqrtf(x);", PTX, ("-prec-sqrt=false",)),
    Bug("float64 arithmetic in a float32 kernel (device only)", "cuda/arithmetic.h",
        "return __uint2float_rn(a);", "return __double2float_rn(__dmul_rn(__uint2double_rn(a), 1.0));", SASS),
    Bug("no saturation of float8", "maths/narrow.h", "x, 0x43F00000u, 0x7Eu", "x, 0x43F00000u, 0x7Fu", SHIM),
    Bug("smallest float16 a normal one", "maths/numbers.h",
        "    case DType::kBFloat16:\n      return 0x0080;",
        "    case DType::kFloat16:\n      return 0x0400;\n    case DType::kBFloat16:\n      return 0x0080;", SHIM),
    # --- Barriers and ties
    Bug("no barrier after the counts are cleared", "cuda/sparse.cu",
        "s.counts[i / kDigits][i % kDigits] = 0;\n  __syncthreads();",
        "s.counts[i / kDigits][i % kDigits] = 0;", SHIM),
    Bug("no barrier between the sums and their use", "cuda/sparse.cu",
        "    }\n    __syncthreads();\n    if (threadIdx.x < kSparseColumns && s.wanted",
        "    }\n    if (threadIdx.x < kSparseColumns && s.wanted", SHIM),
    Bug("a barrier that some threads of a warp skip", "cuda/sparse.cu",
        "int shift = kKeyBits;", "int shift = kKeyBits;\n  if (threadIdx.x < 40) __syncthreads();", SHIM),
    Bug("counts that are not atomic (device only)", "cuda/sparse.cu",
        "atomicAdd(&s.counts[c][(key >> shift) & (kDigits - 1) >> (kDigitBits - bits)], 1u);",
        "uint32_t& n = s.counts[c][(key >> shift) & (kDigits - 1) >> (kDigitBits - bits)]; n = n + 1;", PTX),
    Bug("of equal draws the last row", "cuda/sparse.cu",
        "<< kRowBits | static_cast<uint64_t>(row);", "<< kRowBits | (0x7FFFFFFF - static_cast<uint64_t>(row));", SHIM),
    Bug("no barrier before the sums are used (device only)", "cuda/sparse.cu",
        "      s.sums[c][part] = sum;\n    }\n    __syncthreads();",
        "      s.sums[c][part] = sum;\n    }\n#if !defined(__CUDA_ARCH__)\n    __syncthreads();\n#endif", PTX),
    # --- What it costs
    Bug("an array indexed at run time", "cuda/stores.h",
        "  FASTINIT_UNROLL\n  for (int j = 0; j < static_cast<int>(Store::kWords",
        '  _Pragma("unroll 1")\n  for (int j = 0; j < static_cast<int>(Store::kWords', NVCC),
    Bug("too few registers", "cuda/dense.cu", "DenseTable<T>, kThreads, 2)", "DenseTable<T>, kThreads, 8)", NVCC),
    Bug("rounds of Philox in a loop", "cuda/philox.h",
        "    FASTINIT_UNROLL\n    for (int r = 3;", '    _Pragma("unroll 1")\n    for (int r = 3;', BUDGET),
    Bug("two instructions for each product (device only)", "cuda/arithmetic.h",
        'asm("{.reg .u64 t; mul.wide.u32 t, %2, %3; mov.b64 {%0, %1}, t;}" : "=r"(low), "=r"(high) : "r"(a), "r"(b));',
        "low = a * b, high = __umulhi(a, b);", BUDGET),
]  # fmt: skip


def table() -> list[Plan]:
    """The part of the job table that shows them all: each run of it takes seconds."""
    names = [
        "golden_float32",
        "golden_bfloat16",
        "dense_uniform_float32",
        "dense_normal_float32",
        "dense_normal_float16",
        "dense_trunc_normal_bfloat16",
        "dense_normal_float64",
        "dense_uniform_float8_e5m2",
        "more_float32",
        "more_float8_e4m3fn",
        "far_normal_float32",
        "huge_ragged_uniform_float32",
        "huge_column_constant_float32",
        "huge_constant_float32",
        "huge_dirac_float8_e5m2",
        "huge_together",
        "whole_float32",
        "strided_normal_1_float32",
        "constant_bfloat16",
        "diagonal_float16",
        "sparse_float32",
        "sparse_float16",
        "sparse_float64",
        "sparse_tie",
    ]
    chosen = [plan for plan in plans() if plan.name in names]
    assert len(chosen) == len(names)
    few = [many_plan("many_of_one_type", 250, ["float32"]), many_plan("failing_of_one_type", 40, ["float32"])]
    return [*chosen, *few]
