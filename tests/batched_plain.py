"""A program inside a block and outside, from the same seed: what it returns or raises, and the generator afterwards."""

from collections.abc import Callable
from typing import Any

import torch
from cases import raw
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import fastinit

SEED = 21


def snapshot(thing: Any) -> Any:
    """All of a result that can be compared."""
    if isinstance(thing, nn.Module):
        named = [*thing.named_parameters(remove_duplicate=False), *thing.named_buffers(remove_duplicate=False)]
        return {name: snapshot(tensor) for name, tensor in named}
    if isinstance(thing, Tensor):
        about = type(thing), thing.dtype, thing.shape, thing.stride(), thing.requires_grad, thing.device
        version = None if thing.is_inference() else thing._version
        return *about, version, None if thing.is_meta else raw(thing)
    if isinstance(thing, dict):
        return {name: snapshot(one) for name, one in thing.items()}
    if isinstance(thing, list | tuple):
        return [snapshot(one) for one in thing]
    return thing


def shortened(taken: Any) -> str:
    text = repr(taken)
    return text if len(text) < 3000 else f"{text[:3000]}..."


def outcome(program: Callable[[], Any]) -> Any:
    try:
        return program()
    except Exception as error:
        return type(error), str(error)


def same(program: Callable[[], Any], block: Callable[[], Any] = lambda: fastinit.batched()) -> Any:
    """Fail unless the program comes to the same within a block; return the block."""
    torch.manual_seed(SEED)
    expected = snapshot(outcome(program))
    state = torch.get_rng_state()
    torch.manual_seed(SEED)
    with block() as opened:
        found = outcome(program)
    assert torch.equal(torch.get_rng_state(), state), "another state of torch's generator"
    if snapshot(found) != expected:
        raise AssertionError(f"plainly {shortened(expected)}, in a block {shortened(snapshot(found))}")
    return opened


def succeeds(program: Callable[[], Any]) -> Any:
    """The same, of a program that must not raise and of which something must be recorded."""
    torch.manual_seed(SEED)
    program()
    block = same(program)
    assert block.recorded > 0
    return block


def attributes() -> list[Any]:
    """What may be replaced, by identity."""
    return [{name: id(value) for name, value in vars(owner).items()} for owner in (Tensor, nn.init, nn.Module)]


class Logs(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls.append(str(function))
        return function(*args, **(kwargs or {}))
