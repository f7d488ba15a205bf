"""torch's truncated normal, as torch.nn.init draws it from version 2.12 on.

Where the window [a, b] holds more than 0.3 of the law, normal numbers are drawn until all lie within it; that is native
(`_C.torch_trunc_normal`). Otherwise uniform numbers of the window are accepted by the law's density; that is here.
"""

import math

import torch
from torch import Tensor

from fastinit import _C
from fastinit.laws import KINDS

# Of these versions the source has been read; of another, trunc_normal_ is torch's own.
KNOWN_VERSIONS = frozenset(("2.13", "2.14"))
_NUMBERS = frozenset((float, int))
_UNIFORM = KINDS["uniform"]


def is_known() -> bool:
    return ".".join(torch.__version__.split(".")[:2]) in KNOWN_VERSIONS


def fill(tensor: Tensor, mean: float, std: float, a: float, b: float, generator: torch.Generator | None) -> bool:
    """Fill `tensor`, of a type whose uniform and normal numbers are known to be torch's, and say whether that is done.

    What torch warns of or refuses is left to it.
    """
    if not _NUMBERS.issuperset(map(type, (mean, std, a, b))):
        return False
    if not (0 < std < math.inf and a <= b and a - 2 * std <= mean <= b + 2 * std):
        return False
    if _cdf((b - mean) / std) - _cdf((a - mean) / std) > 0.3:
        return _C.torch_trunc_normal(tensor, mean, std, a, b, generator, True) == _C.WRITTEN
    return _accept_by_density(tensor, mean, std, a, b, generator)


def _cdf(x: float) -> float:
    return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0


def _accept_by_density(
    tensor: Tensor, mean: float, std: float, a: float, b: float, generator: torch.Generator | None
) -> bool:
    """Take torch's rounds: each draws for every element, pending or not."""
    if _C.torch_fill(tensor, _UNIFORM, a, b, generator, True) != _C.WRITTEN:
        return False
    result = tensor = tensor.detach() if tensor.requires_grad else tensor
    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2
    proposal, chance = torch.empty_like(tensor), torch.empty_like(tensor)

    def rejected(deviation: Tensor) -> Tensor:
        log_density = deviation.div_(std).pow_(2).mul_(-0.5).sub_(peak)
        _uniform_(chance, 0.0, 1.0, generator)
        return chance.log_().gt(log_density)

    pending = rejected(torch.sub(tensor, mean, out=proposal))
    while pending.any():
        _uniform_(proposal, a, b, generator)
        result = torch.where(pending, proposal, result)
        pending.logical_and_(rejected(proposal.sub_(mean)))
    if result is not tensor:
        tensor.copy_(result)
    return True


def _uniform_(tensor: Tensor, a: float, b: float, generator: torch.Generator | None) -> None:
    if _C.torch_fill(tensor, _UNIFORM, a, b, generator, True) != _C.WRITTEN:
        tensor.uniform_(a, b, generator=generator)
