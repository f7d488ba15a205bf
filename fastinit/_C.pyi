from collections.abc import Sequence

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
def philox(seed: int, block: int) -> tuple[int, int]: ...
def isa() -> str: ...
def available_isas() -> list[str]: ...
def use_isa(name: str) -> None: ...
