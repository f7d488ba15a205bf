"""The torch stream with any number of threads: the same bits and state, whether they share a tensor or a generator."""

import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from statistics import NormalDist

import pytest
import torch
from torch_cases import NUMBERS, STATES
from torch_stream import compare, generator_in, torch_calls

import fastinit

COUNTS = range(1, 9)
# Shares that begin inside a vector, a group of 16, a block of the generator; two sizes end just before and after one.
LARGE = [2**21 - 1, 2**21 + 16 * 5, 3 * 2**20 + 13, 2**22 + 16 * 3 + 7, 2**22 + 16 * 1001]
# A jump must not lean on a block's first word, which no earlier draw need have made.
POSITIONS = ["fresh", "made by hand", "cached normal", "middle of a block", "block used up", "one word left"]


@pytest.mark.parametrize("name", ["uniform_", "normal_"])
@pytest.mark.parametrize(
    ("dtype", "sizes"),
    [
        (torch.float32, [*LARGE, 2**23 + 9]),
        (torch.bfloat16, LARGE[1:4]),
        (torch.float16, LARGE[3:]),
        (torch.float64, LARGE[2:4]),
    ],
    ids=["float32", "bfloat16", "float16", "float64"],
)
def test_threads_that_share_a_tensor(name: str, dtype: torch.dtype, sizes: list[int]) -> None:
    for n, position in zip(sizes, POSITIONS, strict=False):
        compare(name, torch.empty(n, dtype=dtype), *NUMBERS[name][0], state=STATES[position], counts=COUNTS)


@pytest.mark.parametrize("n", [100, 2048 + 7, 2**15 + 16, 2**18 - 1])
def test_small_tensors_too(n: int) -> None:
    for name in ("uniform_", "normal_", "trunc_normal_"):
        compare(name, torch.empty(n), *NUMBERS[name][0], state=STATES["many blocks"], counts=COUNTS)


@pytest.mark.parametrize("name", ["uniform_", "normal_"])
def test_large_tensors_of_other_layouts(name: str) -> None:
    """Of which normal_ writes element by element, two numbers a draw of 4 words."""
    for tensor in (torch.empty(1100, 2000).t(), torch.empty(1031, 4100)[:, ::2]):
        compare(name, tensor, *NUMBERS[name][0], state=STATES["cached normal"], counts=[1, 2, 3, 8])


def window(p: float, skew: float = 0.3) -> tuple[float, float]:
    """Bounds that hold this share of the standard normal law, more of what is left above them than below."""
    law = NormalDist()
    return law.inv_cdf((1 - p) * skew), law.inv_cdf(p + (1 - p) * skew)


