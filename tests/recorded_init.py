"""What a library's own initialisation writes into each element of a model: the laws, read off the operators it calls.

Holds the recorder and the comparison with a plan's entries. It knows no recipe and no rule of fastinit's: every
number comes from the arguments of the operators that ran.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from scipy import stats as scipy_stats
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from fastinit.laws import Law

NEVER = "never written"
AFFINE = {"mul": lambda x, y: x * y, "div": lambda x, y: x / y, "add": lambda x, y: x + y, "sub": lambda x, y: x - y}
COPIES = {"clone", "_to_copy"}
EMPTY = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided"}


def law(kind: str, *numbers: float) -> Law:
    first, second, third, fourth = (float(number) for number in (*numbers, *[0.0] * (4 - len(numbers))))
    return Law(kind, (first, second, third, fourth))


def _constant_of(value: Any) -> Law | str:
    if isinstance(value, Tensor) and value.numel() != 1:
        return "computed from a tensor"
    return law("constant", value.item() if isinstance(value, Tensor) else value)


# What an operator writes into all of its output, by the operator's name, from its arguments.
FILLS: dict[str, Callable[[dict[str, Any]], Law | str]] = {
    "uniform_": lambda given: law("uniform", given["from"], given["to"]),
    "normal_": lambda given: law("normal", given["mean"], given["std"]),
    "fill_": lambda given: _constant_of(given["value"]),
    "zero_": lambda given: law("constant", 0),
    "zeros": lambda given: law("constant", 0),
    "new_zeros": lambda given: law("constant", 0),
    "zeros_like": lambda given: law("constant", 0),
    "ones": lambda given: law("constant", 1),
    "new_ones": lambda given: law("constant", 1),
    "ones_like": lambda given: law("constant", 1),
    "full": lambda given: _constant_of(given["fill_value"]),
    "full_like": lambda given: _constant_of(given["fill_value"]),
    "scalar_tensor": lambda given: _constant_of(given["s"]),
    "rand": lambda given: law("uniform", 0, 1),
    "randn": lambda given: law("normal", 0, 1),
}


class Recorder(TorchDispatchMode):
    """While entered, keeps for every element of every storage which law wrote it last."""

    def __init__(self) -> None:
        super().__init__()
        self.laws: list[Law | str] = [NEVER]
        # By the storage's address: the storage, kept so that no other gets that address, and the index in `laws`
        # of each of its elements.
        self._storages: dict[int, tuple[torch.UntypedStorage, Tensor]] = {}
        self._paused = False

    def __enter__(self) -> "Recorder":
        self._patches = [
            mock.patch.object(module, name, functools.partial(self._whole, getattr(module, name)))
            for module, name in _truncated_normals()
        ]
        for patch in self._patches:
            patch.start()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for patch in self._patches:
            patch.stop()

    def of(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the same shape: for each element, the index in `laws` of what wrote it last."""
        storage = tensor.untyped_storage()
        elements = storage.nbytes() // tensor.element_size()
        _, written = self._storages.setdefault(
            storage._cdata, (storage, torch.zeros(elements, dtype=torch.int32, device="cpu"))
        )
        assert written.numel() == elements, "a storage seen as two types of element"
        return written.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if not self._paused:
            schema = func._schema
            given = {argument.name: argument.default_value for argument in schema.arguments}
            given |= dict(zip(given, args, strict=False)) | (kwargs or {})
            written = [given[a.name] for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
            outputs = out if isinstance(out, tuple | list) else [out] * len(schema.returns)
            fresh = [one for one, a in zip(outputs, schema.returns, strict=False) if a.alias_info is None]
            self._record(schema.name.removeprefix("aten::"), given, [*written, *fresh], out)
        return out

    def _record(self, name: str, given: dict[str, Any], changed: list[Any], out: Any) -> None:
        if name in FILLS:
            self._write(out, FILLS[name](given))
        elif name == "copy_":
            self.of(out).copy_(self.of(given["src"]))
        elif name in COPIES:
            self.of(out).copy_(self.of(given["self"]))
        elif name == "constant_pad_nd":
            border = self._index(law("constant", given["value"]))
            self.of(out).copy_(nn.functional.pad(self.of(given["self"]), given["pad"], value=border))
        elif name == "lift_fresh":  # torch.tensor(...): its values are in no operator
            for value in set(out.flatten().tolist()):
                self.of(out)[out == value] = self._index(law("constant", value))
        elif name.removesuffix("_") in AFFINE and not isinstance(given["other"], Tensor):
            before = self.of(given["self"]).clone()  # `out` may be `self`
            for index in before.unique().tolist():
                after = _affine(name.removesuffix("_"), self.laws[index], given["other"])
                self.of(out)[before == index] = self._index(after)
        elif name not in EMPTY:
            for tensor in changed:
                if isinstance(tensor, Tensor):
                    self._write(tensor, f"computed by {name}")

    def _write(self, tensor: Tensor, written: Law | str) -> None:
        self.of(tensor).fill_(self._index(written))

    def _index(self, written: Law | str) -> int:
        if written not in self.laws:
            self.laws.append(written)
        return self.laws.index(written)

    def _whole(self, function: Callable[..., Tensor], tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """Run a library's truncated normal, and record its law in place of the operators that it is made of."""
        paused, self._paused = self._paused, True
        try:
            out = function(tensor, *args, **kwargs)
        finally:
            self._paused = paused
        names = ("mean", "std", "a", "b")
        given = dict(zip(names, args, strict=False)) | kwargs
        self._write(tensor, law("trunc_normal", *(given[name] for name in names)))
        return out


def _truncated_normals() -> Iterator[tuple[ModuleType, str]]:
    """Yield where the functions stand that draw a truncated normal, below the public names that others import."""
    yield torch.nn.init, "_no_grad_trunc_normal_"
    try:
        from timm.layers import weight_init
    except (ImportError, RuntimeError):  # RuntimeError: a torchvision that was built for another torch
        return
    yield weight_init, "_trunc_normal_"


def _affine(operator: str, before: Law | str, other: float) -> Law | str:
    """Return the law of x · other, x / other, x + other or x − other for x of the law `before`."""
    if isinstance(before, str) or before.kind not in ("constant", "uniform", "normal", "trunc_normal"):
        return f"{operator} of ({before})"
    apply = AFFINE[operator]
    scales = operator in ("mul", "div")
    if scales and other <= 0 and before.kind != "constant":
        return f"{operator} of ({before}) by {other}"
    # All numbers are places on the line but a std, which is a length.
    is_length = [before.kind in ("normal", "trunc_normal") and place == 1 for place in range(4)]
    used = {"constant": 1, "uniform": 2, "normal": 2, "trunc_normal": 4}[before.kind]
    numbers = zip(before.numbers[:used], is_length, strict=False)
    return law(before.kind, *(x if length and not scales else apply(x, other) for x, length in numbers))


def record(build: Callable[[], nn.Module]) -> tuple[nn.Module, Recorder]:
    """Build a model by its library's own code, and record what that writes."""
    with Recorder() as recorder:
        model = build()
    return model, recorder


def differences(recorder: Recorder, entries: Sequence[Any]) -> list[str]:
    """Return a line for each tensor and pair of laws where the library writes one and the plan the other.

    Every parameter counts, and of the buffers those that a rule takes.
    """
    lines: list[str] = []
    for entry in entries:
        if not entry.buffer or entry.rule is not None:
            lines += _differences_of(entry, recorder.of(entry.tensor), recorder.laws)
    return lines


def _differences_of(entry: Any, written: Tensor, laws: list[Law | str]) -> Iterator[str]:
    planned: list[Law | None] = [entry.law, *(part.law for part in entry.parts)]
    owner = torch.zeros(tuple(entry.shape), dtype=torch.int32)
    for number, part in enumerate(entry.parts, 1):
        owner[part.at] = number
    pairs = (written * len(planned) + owner).flatten().bincount()
    for pair in pairs.nonzero().flatten().tolist():
        actual, number = divmod(pair, len(planned))
        if not same_law(laws[actual], planned[number]):
            count = int(pairs[pair])
            yield f"{entry.name}: {count} elements: the library writes {laws[actual]}, the recipe {planned[number]}"


def same_law(one: Law | str, other: Law | str | None) -> bool:
    if not isinstance(one, Law) or not isinstance(other, Law) or one.kind != other.kind:
        return False
    return all(math.isclose(x, y, rel_tol=1e-9) for x, y in zip(one.numbers, other.numbers, strict=True))


def cdf(written: Law) -> Callable[[Any], Any]:
    """Return the distribution function of a law of random numbers."""
    first, second, a, b = written.numbers
    if written.kind == "uniform":
        return scipy_stats.uniform(first, second - first).cdf
    if written.kind == "normal":
        return scipy_stats.norm(first, second).cdf
    assert written.kind == "trunc_normal"
    return scipy_stats.truncnorm((a - first) / second, (b - first) / second, first, second).cdf
