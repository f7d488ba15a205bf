"""A model built inside `fastinit.batched()` against the same model built plainly, to the last bit.

Bits and not values: a NaN equals itself here, and -0 is not 0.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import fastinit

SEED = 20


def entries(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield every parameter and buffer by each of its names, the buffers that no state_dict holds too."""
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)


def bits(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def digest(tensor: Tensor) -> str:
    return hashlib.sha256(bits(tensor).numpy()).hexdigest()


def describe(model: nn.Module, value: Callable[[Tensor], Any]) -> dict[str, dict[str, Any]]:
    """Return what can be seen of each entry; `value` is how its elements are kept."""
    first_of_storage: dict[int, str] = {}
    seen = {}
    for name, tensor in entries(model):
        seen[name] = {
            "type": type(tensor),
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "stride": tensor.stride(),
            "offset": tensor.storage_offset(),
            "requires_grad": tensor.requires_grad,
            "is_leaf": tensor.is_leaf,
            "storage of": first_of_storage.setdefault(tensor.untyped_storage()._cdata, name),
            # An optimiser or autograd looks at a parameter's; whether a buffer's counts the same is nobody's business.
            "version": tensor._version if isinstance(tensor, nn.Parameter) else None,
            "bits": value(tensor),
        }
    for name, extra in model.state_dict().items():
        assert name in seen or not isinstance(extra, Tensor), name
    return seen


def unlike(got: dict[str, dict[str, Any]], expected: dict[str, dict[str, Any]]) -> list[str]:
    """Return a line for each thing that differs."""
    lines = [f"{name}: only in one of them" for name in got.keys() ^ expected.keys()]
    for name in got.keys() & expected.keys():
        for what, one in got[name].items():
            other = expected[name][what]
            if isinstance(one, Tensor):
                if one.numel() != other.numel():
                    lines.append(f"{name}: {one.numel()} bytes, expected {other.numel()}")
                elif not torch.equal(one, other):
                    lines.append(f"{name}: {what} differ in {int((one != other).sum())} of {one.numel()} bytes")
            elif one != other:
                lines.append(f"{name}: {what} {one}, expected {other}")
    return sorted(lines)


def disagreements(
    build: Callable[[], nn.Module], value: Callable[[Tensor], Any] = lambda tensor: bits(tensor).clone()
) -> list[str]:
    """Build plainly and then in a block, from the same seed; return what differs. One model is in memory at a time."""
    torch.manual_seed(SEED)
    expected = describe(build(), value)
    expected_state = torch.get_rng_state()
    torch.manual_seed(SEED)
    with fastinit.batched():
        model = build()
    state = torch.get_rng_state()
    assert expected, "nothing to compare"
    lines = unlike(describe(model, value), expected)
    return lines if torch.equal(state, expected_state) else [*lines, "another state of torch's generator"]
