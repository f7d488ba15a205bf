"""Every public name of torch.nn.init, with one more kind of generator: a `Key` of the keyed stream.

With `generator=None` or a `torch.Generator` the numbers are torch's: on CPU the bits that the installed torch.nn.init
writes, natively where that has been checked and by torch's own code everywhere else, and the generator is left in the
same state. With a `Key` (or `key.shard(...)`, or within `fastinit.stream("keyed")`) a function fills float32, float64,
bfloat16, float16, float8_e4m3fn and float8_e5m2 tensors of any layout, on CPU or CUDA, from the keyed stream: each
value depends on the key, the element's index and the arguments alone, the same bits with any number of threads, any
instruction set, either device, any memory layout and any sharding (those of orthogonal_, which are sums of products,
are equal to rounding). Of a DTensor each process fills what it holds, without communication. With a Key a wrong
argument raises ValueError or TypeError before anything is written. A tensor on the meta device is returned as it is.
eye_ and dirac_ draw nothing and take no Key; calculate_gain, constant_, ones_ and zeros_ are torch's own.
"""

import functools
import warnings
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.nn import init as torch_init
from torch.nn.init import (
    _calculate_correct_fan as _calculate_correct_fan,
)
from torch.nn.init import (
    _calculate_fan_in_and_fan_out as _calculate_fan_in_and_fan_out,
)
from torch.nn.init import calculate_gain, constant_, ones_, zeros_

