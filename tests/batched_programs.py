"""Random programs played inside `fastinit.batched` and outside, what they leave compared, and cut down if it differs.

A program is a list of steps of batched_steps.py and batched_changes.py, of ("push", name), which opens one of CONTEXTS,
of ("pop",), which leaves the innermost one, and of ("raise",), an exception that nothing but `suppress` stops.
"""

import contextlib
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator
from math import inf, nan  # noqa: F401
from typing import Any

import numpy as np
import torch
from batched_changes import PLACED
from batched_steps import READS, SHAPES, STEPS, Chooser, Pool, do
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch_stream import bytes_of, generator_in, memory_of, state_of

import fastinit

Step = tuple[Any, ...]
Program = list[Step]
Block = Callable[[], contextlib.AbstractContextManager[Any]]


class Interrupted(Exception):
    """What ("raise",) raises."""


class SeesOperators(TorchDispatchMode):
    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


class SeesFunctions(TorchFunctionMode):
    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


CONTEXTS: dict[str, Block] = {
    "no_grad": torch.no_grad,
    "enable_grad": torch.enable_grad,
    "inference_mode": torch.inference_mode,
    "fork_rng": torch.random.fork_rng,
    "on CPU": lambda: torch.device("cpu"),
    "on meta": lambda: torch.device("meta"),
    "keyed stream": lambda: fastinit.stream("keyed"),
    "dispatch mode": SeesOperators,
    "function mode": SeesFunctions,
    "suppress": lambda: contextlib.suppress(Interrupted),
}
PUSHED = ["block"] * 4 + ["no_grad"] * 6 + [*CONTEXTS]


def random_program(choose: Chooser) -> Program:
    program: Program = []
    while len(program) < choose.randrange(2, 6):
        step = choose.step()
        if step[0] == "base":
            program.append(step)
    program.append(("push", "block"))
    if choose.random() < 0.5:  # in which leaves that require gradients can be filled
        program.append(("push", "no_grad"))
    for _ in range(choose.randrange(4, 40)):
        kind = choose.random()
        if kind < 0.05:
            program.append(("push", choose.choice(PUSHED)))
        elif kind < 0.09:
            program.append(("pop",))
        else:
            program.append(("raise",) if kind < 0.1 else choose.step())
    return program


