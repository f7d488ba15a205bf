"""Every public name of torch.nn.init, with one more kind of generator: a `Key` of the keyed stream.

With `generator=None` or a `torch.Generator` the numbers are torch's: on CPU the bits that the installed torch.nn.init
writes, natively where that has been checked and by torch's own code everywhere else, and the generator is left in the
same state. With a `Key` (or `key.shard(...)`, or within `fastinit.stream("keyed")`) a function fills float32, float64,
bfloat16, float16, float8_e4m3fn and float8_e5m2 tensors of any layout, on CPU or CUDA, from the keyed stream: each
value depends on the key, the element's index and the arguments alone, the same bits with any number of threads, any
instruction set, either device, any memory layout and any sharding (those of orthogonal_, which are sums of products,
are equal to rounding). Of a DTensor each process fills what it holds, without communication. With a Key a wrong
argument raises ValueError or TypeError before anything is written. eye_ and dirac_ draw nothing and take no Key.
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
from torch.overrides import handle_torch_function, has_torch_function_variadic

from fastinit import laws
from fastinit.key import Key, KeyShard
from fastinit.laws import Law
from fastinit.sharded_fill import fill_one
from fastinit.streams import KEYED, Generator, in_stream
from fastinit.torch_stream import fill, fill_diagonal, fill_law, fill_orthogonal, fill_sparse, trunc_normal


def _fill_keyed(
    function: Callable[..., Tensor],
    make_law: Callable[..., Law],
    tensor: Tensor,
    key: Key | KeyShard,
    **arguments: Any,
) -> Tensor:
    if has_torch_function_variadic(tensor):
        return handle_torch_function(function, (tensor,), tensor=tensor, **arguments, generator=key)
    if not isinstance(tensor, Tensor):
        raise TypeError(f"tensor must be a torch.Tensor, got {type(tensor).__name__}")
    shape = key.global_shape if isinstance(key, KeyShard) else tensor.shape
    return fill_one(tensor, make_law(shape, **arguments), key)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` with values of the uniform law on [a, b) and return it.

    With a Key: x = k 2^-24 for the low 24 bits k of the element's draw, value fma(x, b - a, a) in float32, rounded once
    to the tensor's type; a result at or above b becomes the largest number of the type below b (a, rounded to the type,
    where it has none in [a, b)). a is rounded to nearest, so a narrow type may begin just below it. float64: 53 bits.

    Args:
        tensor: of any shape
        a: lower bound
        b: upper bound, at least a
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(uniform_, laws.uniform, tensor, generator, a=a, b=b)
    if fill("uniform", tensor, a, b, generator):
        return tensor
    return torch_init.uniform_(tensor, a, b, generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` with values of the normal law N(mean, std^2) and return it.

    With a Key: Box and Muller's transformation (1958) of the element's pair of draws, |z| <= 6.77 and z exact to
    1.4e-6, then fma(z, std, mean) in float32, rounded once to the tensor's type. float64: |z| <= 9.50, exact to 4e-15.

    Args:
        tensor: of any shape
        mean: mean of the law
        std: standard deviation of the law, at least 0
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(normal_, laws.normal, tensor, generator, mean=mean, std=std)
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

    a and b are values, not numbers of standard deviations. With a Key: the inverse of the normal distribution function
    (one draw an element, no rejection) out to 12 standard deviations, z exact to 2e-6 in both tails; all values lie
    within [a, b] after rounding to the tensor's type, and the law holds wherever the window lies, so torch's warning
    about a mean outside [a, b] does not apply.

    Args:
        tensor: of any shape
        mean: mean of the law before truncation
        std: standard deviation of the law before truncation, at least 0
        a: smallest value allowed
        b: largest value allowed, at least a
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(trunc_normal_, laws.trunc_normal, tensor, generator, mean=mean, std=std, a=a, b=b)
    if trunc_normal(tensor, mean, std, a, b, generator):
        return tensor
    return torch_init.trunc_normal_(tensor, mean, std, a, b, generator)


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` from U(-a, a), a = gain sqrt(6 / (fan_in + fan_out)), and return it.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 16.
    With a Key: `uniform_` with these bounds.

    Args:
        tensor: of shape (out, in, *kernel)
        gain: factor, see `calculate_gain`
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(xavier_uniform_, laws.xavier_uniform, tensor, generator, gain=gain)
    if fill_law(laws.xavier_uniform, tensor, generator, gain):
        return tensor
    return torch_init.xavier_uniform_(tensor, gain, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Generator = None) -> Tensor:
    """Fill `tensor` from N(0, std^2), std = gain sqrt(2 / (fan_in + fan_out)), and return it.

    Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks" (2010), equation 12.
    With a Key: `normal_` with this standard deviation.

    Args:
        tensor: of shape (out, in, *kernel)
        gain: factor, see `calculate_gain`
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(xavier_normal_, laws.xavier_normal, tensor, generator, gain=gain)
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

    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015). With a Key: `uniform_` with these bounds.

    Args:
        tensor: of shape (out, in, *kernel)
        a: negative slope of the rectifier after this layer, for nonlinearity="leaky_relu"
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass
        nonlinearity: name of the function after this layer, see `calculate_gain`
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        make_law = laws.kaiming_uniform
        return _fill_keyed(kaiming_uniform_, make_law, tensor, generator, a=a, mode=mode, nonlinearity=nonlinearity)
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

    He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015), equations 10 and 14. With a Key: `normal_` with this
    standard deviation.

    Args:
        tensor: of shape (out, in, *kernel)
        a: negative slope of the rectifier after this layer, for nonlinearity="leaky_relu"
        mode: "fan_in" keeps the variance of the forward pass, "fan_out" that of the backward pass
        nonlinearity: name of the function after this layer, see `calculate_gain`
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        make_law = laws.kaiming_normal
        return _fill_keyed(kaiming_normal_, make_law, tensor, generator, a=a, mode=mode, nonlinearity=nonlinearity)
    if fill_law(laws.kaiming_normal, tensor, generator, a, mode, nonlinearity):
        return tensor
    return torch_init.kaiming_normal_(tensor, a, mode, nonlinearity, generator)  # type: ignore[arg-type]


