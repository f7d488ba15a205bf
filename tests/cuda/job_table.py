"""The tensors that the ladder fills: every law and type, sizes around everything that a kernel counts by,
layouts, parts.

A plan is a list of jobs that share launches. `lines` writes them for run_jobs.cpp; expected.py judges what it
wrote.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Sequence

import torch
from toolkit import ROOT

DTYPES = ("float32", "float64", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
CHUNK = 16384  # elements that one block of threads fills; of a size that is tested from both sides
KEYS = [(0, 0), (0x0123456789ABCDEF, 7), (2**64 - 1, 2**63), (20111115, 3)]


@dataclasses.dataclass(frozen=True)
class Job:
    """A tensor, which is the part of a tensor of shape `of` that begins at `start`, with any strides."""

    law: str  # of fastinit's functions, without the underscore
    numbers: tuple[float, ...]
    dtype: str
    shape: tuple[int, ...]
    key: tuple[int, int] = (0, 0)
    of: tuple[int, ...] = ()
    start: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    misaligned: int = 0  # bytes of the data behind a multiple of 64
    tail: int = 0  # if not 0: only the last elements have memory
    golden: str = ""  # the frozen bytes, as hex

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    @property
    def item(self) -> int:
        return self.torch_dtype.itemsize

    @property
    def elements(self) -> int:
        """That have memory."""
        return self.tail or math.prod(self.shape)

    @property
    def whole_shape(self) -> tuple[int, ...]:
        return self.of or self.shape

    @property
    def first(self) -> tuple[int, ...]:
        return self.start or (0,) * len(self.shape)


@dataclasses.dataclass(frozen=True)
class Plan:
    name: str
    jobs: tuple[Job, ...]
    last_blocks: int = 0  # of each launch, if not all


# --- Layouts -------------------------------------------------------------------------------------------------------
def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[d + 1 :]) for d in range(len(shape)))


def transposed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(math.prod(shape[:d]) for d in range(len(shape)))


def every_second_column(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(2 * stride for stride in contiguous(shape))


def rows_with_gaps(shape: Sequence[int]) -> tuple[int, ...]:
    return contiguous((*shape[:-1], shape[-1] + 5))


def channels_last(shape: Sequence[int]) -> tuple[int, ...]:
    n, c, *space = shape
    strides = contiguous((n, *space, c))
    return (strides[0], 1, *strides[1:-1])


LAYOUTS = {
    "transposed": transposed,
    "every second column": every_second_column,
    "rows with gaps": rows_with_gaps,
}


# --- Laws ----------------------------------------------------------------------------------------------------------
DRAWN: list[tuple[str, tuple[float, ...]]] = [
    ("uniform", (-0.7, 0.9)),
    ("normal", (0.3, 0.02)),
    ("trunc_normal", (0.1, 1.0, -1.9, 2.1)),
]
MORE_DRAWN = [
    ("trunc_normal", (0.0, 0.02, -2.0, 2.0)),  # draws from the whole law
    ("trunc_normal", (0.0, 1.0, -6.0, -4.0)),  # the lower tail
    ("trunc_normal", (0.0, 1.0, 4.0, 12.0)),  # the upper tail
    ("trunc_normal", (1.0, 2.0, 0.0, 100.0)),
]
# A bound that is zero, where the sign of a zero depends on the order of min and max; and numbers of no normal size,
# which an instruction that flushes them to zero would lose.
ZEROS = [
    ("uniform", (0.0, 0.0)),
    ("uniform", (-0.0, -0.0)),
    ("uniform", (-1.0, 1e-60)),
    ("trunc_normal", (0.0, 1.0, 0.0, 2.0)),
    ("trunc_normal", (0.0, 1.0, -2.0, 0.0)),
    ("trunc_normal", (0.0, 1.0, -2.0, -0.0)),
    ("trunc_normal", (0.0, 1.0, -0.0, 2.0)),
    ("trunc_normal", (0.0, 1.0, -5e-5, 0.0)),  # so narrow that it is uniform
    ("trunc_normal", (0.0, 1.0, -5e-5, -0.0)),
    ("trunc_normal", (0.0, 1.0, 0.0, 0.0)),
    ("normal", (0.0, 0.0)),
]
SUBNORMAL = [
    ("uniform", (0.0, 1e-38)),
    ("uniform", (-1e-40, 1e-39)),
    ("normal", (0.0, 1e-39)),
    ("normal", (1e-38, 2e-39)),
]
CONSTANTS = (0.0, 1.0, -0.1)


# --- Plans ---------------------------------------------------------------------------------------------------------
def golden_plans() -> list[Plan]:
    """The frozen values of tests/golden/keyed.json, one plan for each type."""
    plans: dict[str, list[Job]] = {dtype: [] for dtype in DTYPES}
    for case in json.loads((ROOT / "tests" / "golden" / "keyed.json").read_text()):
        law = case["law"].removesuffix("_")
        names = {"sparse": ("sparsity", "std"), "uniform": ("a", "b"), "normal": ("mean", "std")}
        numbers = tuple(case[name] for name in names.get(law, ("mean", "std", "a", "b")))
        of, start, shape = (tuple(case[name]) for name in ("of", "start", "shape"))
        if law == "sparse":
            numbers = (float(math.ceil(numbers[0] * of[0])), numbers[1])
        job = Job(law, numbers, case["dtype"], shape, tuple(case["key"]), of, start, golden=case["bytes"])
        plans[case["dtype"]].append(job)
    return [Plan(f"golden_{dtype}", tuple(jobs)) for dtype, jobs in plans.items()]


def dense_plans() -> list[Plan]:
    """Whole tensors of many sizes: aligned, misaligned by an element or more, and from the middle of a chunk on."""
    small = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 255, 257, 1025]
    large = [CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK + 5]
    plans = []
    for dtype, (law, numbers) in itertools.product(DTYPES, DRAWN):
        jobs = [Job(law, numbers, dtype, (n,), KEYS[i % 4]) for i, n in enumerate([*small, *large])]
        item = getattr(torch, dtype).itemsize
        jobs += [Job(law, numbers, dtype, (n,), misaligned=item * (1 + i % 5)) for i, n in enumerate(small)]
        jobs.append(Job(law, numbers, dtype, (CHUNK + 9,), (3, 5), misaligned=item))
        jobs.append(Job(law, numbers, dtype, (CHUNK + 9,), (3, 6), misaligned=16 if item < 16 else 0))
        for first in (1, 2, 3, 6, CHUNK - 2, CHUNK):  # parts of longer ones
            jobs.append(Job(law, numbers, dtype, (CHUNK + 301,), (8, first), (3 * CHUNK,), (first,)))
        # On memory that is aligned where the chunks begin, though the part's start is not.
        jobs.append(Job(law, numbers, dtype, (2 * CHUNK,), (8, 9), (3 * CHUNK,), (4,), misaligned=4 * item))
        plans.append(Plan(f"dense_{law}_{dtype}", tuple(jobs)))
    for dtype in DTYPES:
        jobs = [
            Job(law, numbers, dtype, (n,), KEYS[n % 4]) for law, numbers in MORE_DRAWN for n in (5, 1111, CHUNK + 3)
        ]
        jobs += [Job(law, numbers, dtype, (n,), KEYS[n % 4]) for law, numbers in ZEROS for n in (5, 700)]
        jobs += [Job("normal", (0.0, 0.0), dtype, (CHUNK,)), Job("uniform", (2.5, 2.5), dtype, (CHUNK,))]
        if dtype in ("float32", "bfloat16"):
            jobs += [Job(law, numbers, dtype, (n,)) for law, numbers in SUBNORMAL for n in (9, CHUNK)]
        plans.append(Plan(f"more_{dtype}", tuple(jobs)))
    return plans


def far_plans() -> list[Plan]:
    """Elements and blocks of Philox beyond 2^32, and the wrap of a block's number at 2^32 and 2^64."""
    plans = []
    for dtype, (law, numbers) in itertools.product(DTYPES, [*DRAWN, ("trunc_normal", (0.0, 1.0, 4.0, 5.0))]):
        jobs = [Job(law, numbers, dtype, (1111,), (77, 0), (2**62 + 999,), (first - 555,))
                for first in (2**32, 2**33, 2**34, 2**62)]  # fmt: skip
        last = 2**63 - 1  # and the last elements that there can be
        jobs += [Job(law, numbers, dtype, (n,), (77, 0), (last,), (last - n,)) for n in (10, CHUNK + 1111)]
        per_block = 2 if dtype == "float64" else 4
        for wrap in (2**32, 2**64):
            jobs.append(Job(law, numbers, dtype, (1400,), (7, wrap - 50)))
            jobs.append(Job(law, numbers, dtype, (CHUNK,), (7, wrap - CHUNK // per_block)))  # up to it
            jobs.append(Job(law, numbers, dtype, (CHUNK,), (7, wrap - CHUNK // per_block + 1)))  # over it by one block
            jobs.append(Job(law, numbers, dtype, (3 * CHUNK,), (7, wrap - 5000)))
        plans.append(Plan(f"far_{law}{'_tail' if numbers[2:3] == (4.0,) else ''}_{dtype}", tuple(jobs)))
    for dtype, (law, numbers) in itertools.product(("float32", "float64", "bfloat16", "float8_e5m2"), DRAWN):
        # More elements than 2^32, of which the last chunks alone have memory and run.
        size = 5 * 2**32 + 3 * CHUNK
        plans.append(Plan(f"huge_{law}_{dtype}", (Job(law, numbers, dtype, (size,), (5, 9), tail=CHUNK),), 1))
        jobs = (Job(law, numbers, dtype, (size + 1003,), (5, 9), tail=CHUNK + 1003),)
        plans.append(Plan(f"huge_ragged_{law}_{dtype}", jobs, 2))
    return plans


def strided_plans() -> list[Plan]:
    plans = []
    laws = [*DRAWN, MORE_DRAWN[1], MORE_DRAWN[2], ("constant", (-0.1,))]
    for dtype, (law, numbers) in itertools.product(DTYPES, laws):
        item = getattr(torch, dtype).itemsize
        jobs = []
        for i, (name, layout) in enumerate(LAYOUTS.items()):
            for shape in ((37, 53), (3, 130), (5, 7, 9)):
                jobs.append(Job(law, numbers, dtype, shape, (i, 5), strides=layout(shape)))
            of, start, shape = (50, 61), (3, 4), (23, 31)  # and as a part
            jobs.append(Job(law, numbers, dtype, shape, (i, 6), of, start, layout(shape), misaligned=item))
            far = (2**17, 2**17 + 1), (2**17 - 9, 2**17 - 14), (9, 13)
            jobs.append(Job(law, numbers, dtype, far[2], (i, 2**32 - 3), *far[:2], layout(far[2]) if name else ()))
        image = (4, 5, 7, 9)
        jobs.append(Job(law, numbers, dtype, image, (9, 9), strides=channels_last(image)))
        jobs.append(Job(law, numbers, dtype, image, (9, 9), (9, 10, 11, 12), (2, 5, 1, 3), channels_last(image)))
        jobs.append(Job(law, numbers, dtype, (300, 70), (9, 1), (300, 140), (0, 70)))  # a shard of columns
        jobs.append(Job(law, numbers, dtype, (70, 300), (9, 2), (140, 300), (70, 0)))  # a shard of rows
        deep = (2, 3, 2, 3, 2, 3, 2, 2)  # more dimensions than a table has room for
        jobs.append(Job(law, numbers, dtype, deep, (1, 1), strides=tuple(3 * s for s in transposed(deep))))
        deep_of = tuple(n + 1 for n in deep)
        jobs.append(Job(law, numbers, dtype, deep, (1, 2), deep_of, (1,) * 8, rows_with_gaps(deep)))
        jobs.append(Job(law, numbers, dtype, (), (4, 4)))
        jobs.append(Job(law, numbers, dtype, (0, 5), (4, 4)))
        jobs.append(Job(law, numbers, dtype, (5, 0), (4, 4), strides=(1, 1)))
        plans.append(Plan(f"strided_{law}_{len(plans)}_{dtype}", tuple(jobs)))
    return plans


def pattern_plans() -> list[Plan]:
    """Constants of every width at every alignment, and matrices and kernels with ones on their diagonals."""
    plans = []
    eyes = [(3, 5), (5, 3), (1, 1), (1, 7), (7, 1), (33, 33), (130, 301)]
    diracs = [((4, 4, 3), 2), ((6, 2, 3, 3), 3), ((6, 3, 1, 1), 2), ((2, 8, 3, 5), 1), ((12, 4, 2, 3, 4), 12)]
    diracs += [((64, 1, 3, 3), 64), ((96, 40, 4, 5), 2)]
    for dtype in DTYPES:
        item = getattr(torch, dtype).itemsize
        sizes = [1, 2, 3, 5, 8, 15, 16, 17, 33, 255, 1000, CHUNK, CHUNK + 7]
        jobs = [Job("constant", (CONSTANTS[n % 3],), dtype, (n,), misaligned=m * item)
                for n, m in itertools.product(sizes, range(0, 16 // item, 3))]  # fmt: skip
        jobs += [Job("constant", (1.0,), dtype, (n,), misaligned=16 - item) for n in (1, 2, 17)]
        plans.append(Plan(f"constant_{dtype}", tuple(jobs)))
        jobs = []
        for law, shape, numbers in [*(("eye", s, ()) for s in eyes), *(("dirac", s, (float(g),)) for s, g in diracs)]:
            jobs.append(Job(law, numbers, dtype, shape))
            jobs.append(Job(law, numbers, dtype, shape, misaligned=item))
            jobs += [Job(law, numbers, dtype, shape, strides=layout(shape)) for layout in LAYOUTS.values()]
            start = tuple(n // 3 for n in shape)
            part = tuple(n - s for n, s in zip(shape, start, strict=True))
            jobs.append(Job(law, numbers, dtype, part, (0, 0), shape, start))
        jobs.append(Job("eye", (), dtype, (300, 200)))
        far = (7, (2**63 - 1) // 7)  # as large as can be
        jobs += [Job("eye", (), dtype, (1, 100), (0, 0), far, start) for start in ((6, 0), (5, 3), (6, far[1] - 100))]
        plans.append(Plan(f"diagonal_{dtype}", tuple(jobs)))
    return plans


def sparse_plans() -> list[Plan]:
    plans = []
    matrices = [
        (1, 1, 0),
        (2, 1, 1),
        (7, 5, 3),
        (300, 1, 120),
        (300, 8, 1),
        (301, 9, 300),
        (64, 13, 20),
        (1000, 17, 100),
    ]
    for dtype in DTYPES:
        jobs = []
        for i, (rows, columns, zeros) in enumerate(matrices):
            jobs.append(Job("sparse", (float(zeros), 0.02), dtype, (rows, columns), KEYS[i % 4]))
        for layout in (transposed, every_second_column, rows_with_gaps):
            jobs.append(Job("sparse", (20.0, 1.0), dtype, (64, 13), (3, 2**32 - 50), strides=layout((64, 13))))
        for start, shape in (
            ((0, 4), (64, 5)),
            ((10, 0), (20, 13)),
            ((63, 12), (1, 1)),
            ((5, 3), (41, 9)),
            ((5, 3), (1, 9)),
        ):
            for layout in (contiguous, transposed):
                of = (64, 13)
                jobs.append(Job("sparse", (20.0, 1.0), dtype, shape, (3, 2**64 - 50), of, start, layout(shape)))
        plans.append(Plan(f"sparse_{dtype}", tuple(jobs)))
    # The last zero and the first number have the same draw: the row decides (found by a search; test_ladder.py looks).
    plans.append(Plan("sparse_tie", (Job("sparse", (9492.0, 1.0), "float32", (40000, 1), (11, 2)),)))
    return plans


def many_plan(name: str, count: int) -> Plan:
    """So many tensors of every kind that they take several launches of each kernel."""
    laws = [*DRAWN, MORE_DRAWN[1], ("constant", (1.0,)), ("normal", (-1.0, 3.0))]
    jobs = []
    for i in range(count):
        law, numbers = laws[i % 6]
        dtype, n = DTYPES[i // 6 % 6], 1 + i * 7 % 61
        strides = (2,) if i % 11 == 3 else ()
        item = getattr(torch, dtype).itemsize
        jobs.append(Job(law, numbers, dtype, (n,), (i, i * 2**31), strides=strides, misaligned=item * (i % 4)))
    return Plan(name, tuple(jobs))


def plans() -> list[Plan]:
    several = [many_plan("many", 1500), many_plan("failing", 40)]
    return [
        *golden_plans(),
        *dense_plans(),
        *far_plans(),
        *strided_plans(),
        *pattern_plans(),
        *sparse_plans(),
        *several,
    ]


# --- As jobs.cpp does ----------------------------------------------------------------------------------------------
def dims_of(job: Job) -> tuple[int, list[tuple[int, int, int]]]:
    """The index of the first element, and each dimension's size, stride in memory and stride of the index."""
    strides = job.strides or contiguous(job.shape)
    is_whole, is_contiguous = job.whole_shape == job.shape, strides == contiguous(job.shape)
    if is_whole and is_contiguous and job.law not in ("eye", "dirac"):
        return 0, [(math.prod(job.shape), 1, 1)]
    steps = contiguous(tuple(max(n, 1) for n in job.whole_shape))
    first = sum(s * step for s, step in zip(job.first, steps, strict=True))
    is_dense = sorted(strides) == sorted(contiguous(job.shape)) or strides == transposed(job.shape)
    if job.law in ("constant", "eye", "dirac") and is_whole and is_dense:
        steps = strides  # one dense run
    return first, list(zip(job.shape, strides, steps, strict=True))


def diagonal_of(job: Job, dims: list[tuple[int, int, int]]) -> list[int]:
    sizes, groups = job.whole_shape, int(job.numbers[0]) if job.numbers else 1
    rows = sizes[0] // groups
    one = int.from_bytes(bytes_of(1.0, job.torch_dtype), "little")
    first = sum(n // 2 * step for n, (_, _, step) in zip(sizes[2:], dims[2:], strict=True))
    return [one, first, max(1, dims[0][2] + dims[1][2]), min(rows, sizes[1]), max(1, rows * dims[0][2]), groups]


def bytes_of(value: float, dtype: torch.dtype) -> bytes:
    return torch.full((1,), value, dtype=torch.float64).to(dtype).view(torch.uint8).numpy().tobytes()


def line(job: Job) -> str:
    first, dims = dims_of(job)
    if job.law == "constant":
        law = ["constant", int.from_bytes(bytes_of(job.numbers[0], job.torch_dtype), "little")]
    elif job.law in ("eye", "dirac"):
        law = ["diagonal", *diagonal_of(job, dims)]
    elif job.law == "sparse":
        zeros, std = job.numbers
        law = ["sparse", *job.whole_shape, int(zeros), job.first[1], job.shape[1], std.hex()]
    else:
        law = [job.law, *(x.hex() for x in job.numbers)]
    place = [*job.key, first % 2**64, job.misaligned, job.tail, len(dims)]
    return " ".join(map(str, ["job", job.dtype, *place, *itertools.chain(*dims), *law]))


def lines(of: Sequence[Plan]) -> str:
    text = []
    for plan in of:
        text += [f"plan {plan.name} {plan.last_blocks}", *map(line, plan.jobs)]
    return "\n".join(text) + "\n"
