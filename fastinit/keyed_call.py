"""A drop-in function called with a Key: from its arguments to a law, and to the fill."""

from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastinit.key import Key, KeyShard
from fastinit.laws import Law
from fastinit.sharded_fill import fill_one


def fill_keyed(
    function: Callable[..., Tensor],
    make_law: Callable[..., Law],
    tensor: Tensor,
    key: Key | KeyShard,
    **arguments: Any,
) -> Tensor:
    """Fill `tensor` as `function` says, whose law for a (global) shape is make_law(shape, **arguments)."""
    if has_torch_function_variadic(tensor):
        return handle_torch_function(function, (tensor,), tensor=tensor, **arguments, generator=key)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}")
    shape = key.global_shape if isinstance(key, KeyShard) else tensor.shape
    return fill_one(tensor, make_law(shape, **arguments), key)