def eye_(tensor: Tensor) -> Tensor:
    """Fill `tensor` with ones on its diagonal and zeros elsewhere and return it.

    A linear layer with this weight hands on as many of its inputs as it can. The values are those of
    torch.nn.init.eye_, in either stream: nothing is drawn.

    Args:
        tensor: of shape (out, in)

    """
    if fill_diagonal(laws.eye, tensor):
        return tensor
    return torch_init.eye_(tensor)


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill `tensor` with the Dirac delta function and return it.

    Ones at (g out/groups + d, d, middle of the kernel) for each group g and d < min(out/groups, in), zeros elsewhere: a
    convolution with this weight hands on as many input channels of each group as it can. The values are those of
    torch.nn.init.dirac_, in either stream: nothing is drawn.

    Args:
        tensor: of shape (out, in, *kernel) with one to three kernel dimensions
        groups: groups of the convolution, which divide `out`

    """
    if fill_diagonal(laws.dirac, tensor, groups):
        return tensor
    return torch_init.dirac_(tensor, groups)


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Generator = None) -> Tensor:
    """Fill `tensor` with a (semi) orthogonal matrix times gain, of Haar's uniform law, and return it.

    A tensor of more than two dimensions is the matrix of its first dimension and all the others: where it has at most
    as many rows as columns its rows are orthonormal, otherwise its columns. Saxe, McClelland and Ganguli, "Exact
    solutions to the nonlinear dynamics of learning in deep linear neural networks" (2013).

    Without a Key: the bits of torch.nn.init for float32 and float64; bfloat16 and float16, which torch refuses, hold
    what a float32 tensor would, rounded once (but torch's bits within torch.autocast, where it takes them). With a Key:
    no matrix is factorised, the Householder vectors that a factorisation would find are drawn (Stewart, 1980), with the
    signs of Mezzadri (math-ph/0609050), and their product is formed in float32 (float64 for a float64 tensor) and
    rounded once to the tensor's type. The numbers drawn depend on (key, element index) alone, but the values go through
    matrix products: with another number of threads, machine or memory layout they are equal to rounding, not to the
    bit, and a part of a tensor costs as much as the whole. So does what a process holds of a DTensor with a Key, unless
    that has more than 2^26 elements and is cut along its longer side alone: then all processes of its mesh make it
    together, by all-reduces of columns^2 / 2 numbers.

    Args:
        tensor: of two or more dimensions
        gain: factor
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(orthogonal_, laws.orthogonal, tensor, generator, gain=gain)
    if fill_orthogonal(tensor, gain, generator):
        return tensor
    return torch_init.orthogonal_(tensor, gain, generator)


def sparse_(tensor: Tensor, sparsity: float, std: float = 0.01, generator: Generator = None) -> Tensor:
    """Fill `tensor` from N(0, std^2), but for ceil(sparsity rows) zeros in each column, and return it.

    Martens, "Deep learning via Hessian-free optimization" (2010), section 5. Which elements of a column are zero is
    chosen uniformly, for each column by itself. As in torch, the permutations that choose them come from the default
    generator, whatever `generator` is.

    With a Key: the elements of a column with the smallest draws of the key's second stream (counter word 2 is 1; the
    high 31 bits of the element's 32-bit word, of equal ones that in the smaller row) are zero, the others have the
    values of `normal_`. Of these, one that is zero by chance becomes the type's smallest normal number (float16 and
    narrower: its smallest number), so that the zeros are exactly as many. With std = 0 all are zero. A part of a matrix
    (`key.shard`) looks at the whole columns that it has a part in.

    Args:
        tensor: of shape (rows, columns); with a Key at most 2^31 - 1 rows
        sparsity: fraction of each column that is zero; with a Key in [0, 1]
        std: standard deviation of the values that are not zero
        generator: a torch.Generator or None (the bits of torch.nn.init), or a Key (the keyed stream)

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return _fill_keyed(sparse_, laws.sparse, tensor, generator, sparsity=sparsity, std=std)
    if fill_sparse(tensor, sparsity, std, generator):
        return tensor
    return torch_init.sparse_(tensor, sparsity, std, generator)


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
    alias.__doc__ = f"Deprecated alias of `{new_name}`."
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
