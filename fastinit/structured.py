"""The drop-in functions whose elements are not drawn one by one: `eye_`, `dirac_`, `orthogonal_`, `sparse_`.

What init.py says of all drop-in functions is true of these, and they are there under their public names.
"""

from torch import Tensor
from torch.nn import init as torch_init

from fastinit import laws
from fastinit.keyed_call import fill_keyed
from fastinit.streams import KEYED, Generator, in_stream
from fastinit.torch_stream import fill_diagonal, fill_orthogonal, fill_sparse


def eye_(tensor: Tensor) -> Tensor:
    """Fill `tensor` with ones on its diagonal and zeros elsewhere and return it.

    A linear layer with this weight hands on as many of its inputs as it can; Le, Jaitly and Hinton, "A simple way to
    initialize recurrent networks of rectified linear units" (2015), begin recurrent layers so. The bits are those of
    `torch.nn.init.eye_`, in either stream: nothing is drawn.

    Args:
        tensor: of shape (out, in), of any type

    Raises:
        ValueError: not 2 dimensions
        Exception: of other kinds, whatever `torch.nn.init.eye_` raises

    """
    if fill_diagonal(laws.eye, tensor):
        return tensor
    return torch_init.eye_(tensor)


def dirac_(tensor: Tensor, groups: int = 1) -> Tensor:
    """Fill `tensor` with the Dirac delta function and return it.

    Ones at (g out/groups + d, d, middle of the kernel) for each group g and d < min(out/groups, in), zeros elsewhere: a
    convolution with this weight hands on as many input channels of each group as it can. The bits are those of
    `torch.nn.init.dirac_`, in either stream: nothing is drawn.

    Args:
        tensor: of shape `(out, in, *kernel)` with one to three kernel dimensions
        groups: groups of the convolution, which divide `out`

    Raises:
        ValueError: not 3, 4 or 5 dimensions, groups that do not divide `out`
        Exception: of other kinds, whatever `torch.nn.init.dirac_` raises

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
        tensor: of two or more dimensions; with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2)
        gain: factor, see `calculate_gain`
        generator: None or a torch.Generator: the bits of `torch.nn.init.orthogonal_`, and the generator left as torch
            leaves it. A Key, or `Key.shard` of one: the keyed stream, equal to rounding on any threads, CPU, device,
            layout and shard

    Raises:
        ValueError: fewer than 2 dimensions. With a Key: a number that the type cannot hold, a tensor that overlaps
            itself in memory or is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.orthogonal_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = fastinit.orthogonal_(torch.empty(3, 5), generator=fastinit.Key(0))
        >>> torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
        True

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(orthogonal_, laws.orthogonal, tensor, generator, gain=gain)
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
        tensor: of shape (rows, columns); with a Key float32, float64, bfloat16, float16 or float8 (e4m3fn, e5m2) and
            at most 2^31 - 1 rows
        sparsity: fraction of each column that is zero; with a Key in [0, 1]
        std: standard deviation of the values that are not zero, at least 0
        generator: None or a torch.Generator: the bits of `torch.nn.init.sparse_`, and the generators left as torch
            leaves them. A Key, or `Key.shard` of one: the keyed stream, the same bits on any threads, CPU, device,
            layout and shard

    Raises:
        ValueError: not 2 dimensions. With a Key: std < 0, sparsity outside of [0, 1], a number that the type cannot
            hold, a tensor that overlaps itself in memory or is no part of the key's global shape
        TypeError: with a Key, no dense tensor of these types, an argument that is no number
        Exception: without a Key, whatever `torch.nn.init.sparse_` raises

    Examples:
        >>> import fastinit, torch
        >>> w = fastinit.sparse_(torch.empty(10, 4), sparsity=0.9, generator=fastinit.Key(0))
        >>> (w != 0).sum(dim=0)
        tensor([1, 1, 1, 1])

    """
    generator = in_stream(generator)
    if isinstance(generator, KEYED):
        return fill_keyed(sparse_, laws.sparse, tensor, generator, sparsity=sparsity, std=std)
    if fill_sparse(tensor, sparsity, std, generator):
        return tensor
    return torch_init.sparse_(tensor, sparsity, std, generator)
