"""The keyed stream agrees with torch's own stateless generator, and its keys with torch's.

Compared with vectors that torch 2.14 made (golden/make_torch_philox.py), so on any torch; and live where the
installed torch has the operators on CPU. Uniform values on [0, 1) agree bit for bit, normal ones to 4e-6
(float64: 1e-13).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import fastinit

VECTORS = json.loads((Path(__file__).parent / "golden" / "torch_philox.json").read_text())["vectors"]
NORMAL_ERROR = {torch.float32: 4e-6, torch.float64: 1e-13}
LIVE = torch._C._dispatch_has_kernel_for_dispatch_key("aten::_philox_uniform_", "CPU")


def stored(vector: dict[str, Any], law: str, dtype: torch.dtype) -> torch.Tensor:
    data = bytearray.fromhex(vector[f"{law} {str(dtype).removeprefix('torch.')}"])
    return torch.frombuffer(data, dtype=dtype)


@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: str(v["key"]))
def test_stored_vectors(vector: dict[str, Any]) -> None:
    key = fastinit.Key(*vector["key"])
    assert [[child.seed, child.offset] for child in key.split(3)] == vector["split"]
    for dtype in (torch.float32, torch.float64):
        expected = stored(vector, "uniform", dtype)
        assert torch.equal(fastinit.uniform_(torch.empty_like(expected), generator=key), expected)
        expected = stored(vector, "normal", dtype)
        ours = fastinit.normal_(torch.empty_like(expected), generator=key)
        assert (ours - expected).abs().max() <= NORMAL_ERROR[dtype]


@pytest.mark.skipif(not LIVE, reason="this torch has no stateless generator")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda v: str(v["key"]))
def test_live(vector: dict[str, Any]) -> None:
    """A hundred thousand values, transposed; the key travels as torch's tensor and back."""
    key = fastinit.Key(*vector["key"])
    for dtype in (torch.float32, torch.float64):
        theirs, ours = (torch.empty(331, 303, dtype=dtype).t() for _ in range(2))
        torch._philox_uniform_(theirs, key.to_tensor())
        assert torch.equal(fastinit.uniform_(ours, generator=key), theirs)
        torch._philox_normal_(theirs, key.to_tensor())
        assert (fastinit.normal_(ours, generator=key) - theirs).abs().max() <= NORMAL_ERROR[dtype]
    for data in (0, 5, 2**63 - 1):
        child = torch.ops.aten._philox_key_fold_in(key.to_tensor(), data)
        assert fastinit.Key.from_tensor(child) == key.fold_in(data)
