from collections.abc import Sequence

import torch
from torch import Tensor

def fill_one(
    tensor: Tensor,
    law: int,
    n0: float,
    n1: float,
    n2: float,
    n3: float,
    seed: int,
    offset: int,
    shard: Sequence[int],
) -> None: ...
def fill_many(
    tensors: Sequence[Tensor],
    laws: Sequence[int],
    numbers: Sequence[float],
    keys: Sequence[int],
    shards: Sequence[int],
) -> None: ...
def check_one(tensor: Tensor, law: int, numbers: Sequence[float]) -> None: ...

LEFT: int
WRITTEN: int
UNCHECKED: int

def torch_takes(tensor: object, generator: object) -> bool: ...
def torch_fill(
    tensor: object, law: int, first: object, second: object, generator: object, unchecked: bool = False
) -> int: ...
def torch_trunc_normal(
    tensor: object,
    mean: object,
    std: object,
    a: object,
    b: object,
    generator: object,
    unchecked: bool = False,
) -> int: ...
def torch_sparse(
    tensor: object, zeros: int, std: object, generator: object, permutations: object, unchecked: bool = False
) -> int: ...
def torch_verdict(law: int, dtype: torch.dtype, holds: bool) -> None: ...
def torch_verdicts() -> dict[tuple[int, torch.dtype], bool]: ...
def draw_seed(generator: torch.Generator | None) -> int: ...
def new_tensor(sizes: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor: ...
def is_ordinary(tensor: object) -> bool: ...
def children(seed: int, offset: int, data: Sequence[int]) -> list[int]: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def use_isa(name: str) -> None: ...