def attempt(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except Exception as error:
        return type(error).__name__, str(error)


def seen(thing: Any) -> Any:
    """What can be compared of what a step returned, by looking at it now."""
    if isinstance(thing, Tensor):
        if thing.is_meta:
            return "meta", thing.shape, thing.stride(), thing.dtype
        plain = thing.detach().resolve_conj().resolve_neg().contiguous().view(-1)
        return thing.shape, thing.stride(), thing.dtype, thing.requires_grad, brief(plain.view(torch.uint8).numpy())
    if isinstance(thing, np.ndarray):
        return thing.shape, str(thing.dtype), brief(thing)
    if isinstance(thing, list | tuple):
        return [seen(one) for one in thing]
    return thing


def brief(data: Any) -> str:
    data = bytes(data) if isinstance(data, bytes) else data.tobytes()
    return data.hex() if len(data) <= 64 else hashlib.sha1(data).hexdigest()


def left(pool: Pool) -> list[tuple[str, Any]]:
    """All of a pool that can be compared, the memory around its tensors too."""
    memories: dict[int, int] = {}
    found: list[tuple[str, Any]] = []
    for i, t in enumerate(pool.tensors):
        about = type(t).__name__, t.dtype, t.shape, t.stride(), t.storage_offset(), t.requires_grad, t.is_inference()
        found.append((f"tensor {i}", about))
        found.append((f"version {i}", attempt(lambda t=t: t._version)))
        found.append((f"history {i}", attempt(lambda t=t: (t.is_leaf, type(t.grad_fn).__name__))))
        found.append((f"gradient {i}", attempt(lambda t=t: seen(t.grad))))
        if not t.is_meta and not t._is_zerotensor():
            found.append((f"memory {i}", brief(memory_of(t))))
            found.append((f"alias {i}", memories.setdefault(t.untyped_storage()._cdata, i)))
    found += [(f"array {i}", seen(array)) for i, array in enumerate(pool.arrays)]
    generators = [generator or torch.default_generator for generator in pool.generators]
    return found + [(f"generator {i}", brief(bytes_of(one.get_state()))) for i, one in enumerate(generators)]


def play(program: Program, block: Block, played: list[str] | None = None) -> list[tuple[str, Any]]:
    """What each step lets see, and what all of them leave. `played` gets the names of steps that raised nothing."""
    trace: list[tuple[str, Any]] = []
    pool = Pool()
    steps = iter(program)

    def go_on(outermost: bool) -> None:
        for step in steps:
            if step[0] == "push":
                with block() if step[1] == "block" else CONTEXTS[step[1]]():
                    go_on(outermost=False)
            elif step[0] == "raise":
                raise Interrupted
            elif step[0] != "pop":
                trace.append((repr(step), attempt(lambda step=step: outcome(step))))
            elif not outermost:
                return

    def outcome(step: Step) -> Any:
        result = seen(do(pool, *step))
        if played is not None:
            played.append(step[0])
        return result

    with generator_in(state_of(), given=False), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(Interrupted):
            go_on(outermost=True)
        return trace + left(pool)


def first_difference(program: Program, block: Block = lambda: fastinit.batched()) -> str:
    """Where the program is another in the block than outside, in words; empty where it is the same."""
    expected = play(program, contextlib.nullcontext)
    try:
        found = play(program, block)
    except Exception as error:
        return f"a block raised {type(error).__name__}: {error}"
    for one, other in zip(expected, found, strict=False):
        if one != other:
            return f"{one[0]}: {one[1]} without the block, {other[1]} with it"
    return "" if len(expected) == len(found) else "one ends sooner"


def shortest(program: Program, block: Block) -> Program:
    """Without the steps that the difference does not need."""
    length = len(program) + 1
    while len(program) < length:
        length = len(program)
        for i in reversed(range(length)):
            shorter = program[:i] + program[i + 1 :]
            if first_difference(shorter, block):
                program = shorter
    return program


def programs(seed: int, count: int) -> Iterator[Program]:
    for i in range(count):
        yield random_program(Chooser(seed * 1_000_003 + i))


FILLS = (
    "normal_",
    "uniform_",
    "zero_",
    "fill_",
    "copy_constant",
    "initialise",
    "keyed",
    "by_erfinv",
    "through",
    "chain",
)


def pairs(seed: int) -> Iterator[Program]:
    """Every step and every kind of read, each after a fill of every kind of the very same tensor."""
    choose = Chooser(seed)
    choose.keeps = 1
    for fill in FILLS:
        for name in [*STEPS, *(f"read {how}" for how in READS)]:
            bases = [("base", choose.choice(PLACED), choose.choice(SHAPES), "float32", False) for _ in range(2)]
            choose.tensor = choose.randrange(3)
            again = ("read", name.removeprefix("read "), choose.tensor) if name[:5] == "read " else choose.step(name)
            yield [*bases, ("push", "block"), choose.step(fill), again, ("read", "sum", choose.tensor)]


def fuzz(seed: int, count: int, block: Block = lambda: fastinit.batched()) -> None:
    compare(programs(seed, count), block)


def compare(all_of: Iterable[Program], block: Block = lambda: fastinit.batched()) -> None:
    for program in all_of:
        if first_difference(program, block):
            program = shortest(program, block)
            steps = "".join(f"    {step},\n" for step in program)
            again = f"from batched_programs import *\nprint(first_difference([\n{steps}]))"
            raise AssertionError(f"{first_difference(program, block)}\nto play it again, in tests/:\n{again}")