@pytest.mark.parametrize("p", [0.301, 0.31, 0.35, 0.4, 0.5, 0.6, 0.683, 0.8, 0.9, 0.9545, 0.99, 0.9999])
def test_rejection_rounds(p: float) -> None:
    """From one round to a hundred, of which each draws a whole tensor of numbers."""
    a, b = window(p)
    for dtype, n in [
        (torch.float32, 50_021),
        (torch.bfloat16, 20_016),
        (torch.float16, 3_005),
        (torch.float64, 20_011),
    ]:
        for tensor in (torch.empty(n, dtype=dtype), torch.empty(n // 7, 7, dtype=dtype).t()):
            compare(
                "trunc_normal_",
                tensor,
                0.1,
                2.0,
                0.1 + 2 * a,
                0.1 + 2 * b,
                state=STATES["cached normal"],
                counts=[1, 4],
            )


def test_rounds_are_many_and_few() -> None:
    for p, rounds in ((0.301, range(20, 60)), (0.9999, range(2, 5))):
        with torch_calls() as calls:
            torch.nn.init.trunc_normal_(torch.empty(50_021), 0.0, 1.0, *window(p))
        assert calls.count("normal_") in rounds


@pytest.mark.parametrize(
    ("n", "p", "dtype"),
    [
        (2**21 + 37, 0.31, torch.float32),
        (2**22 + 16 * 5 + 3, 0.9545, torch.float32),
        (2**21 + 16, 0.999, torch.bfloat16),
        (2**21 + 9, 0.7, torch.float16),
    ],
)
def test_rejection_rounds_of_threads_that_share_a_tensor(n: int, p: float, dtype: torch.dtype) -> None:
    state = STATES["made by hand"]
    compare("trunc_normal_", torch.empty(n, dtype=dtype), 0.0, 1.0, *window(p), state=state, counts=[1, 2, 5])


Fill = Callable[[torch.Tensor, torch.Generator | None], torch.Tensor]
NATURAL: dict[str, tuple[Fill, int, torch.dtype, int]] = {
    "uniform": (lambda chunk, generator: fastinit.uniform_(chunk, -0.7, 0.9, generator), 1003, torch.float32, 150),
    "uniform, 53 bits": (
        lambda chunk, generator: fastinit.uniform_(chunk, generator=generator),
        500,
        torch.float64,
        150,
    ),
    "normal": (lambda chunk, generator: fastinit.normal_(chunk, 0.3, 0.02, generator), 1003, torch.bfloat16, 150),
    "odd numbers of normals": (
        lambda chunk, generator: fastinit.normal_(chunk, generator=generator),
        7,
        torch.float32,
        400,
    ),
    "large": (lambda chunk, generator: fastinit.normal_(chunk, generator=generator), 2**21 + 16, torch.float32, 3),
}


def chunks_of_threads(
    fill: Fill, generator: torch.Generator | None, n: int, dtype: torch.dtype, times: int, workers: int
) -> Counter[bytes]:
    """What so many Python threads write, which fill tensors of n elements so many times each, all at once."""
    start = threading.Barrier(workers)
    chunks = [[torch.empty(n, dtype=dtype) for _ in range(times)] for _ in range(workers)]
    failed: list[Exception] = []

    def work(mine: list[torch.Tensor]) -> None:
        start.wait()
        try:
            for chunk in mine:
                fill(chunk, generator)
        except Exception as error:
            failed.append(error)

    working = [threading.Thread(target=work, args=(mine,)) for mine in chunks]
    for thread in working:
        thread.start()
    for thread in working:
        thread.join()
    assert not failed, failed
    return Counter(chunk.view(torch.uint8).numpy().tobytes() for mine in chunks for chunk in mine)


def drawn_by_threads(
    fill: Fill, n: int, dtype: torch.dtype, times: int, given: bool
) -> list[tuple[Counter[bytes], bytes]]:
    """What two Python threads write together, and one alone twice as much, and where the generator is then."""
    results = []
    for workers in (1, 2):
        with generator_in(STATES["cached normal"], given) as generator:
            used = generator if given else None
            written = chunks_of_threads(fill, used, n, dtype, 2 * times // workers, workers)
            results.append((written, generator.get_state().numpy().tobytes()))
    return results


@pytest.fixture
def quick_switches() -> None:
    """Python's threads take turns often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("quick_switches")
@pytest.mark.parametrize("given", [True, False], ids=["given generator", "default generator"])
@pytest.mark.parametrize("kind", NATURAL)
def test_python_threads_that_share_a_generator_lose_and_repeat_nothing(kind: str, given: bool) -> None:
    alone, together = drawn_by_threads(*NATURAL[kind], given=given)
    assert len(alone[0]) == 2 * NATURAL[kind][-1]
    assert alone == together


def test_a_fill_without_the_generator_s_lock_is_noticed() -> None:
    meet = threading.Barrier(2)

    def unlocked(chunk: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        private = torch.Generator()
        private.set_state(generator.get_state())
        meet.wait(10)
        torch.nn.init.uniform_(chunk, generator=private)
        generator.set_state(private.get_state())
        return chunk

    written = chunks_of_threads(unlocked, torch.Generator(), 100, torch.float32, 5, workers=2)
    assert sum(written.values()) == 10 and max(written.values()) == 2


# One thread fills, and another asks for the generator's state: it waits for it with Python's lock in its hands. A fill
# that waited for that lock before it let go of the generator would wait for ever.
ASKING = """
import ctypes, faulthandler, sys, threading
import torch, fastinit

generator, filling = torch.Generator(), threading.Event()
sys.setswitchinterval(1e-4)
faulthandler.dump_traceback_later({seconds}, exit=True)

def fill():
    filling.set()
    {fill}
    filling.clear()

thread = threading.Thread(target=fill)
thread.start()
filling.wait()
asked = 0
while filling.is_set():
    generator.get_state()
    torch.rand(3, generator=generator)
    asked += 1
thread.join()
print("asked", asked)
"""
FILLS = """
    for n in [100, 3000, 2**20 + 5] * 10 + [2**22 + 7] * 2:
        fastinit.uniform_(torch.empty(n), generator=generator)
        fastinit.normal_(torch.empty(n), generator=generator)
        fastinit.normal_(torch.empty(100, 70).t(), generator=generator)
        fastinit.trunc_normal_(torch.empty(n // 16), generator=generator)
"""


def ask_during(fill: str, seconds: float) -> subprocess.CompletedProcess[str]:
    code = ASKING.format(fill=fill.strip(), seconds=seconds)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_a_fill_never_keeps_the_generator_while_it_waits_for_python() -> None:
    done = ask_during(FILLS, 120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[1]) > 0


@pytest.mark.one_torch
def test_waiting_for_ever_is_noticed() -> None:
    done = ask_during("ctypes.PyDLL(None).sleep(600)", 1)  # with Python's lock
    assert done.returncode == 1 and "Timeout" in done.stderr


# A forked process has none of the threads that OpenMP waits for. torch's own fills have no need of them.
FORKED = """
import os, signal, torch, fastinit
torch.set_num_threads(2)
fastinit.normal_(torch.empty(2**19))
keyed = fastinit.normal_(torch.empty(2**19), generator=fastinit.Key(3))
child = os.fork()
if child == 0:
    signal.alarm(60)
    ours = fastinit.normal_(torch.empty(2**19), generator=torch.Generator().manual_seed(3))
    theirs = torch.nn.init.normal_(torch.empty(2**19), generator=torch.Generator().manual_seed(3))
    again = fastinit.normal_(torch.empty(2**19), generator=fastinit.Key(3))
    os._exit(ours.numpy().tobytes() != theirs.numpy().tobytes() or again.numpy().tobytes() != keyed.numpy().tobytes())
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_a_forked_process_fills_alone() -> None:
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