from fastinit import laws
from fastinit.keyed_call import fill_keyed
from fastinit.streams import KEYED, Generator, in_stream
from fastinit.structured import dirac_, eye_, orthogonal_, sparse_
from fastinit.torch_stream import fill, fill_law, trunc_normal


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` with values of the uniform law on [a, b) and return it.

    With a Key: x = k 2^-24 for the low 24 bits k of the element's draw (Philox4x32-10: Salmon, Moraes, Dror and Shaw,
    "Parallel random numbers: as easy as 1, 2, 3", 2011), value fma(x, b - a, a) in float32, rounded once to the
    tensor's type; a result at or above b becomes the largest number of the type below b (a, rounded to the type, where
    it has none in [a, b)). a is rounded to nearest, so a narrow type may begin just below it. float64: 53 bits.

    Args:
        tensor: of any shape; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        a: lower bound
        b: upper bound, at least a
        generator: None or a torch.Generator: the bits of `torch.nn.init.uniform_`, and the generator left as torch
            leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device, layout
            and shard

    Raises:
        ValueError: with a Key, b < a, a number that the type cannot hold, a tensor that overlaps itself in memory or is
            no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.uniform_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = fastinit.uniform_(torch.empty(3, 5), -0.1, 0.1, generator=fastinit.Key(0))
        >>> bool((w >= -0.1).all() and (w < 0.1).all())
        True

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(uniform_, laws.uniform, tensor, generator, a=a, b=b)
    if fill("uniform", tensor, a, b, generator):
        return tensor
    return torch_init.uniform_(tensor, a, b, generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` with values of the normal law N(mean, std^2) and return it.

    With a Key: the transformation of Box and Muller, "A note on the generation of random normal deviates" (1958), of
    the element's pair of draws, `|z| <= 6.77` and z exact to 1.4e-6, then fma(z, std, mean) in float32, rounded once to
    the tensor's type. float64: `|z| <= 9.50`, exact to 4e-15.

    Args:
        tensor: of any shape; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        mean: mean of the law
        std: standard deviation of the law, at least 0
        generator: None or a torch.Generator: the bits of `torch.nn.init.normal_`, and the generator left as torch
            leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device, layout
            and shard

    Raises:
        ValueError: with a Key, std < 0, a number that the type cannot hold, a tensor that overlaps itself in memory or
            is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.normal_` raises

    Examples:
        >>> import fastinit, torch
        >>> key = fastinit.Key(0)  # the values of a part are those of the whole
        >>> whole = fastinit.normal_(torch.empty(4, 6), std=0.02, generator=key)
        >>> part = fastinit.normal_(torch.empty(2, 6), std=0.02, generator=key.shard((4, 6), (2, 0)))
        >>> part.equal(whole[2:])
        True

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(normal_, laws.normal, tensor, generator, mean=mean, std=std)
    if fill("normal", tensor, mean, std, generator):
        return tensor
    return torch_init.normal_(tensor, mean, std, generator)


def trunc_normal_(
    tensor: Tensor,
    mean: float = 0.0,
    std: float = 1.0,
    a: float = -2.0,
    b: float = 2.0,
    generator: Generator = None,
) -> Tensor:
    """Fill `tensor` with values of the normal law N(mean, std^2) truncated to [a, b] and return it.

    a and b are values, not numbers of standard deviations: with std=0.02 the default cuts at 100 of them, which is
    nowhere. Truncation makes the law narrower: at ±2 std, the values' standard deviation is 0.8796 std.

    With a Key: the inverse of the normal distribution function (one draw an element, no rejection; float64: Wichura,
    "Algorithm AS 241", 1988) out to 12 standard deviations, z exact to 2e-6 in both tails; all values lie within [a, b]
    after rounding to the tensor's type, and the law holds wherever the window lies, so torch's warning about a mean
    outside [a, b] does not apply.

    Args:
        tensor: of any shape; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        mean: mean of the law before truncation
        std: standard deviation of the law before truncation, at least 0
        a: smallest value allowed
        b: largest value allowed, at least a
        generator: None or a torch.Generator: the bits of `torch.nn.init.trunc_normal_`, and the generator left as torch
            leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device, layout
            and shard

    Raises:
        ValueError: with a Key, std < 0, b < a, a window more than 12 std from the mean or without a number of the
            type, a number that the type cannot hold, a tensor that overlaps itself in memory or is no part of the key's
            global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.trunc_normal_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = torch.empty(512, 512)
        >>> _ = fastinit.trunc_normal_(w, std=0.02, a=-0.04, b=0.04, generator=fastinit.Key(0))
        >>> f"{w.std():.4f}"
        '0.0176'

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(trunc_normal_, laws.trunc_normal, tensor, generator, mean=mean, std=std, a=a, b=b)
    if trunc_normal(tensor, mean, std, a, b, generator):
        return tensor
    return torch_init.trunc_normal_(tensor, mean, std, a, b, generator)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` from U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)), and return it.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 16.
    fan_in is `in` times the kernel's elements, fan_out is `out` times these; of a part, those of the whole. With a Key:
    `uniform_` with these bounds.

    Args:
        tensor: of shape `(out, in, *kernel)`; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        gain: factor, see `calculate_gain`
        generator: None or a torch.Generator: the bits of `torch.nn.init.xavier_uniform_`, and the generator left as
            torch leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device,
            layout and shard

    Raises:
        ValueError: fewer than 2 dimensions. With a Key: gain < 0, a number that the type cannot hold, a tensor that
            overlaps itself in memory or is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.xavier_uniform_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = torch.empty(128, 64)
        >>> _ = fastinit.xavier_uniform_(w, gain=fastinit.calculate_gain("tanh"), generator=fastinit.Key(0))

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(xavier_uniform_, laws.xavier_uniform, tensor, generator, gain=gain)
    if fill_law(laws.xavier_uniform, tensor, generator, gain):
        return tensor
    return torch_init.xavier_uniform_(tensor, gain, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` from N(0, std^2), std = gain sqrt(2 / (fan_in + fan_out)), and return it.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 12.
    fan_in is `in` times the kernel's elements, fan_out is `out` times these; of a part, those of the whole. The law is
    not truncated. With a Key: `normal_` with this standard deviation.

    Args:
        tensor: of shape `(out, in, *kernel)`; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        gain: factor, see `calculate_gain`
        generator: None or a torch.Generator: the bits of `torch.nn.init.xavier_normal_`, and the generator left as
            torch leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device,
            layout and shard

    Raises:
        ValueError: fewer than 2 dimensions. With a Key: gain < 0, a number that the type cannot hold, a tensor that
            overlaps itself in memory or is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.xavier_normal_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = torch.empty(128, 64)
        >>> _ = fastinit.xavier_normal_(w, generator=fastinit.Key(0))

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(xavier_normal_, laws.xavier_normal, tensor, generator, gain=gain)
    if fill_law(laws.xavier_normal, tensor, generator, gain):
        return tensor
    return torch_init.xavier_normal_(tensor, gain, generator)


def kaiming_uniform_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> Tensor:
    """Fill `tensor` from U(-bound, bound), bound = gain sqrt(3 / fan), and return it.

    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), equations 10 ("fan_in"), 14 ("fan_out") and 15 (a)
    give the variance gain^2 / fan. fan_in is `in` times the kernel's elements, fan_out is `out` times these; of a part,
    those of the whole. gain is that of `calculate_gain`: sqrt(2 / (1 + a^2)) for "leaky_relu". A tensor without
    elements is left alone, with a warning. With a Key: `uniform_` with these bounds.

    Args:
        tensor: of shape `(out, in, *kernel)`; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        a: negative slope of the rectifier after this layer, for nonlinearity="leaky_relu"
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass
        nonlinearity: name of the function after this layer, see `calculate_gain`
        generator: None or a torch.Generator: the bits of `torch.nn.init.kaiming_uniform_`, and the generator left as
            torch leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device,
            layout and shard

    Raises:
        ValueError: fewer than 2 dimensions, an unknown mode or nonlinearity. With a Key: a number that the type cannot
            hold, a tensor that overlaps itself in memory or is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.kaiming_uniform_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = torch.empty(128, 64)
        >>> _ = fastinit.kaiming_uniform_(w, a=5**0.5, generator=fastinit.Key(0))  # nn.Linear's: ±1 / sqrt(64)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        make_law = laws.kaiming_uniform
        return fill_keyed(kaiming_uniform_, make_law, tensor, generator, a=a, mode=mode, nonlinearity=nonlinearity)
    if fill_law(laws.kaiming_uniform, tensor, generator, a, mode, nonlinearity):
        return tensor
    return torch_init.kaiming_uniform_(tensor, a, mode, nonlinearity, generator)  # type: ignore[arg-type]


def kaiming_normal_(
    tensor: Tensor,
    a: float = 0,
    mode: str = "fan_in",
    nonlinearity: str = "leaky_relu",
    generator: Generator = None,
) -> Tensor:
    """Fill `tensor` from N(0, std^2), std = gain / sqrt(fan), and return it.

    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), equations 10 ("fan_in"), 14 ("fan_out") and 15 (a).
    fan_in is `in` times the kernel's elements, fan_out is `out` times these; of a part, those of the whole. gain is
    that of `calculate_gain`: sqrt(2 / (1 + a^2)) for "leaky_relu", sqrt(2) for "relu". The law is not truncated. A
    tensor without elements is left alone, with a warning. With a Key: `normal_` with this standard deviation.

    Args:
        tensor: of shape `(out, in, *kernel)`; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        a: negative slope of the rectifier after this layer, for nonlinearity="leaky_relu"
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass
        nonlinearity: name of the function after this layer, see `calculate_gain`
        generator: None or a torch.Generator: the bits of `torch.nn.init.kaiming_normal_`, and the generator left as
            torch leaves it. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device,
            layout and shard

    Raises:
        ValueError: fewer than 2 dimensions, an unknown mode or nonlinearity. With a Key: a number that the type cannot
            hold, a tensor that overlaps itself in memory or is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.kaiming_normal_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = torch.empty(128, 64, 3, 3)
        >>> _ = fastinit.kaiming_normal_(w, mode="fan_out", nonlinearity="relu")  # torch's own numbers
        >>> _ = fastinit.kaiming_normal_(w, mode="fan_out", nonlinearity="relu", generator=fastinit.Key(0))
        >>> f"{w.std():.3f}"  # sqrt(2 / (128 * 3 * 3))
        '0.042'

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        make_law = laws.kaiming_normal
        return fill_keyed(kaiming_normal_, make_law, tensor, generator, a=a, mode=mode, nonlinearity=nonlinearity)
    if fill_law(laws.kaiming_normal, tensor, generator, a, mode, nonlinearity):
        return tensor
    return torch_init.kaiming_normal_(tensor, a, mode, nonlinearity, generator)  # type: ignore[arg-type]


def _deprecated(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    new_name = function.__name__
    old_name = new_name[:-1]

    @functools.wraps(function)
    def alias(*args: Any, **kwargs: Any) -> Tensor:
        warnings.warn(
            f"`nn.init.{old_name}` is now deprecated in favor of `nn.init.{new_name}`.", FutureWarning, stacklevel=2
        )
        return function(*args, **kwargs)

    alias.__name__ = alias.__qualname__ = old_name
    alias.__doc__ = f"Deprecated alias of `{new_name}`: its arguments, numbers and errors, and a FutureWarning."
    del alias.__wrapped__
    return alias


uniform = _deprecated(uniform_)
normal = _deprecated(normal_)
constant = _deprecated(constant_)
eye = _deprecated(eye_)
dirac = _deprecated(dirac_)
xavier_uniform = _deprecated(xavier_uniform_)
xavier_normal = _deprecated(xavier_normal_)
kaiming_uniform = _deprecated(kaiming_uniform_)
kaiming_normal = _deprecated(kaiming_normal_)
orthogonal = _deprecated(orthogonal_)
sparse = _deprecated(sparse_)

__all__ = [
    "calculate_gain",
    "constant",
    "constant_",
    "dirac",
    "dirac_",
    "eye",
    "eye_",
    "kaiming_normal",
    "kaiming_normal_",
    "kaiming_uniform",
    "kaiming_uniform_",
    "normal",
    "normal_",
    "ones_",
    "orthogonal",
    "orthogonal_",
    "sparse",
    "sparse_",
    "trunc_normal_",
    "uniform",
    "uniform_",
    "xavier_normal",
    "xavier_normal_",
    "xavier_uniform",
    "xavier_uniform_",
    "zeros_",
]
