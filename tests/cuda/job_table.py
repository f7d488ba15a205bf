"""The tensors that the ladder fills: every law and type, sizes around everything that a kernel counts by,
layouts, parts.

A plan is a list of jobs (jobs.py) that share launches. run_jobs.cpp fills them; expected.py judges what it wrote.
"""

import itertools
import json
import math
from collections.abc import Sequence

import torch
from jobs import DTYPES, LAYOUTS, Job, Plan, channels_last, contiguous, every_second_column, rows_with_gaps, transposed
from toolkit import ROOT

CHUNK = 16384  # elements that one block of threads fills; of a size that is tested from both sides
KEYS = [(0, 0), (0x0123456789ABCDEF, 7), (2**64 - 1, 2**63), (20111115, 3)]


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
    ("trunc_normal", (0.0, 1.0, -0.0, 0.0)),
    ("trunc_normal", (0.0, 1.0, 0.0, -0.0)),
    ("trunc_normal", (0.0, 1.0, -2.0, -1e-60)),
    ("trunc_normal", (0.0, 1.0, -1e-60, 2.0)),
    ("trunc_normal", (0.0, 1e-30, -1e-60, 1e-60)),
    ("uniform", (-1.0, -1e-60)),
    ("normal", (0.0, 0.0)),
]
SUBNORMAL = [
    ("uniform", (0.0, 1e-38)),
    ("uniform", (-1e-40, 1e-39)),
    ("normal", (0.0, 1e-39)),
    ("normal", (1e-38, 2e-39)),
]
# Standard deviations of which many values are beyond what the type holds.
LARGE = {"float16": 4e4, "float8_e4m3fn": 300.0, "float8_e5m2": 4e4}
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
        if dtype in LARGE:
            jobs.append(Job("normal", (0.0, LARGE[dtype]), dtype, (CHUNK + 5,), (6, 6)))
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
    return plans


def huge_plans() -> list[Plan]:
    """More elements, rows, bytes or blocks of threads than 2^32, of which the last ones alone have memory and run."""
    plans = []
    zero_bound = ("trunc_normal", (0.0, 1.0, 0.0, 2.0))  # which the general kernels fill
    upper_tail = ("trunc_normal", (0.0, 1.0, 4.0, 5.0))
    rows = 5 * 2**32 + 100
    chunk_bytes = 16 * 1024  # of a pattern that one block fills
    for dtype in ("float32", "float64", "bfloat16", "float8_e5m2"):
        item = getattr(torch, dtype).itemsize
        size = 5 * 2**32 + 3 * CHUNK
        for law, numbers in DRAWN:
            jobs = (Job(law, numbers, dtype, (size,), (5, 9), tail=CHUNK),)
            plans.append(Plan(f"huge_{law}_{dtype}", jobs, 1))
            jobs = (Job(law, numbers, dtype, (size + 1003,), (5, 9), tail=CHUNK + 1003),)
            plans.append(Plan(f"huge_ragged_{law}_{dtype}", jobs, 2))
        for law, numbers in (zero_bound, upper_tail):
            jobs = (Job(law, numbers, dtype, (3 * 2**34 + 1000,), (5, 9), tail=1000),)
            plans.append(Plan(f"huge_general_{numbers[2]:g}_{dtype}", jobs, 1))
            # A column, of which each element is a row of its own.
            column = Job(law, numbers, dtype, (rows, 1), (5, 9), (rows, 2), (0, 1), (3, 1), tail=100)
            plans.append(Plan(f"huge_column_{numbers[2]:g}_{dtype}", (column,), 1))
        column = Job("constant", (-0.1,), dtype, (rows, 1), (0, 0), (rows, 2), (0, 1), (3, 1), tail=100)
        plans.append(Plan(f"huge_column_constant_{dtype}", (column,), 1))
        size = (5 * 2**36 + chunk_bytes) // item
        jobs = (Job("constant", (-0.1,), dtype, (size,), tail=chunk_bytes // item),)
        plans.append(Plan(f"huge_constant_{dtype}", jobs, 1))
        jobs = (Job("eye", (), dtype, (2**18, 2**18), tail=chunk_bytes // item),)
        plans.append(Plan(f"huge_eye_{dtype}", jobs, 1))
        jobs = (Job("dirac", (3.0,), dtype, (3 * 2**14, 2**14, 3), tail=chunk_bytes // item),)
        plans.append(Plan(f"huge_dirac_{dtype}", jobs, 1))
    # Two tensors whose blocks of threads are too many for one launch together.
    blocks = 3 * 2**29
    jobs = tuple(Job("uniform", (-0.7, 0.9), "float8_e5m2", (blocks * CHUNK,), (i, 9), tail=CHUNK) for i in range(2))
    plans.append(Plan("huge_together", jobs, 1))
    return plans


def whole_plans() -> list[Plan]:
    """Tensors that whole vectors fill, in whose plans run_jobs.cpp allows no narrower store: the hot loops do run."""
    plans = []
    for dtype in DTYPES:
        item = getattr(torch, dtype).itemsize
        jobs = [Job(law, numbers, dtype, (2 * CHUNK,), (4, 4), misaligned=16) for law, numbers in DRAWN]
        jobs += [Job(law, numbers, dtype, (CHUNK,), (4, 5), (3 * CHUNK,), (CHUNK,)) for law, numbers in DRAWN]
        jobs += [Job("constant", (-0.1,), dtype, (CHUNK // 16 * 48 + 16,), misaligned=16 * i) for i in range(2)]
        jobs += [Job("eye", (), dtype, (80, 64 // item), misaligned=16), Job("dirac", (2.0,), dtype, (16, 8, 3, 4))]
        plans.append(Plan(f"whole_{dtype}", tuple(jobs)))
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
        # So small that many numbers are zero by chance.
        info = torch.finfo(getattr(torch, dtype))
        jobs.append(Job("sparse", (100.0, info.smallest_normal * info.eps), dtype, (300, 9), (3, 4)))
        # The last columns of wide rows: elements beyond 2^32.
        jobs.append(Job("sparse", (3.0, 1.0), dtype, (7, 9), (3, 5), (7, 2**31 - 1), (0, 2**31 - 10)))
        plans.append(Plan(f"sparse_{dtype}", tuple(jobs)))
    # The last zero and the first number have the same draw: the row decides (found by a search; test_ladder.py looks).
    plans.append(Plan("sparse_tie", (Job("sparse", (9492.0, 1.0), "float32", (40000, 1), (11, 2)),)))
    return plans


def many_plan(name: str, count: int, dtypes: Sequence[str] = DTYPES) -> Plan:
    """So many tensors of every kind that they take several launches of each kernel."""
    laws = [*DRAWN, MORE_DRAWN[1], ("constant", (1.0,)), ("normal", (-1.0, 3.0))]
    jobs = []
    for i in range(count):
        law, numbers = laws[i % 6]
        dtype, n = dtypes[i // 6 % len(dtypes)], 1 + i * 7 % 61
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
        *huge_plans(),
        *whole_plans(),
        *strided_plans(),
        *pattern_plans(),
        *sparse_plans(),
        *several,
    ]
