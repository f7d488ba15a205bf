"""The torch stream natively: the bits of the installed torch.nn.init on CPU, and its generator left in the same state.

Each function says whether it has filled the tensor. Where it has not, nothing has happened, and the caller calls
torch's own function with the arguments as they were given: it fills, warns or raises as it always does.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._C import _get_function_stack_at, _len_torch_function_stack
from torch.autograd.graph import increment_version
from torch.compiler import is_compiling
from torch.overrides import has_torch_function_variadic

from fastinit import _C, laws, torch_trunc_normal
from fastinit._ops import DTYPES
from fastinit.key import Key
from fastinit.laws import KINDS, Law
from fastinit.self_check import self_check
from fastinit.sharded_fill import fill_one
from fastinit.sharding import is_dtensor

_PLAIN_TENSORS = (Tensor, torch.nn.Parameter)
# Of any other type, torch.nn.init is to make what it makes.
_PLAIN_NUMBERS = frozenset((float, int))
_PLAIN_ARGUMENTS = _PLAIN_NUMBERS | {str}
_NO_KEY = Key(0)
_NARROW = (torch.bfloat16, torch.float16)
_LEAVE_EMPTY = (laws.kaiming_uniform, laws.kaiming_normal)


def fill(kind: str, tensor: Tensor, first: float, second: float, generator: torch.Generator | None) -> bool:
    """Fill with "uniform" on [first, second) or "normal" of mean `first` and standard deviation `second`."""
    return _is_ours(tensor) and _fill(kind, tensor, first, second, generator)


def fill_law(make_law: Callable[..., Law], tensor: Tensor, generator: torch.Generator | None, *arguments: Any) -> bool:
    """Fill with the uniform or normal law that follows from the tensor's shape and these arguments."""
    plain = _PLAIN_ARGUMENTS.issuperset(map(type, arguments))
    if not (plain and _is_ours(tensor)):
        return False
    if not _C.torch_takes(tensor, generator):
        empty = make_law in _LEAVE_EMPTY and isinstance(tensor, Tensor) and 0 in tensor.shape
        if empty:
            make_law(tensor.shape)  # which only warns, at the caller's line: torch, called from here, would name ours
        return empty
    kind, (first, second, _, _) = make_law(tensor.shape, *arguments)
    return _fill(kind, tensor, first, second, generator)


def trunc_normal(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: torch.Generator | None
) -> bool:
    """Fill with the normal law truncated to [a, b], by torch's own algorithm."""
    return _is_ours(tensor) and _trunc_normal(tensor, mean, std, a, b, generator)


def fill_sparse(tensor: Tensor, sparsity: float, std: float, generator: torch.Generator | None) -> bool:
    """Fill a matrix from N(0, std^2), and make the fraction `sparsity` of each column zero by the default generator.

    torch makes a permutation for each column, which any function mode may have a say in: it says where, for one.
    """
    if is_compiling() or has_torch_function_variadic(tensor):
        return False
    return _fill_sparse(tensor, sparsity, std, generator)


def fill_diagonal(make_law: Callable[..., Law], tensor: Tensor, *groups: int) -> bool:
    """Fill with ones on a diagonal and zeros around it, which no generator has a part in."""
    if is_compiling() or has_torch_function_variadic(tensor):
        return False
    if not (_C.is_ordinary(tensor) or is_dtensor(tensor)):  # torch's own functions refuse DTensors
        return False
    if tensor.dtype not in DTYPES or not all(type(n) is int and n >= 1 for n in groups):
        return False
    fill_one(tensor, make_law(tensor.shape, *groups), _NO_KEY)
    return True


