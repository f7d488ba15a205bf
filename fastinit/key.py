"""Keys of the keyed stream: immutable values that name a stream of numbers, and parts of a tensor under one."""

import hashlib
import operator
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

import torch

from fastinit import _C

_WORD = 2**64


def _uint64(name: str, value: int) -> int:
    try:
        value = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an int, got {type(value).__name__}") from None
    if not 0 <= value < _WORD:
        raise ValueError(f"{name} must be in [0, 2**64), got {value}")
    return value


class _Immutable:
    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__} is immutable")


class Key(_Immutable):
    """A key of the keyed stream, given as `generator=` to the drop-in functions.

    Element number i of a tensor filled with a key gets a value that depends on (seed, offset, i) alone: the same bits
    with any number of threads, any instruction set, any memory layout and any sharding.

    Derive children from a key (`fold_in`, `split`) or fill a tensor with it, never both: a child's words are its
    parent's elements. Inside torch.compile, fill with keys made outside: deriving them is not traced, and each new
    value of a key given as an argument compiles anew.

    Args:
        seed: the Philox4x32-10 key, 0 <= seed < 2**64
        offset: the number of the Philox block that element 0 starts at, 0 <= offset < 2**64

    Raises:
        ValueError: a number outside of these bounds
        TypeError: what is no whole number

    Examples:
        >>> import fastinit, torch
        >>> w = torch.empty(3, 5)
        >>> _ = fastinit.kaiming_normal_(w, generator=fastinit.Key(0).fold_in("layers.0.weight"))

    """

    __slots__ = ("offset", "seed")
    seed: int
    offset: int

    def __init__(self, seed: int, offset: int = 0) -> None:
        object.__setattr__(self, "seed", _uint64("seed", seed))
        object.__setattr__(self, "offset", _uint64("offset", offset))

    def fold_in(self, data: int | str) -> "Key":
        """Return the child of this key for a number in [0, 2**64) or a name.

        A name stands for the little-endian integer of the 8-byte BLAKE2b digest of its UTF-8 bytes. The child's words
        are Philox block offset + data of this key's seed: the same on any machine.

        Args:
            data: the number or the name

        Raises:
            ValueError: a number outside of [0, 2**64)
            TypeError: neither a whole number nor a str

        """
        if isinstance(data, str):
            return Key(*self.words_of([data]))
        return Key(*_C.children(self.seed, self.offset, [_uint64("data", data)]))

    def words_of(self, names: Iterable[str]) -> list[int]:
        """Return the seeds and offsets, one after another, of `fold_in(name)` for every one of `names`."""
        blake2b, from_bytes = hashlib.blake2b, int.from_bytes  # a model has thousands of names
        data = [from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") for name in names]
        return _C.children(self.seed, self.offset, data)

    def split(self, n: int) -> tuple["Key", ...]:
        """Return the children `fold_in(0)`, ..., `fold_in(n - 1)`; n below 0 is a ValueError."""
        if operator.index(n) < 0:
            raise ValueError(f"n must be at least 0, got {n}")
        return tuple(self.fold_in(i) for i in range(n))

    def shard(self, global_shape: Sequence[int], offset: Sequence[int]) -> "KeyShard":
        """Return the key for a tensor that is a part of a larger one.

        The part gets exactly the values that it would have in the whole, and fans follow `global_shape`. It is for
        tensors that somebody else's code has cut; a DTensor knows its place and takes the key itself.

        Args:
            global_shape: of the whole, one entry a dimension
            offset: where in the whole the part's first element lies, one entry a dimension

        Raises:
            ValueError: of another number of entries; and when it is filled, a tensor that is not within the whole

        Examples:
            What rank 1 of 2 holds of layers that are cut as Megatron-LM cuts them:

            >>> import fastinit, torch
            >>> key, rank, ranks = fastinit.Key(0), 1, 2
            >>> column = torch.empty(8 // ranks, 6)  # column-parallel: outputs of nn.Linear(6, 8), rows of its weight
            >>> _ = fastinit.xavier_normal_(column, generator=key.shard((8, 6), (rank * 4, 0)))
            >>> row = torch.empty(6, 8 // ranks)  # row-parallel: inputs of nn.Linear(8, 6), columns of its weight
            >>> _ = fastinit.xavier_normal_(row, generator=key.shard((6, 8), (0, rank * 4)))
            >>> words = torch.empty(12 // ranks, 6)  # vocabulary-parallel: 10 words, padded to 12, the global shape's
            >>> _ = fastinit.normal_(words, generator=key.shard((12, 6), (rank * 6, 0)))

            Queries, keys and values of 4 heads of 3 in one weight, cut by heads, are one piece of each of the three:

            >>> qkv = torch.empty(3 * 12 // ranks, 6)
            >>> for i, part in enumerate(qkv.chunk(3)):
            ...     _ = fastinit.normal_(part, generator=key.shard((3 * 12, 6), (i * 12 + rank * 6, 0)))

        """
        return KeyShard(self, global_shape, offset)

    def to_tensor(self) -> torch.Tensor:
        """Return uint64[2] (seed, offset), the layout of torch's own stateless generators."""
        return torch.tensor([self.seed, self.offset], dtype=torch.uint64)

    @staticmethod
    def from_tensor(tensor: torch.Tensor) -> "Key":
        """Return the key that `tensor` holds, which is a ValueError unless it is uint64[2]."""
        if tensor.dtype != torch.uint64 or tensor.shape != (2,):
            raise ValueError(f"tensor must be uint64[2], got {tensor.dtype} of shape {tuple(tensor.shape)}")
        return Key(*tensor.tolist())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and (self.seed, self.offset) == (other.seed, other.offset)

    def __hash__(self) -> int:
        return hash((Key, self.seed, self.offset))

    def __reduce__(self) -> tuple[Any, ...]:
        return Key, (self.seed, self.offset)

    def __repr__(self) -> str:
        return f"Key({self.seed})" if self.offset == 0 else f"Key({self.seed}, {self.offset})"


class KeyShard(_Immutable):
    """A key together with the place of a part in its whole; made by `Key.shard`."""

    __slots__ = ("global_shape", "key", "start")
    key: Key
    global_shape: tuple[int, ...]
    start: tuple[int, ...]

    def __init__(self, key: Key, global_shape: Sequence[int], start: Sequence[int]) -> None:
        object.__setattr__(self, "key", key)
        object.__setattr__(self, "global_shape", tuple(operator.index(n) for n in global_shape))
        object.__setattr__(self, "start", tuple(operator.index(n) for n in start))
        if len(self.start) != len(self.global_shape):
            raise ValueError(
                f"offset must have one entry for each dimension of global_shape {self.global_shape}, got {self.start}"
            )

    @property
    def seed(self) -> int:
        return self.key.seed

    @property
    def offset(self) -> int:
        return self.key.offset

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeyShard) and self.__reduce__() == other.__reduce__()

    def __hash__(self) -> int:
        return hash(self.__reduce__())

    def __reduce__(self) -> tuple[Any, ...]:
        return KeyShard, (self.key, self.global_shape, self.start)

    def __repr__(self) -> str:
        return f"{self.key!r}.shard({self.global_shape}, {self.start})"