def fill_orthogonal(tensor: Tensor, gain: float, generator: torch.Generator | None) -> bool:
    """Fill with a (semi) orthogonal matrix times gain by torch's own factorisation, of numbers that are drawn natively.

    bfloat16 and float16, which torch refuses, hold what float32 would, rounded once.
    """
    if _is_refused_as_narrow(tensor):
        values = tensor.new_empty(tensor.shape, dtype=torch.float32)
        if not fill_orthogonal(values, gain, generator):
            torch.nn.init.orthogonal_(values, gain, generator)
        with torch.no_grad():
            tensor.copy_(values)
        return True
    ordinary = type(gain) in (float, int) and abs(gain) < 2**63
    if not (ordinary and _is_ours(tensor) and _C.torch_takes(tensor, generator) and tensor.dim() > 1):
        return False
    shape = (tensor.shape[0], tensor.numel() // tensor.shape[0])
    if tensor.dtype in _NARROW or not _has_view(tensor, shape):  # in the second case torch draws, and raises an error
        return False
    numbers = tensor.new_empty(shape)
    if not _fill("normal", numbers, 0.0, 1.0, generator):
        numbers.normal_(0.0, 1.0, generator=generator)
    wide = shape[0] < shape[1]
    q, r = torch.linalg.qr(numbers.t_() if wide else numbers)
    q *= r.diagonal().sign().mul_(gain)  # (q sign) gain and q (sign gain) have the same bits: the sign rounds nothing
    with torch.no_grad():
        tensor.copy_((q.t_() if wide else q).view(tensor.shape))
        increment_version(tensor)  # torch copies, then multiplies
    return True


def _is_refused_as_narrow(tensor: Tensor) -> bool:
    """Say whether torch would refuse the tensor for its type alone. In an autocast it draws in that very type.

    In a block with a key no generator draws, and no type of floats is refused.
    """
    return (
        _is_ours(tensor)
        and _C.batched_stream() != "keyed"
        and isinstance(tensor, Tensor)
        and tensor.dtype in _NARROW
        and tensor.is_cpu
        and tensor.layout == torch.strided
        and tensor.dim() > 1
        and tensor.numel() > 0
        and not torch.is_autocast_enabled("cpu")
    )


def _has_view(tensor: Tensor, shape: tuple[int, int]) -> bool:
    try:
        tensor.detach().view(shape)
    except RuntimeError:
        return False
    return True


def _is_ours(tensor: Tensor) -> bool:
    """Say whether no torch.compile and no __torch_function__ wants to see torch's own function called."""
    if is_compiling():
        return False
    return not has_torch_function_variadic(tensor) or _has_default_device_alone(tensor)


def _has_default_device_alone(tensor: Tensor) -> bool:
    """Say whether what is in force is `with torch.device(...)` and nothing else: that is for new tensors only."""
    if type(tensor) not in _PLAIN_TENSORS or _len_torch_function_stack() != 1:
        return False
    from torch.utils._device import DeviceContext  # which `import torch` alone does not load

    return type(_get_function_stack_at(0)) is DeviceContext


def _fill(kind: str, tensor: Tensor, first: float, second: float, generator: torch.Generator | None) -> bool:
    done = _C.torch_fill(tensor, KINDS[kind], first, second, generator)
    if done == _C.UNCHECKED and self_check(kind, tensor.dtype):
        done = _C.torch_fill(tensor, KINDS[kind], first, second, generator)
    return done == _C.WRITTEN


def _trunc_normal(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: torch.Generator | None
) -> bool:
    if not (_C.torch_takes(tensor, generator) and self_check("trunc_normal", tensor.dtype)):
        return False
    return torch_trunc_normal.fill(tensor, mean, std, a, b, generator)


def _fill_sparse(tensor: Tensor, sparsity: float, std: float, generator: torch.Generator | None) -> bool:
    if type(sparsity) not in _PLAIN_NUMBERS or not (0 <= sparsity <= 1 and _C.torch_takes(tensor, generator)):
        return False
    zeros = math.ceil(sparsity * tensor.shape[0]) if tensor.ndim else 0
    done = _C.torch_sparse(tensor, zeros, std, generator, None)
    if done == _C.UNCHECKED and self_check("sparse", tensor.dtype):
        done = _C.torch_sparse(tensor, zeros, std, generator, None)
    return done == _C.WRITTEN
