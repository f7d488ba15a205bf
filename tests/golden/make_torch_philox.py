"""Writes torch_philox.json: what torch's own stateless generator draws, for versions without it.

Needs torch 2.14 or later (torch._philox_uniform_ and its like are private: this pins what they did).
Usage: python tests/golden/make_torch_philox.py [--force]
"""

import json
import sys
from pathlib import Path

import torch

FILE = Path(__file__).with_name("torch_philox.json")
KEYS = [(0, 0), (42, 7), (2**64 - 3, 2**64 - 5), (0x0123456789ABCDEF, 2**40)]
SIZE = 257
DRAWS = {"uniform": torch._philox_uniform_, "normal": torch._philox_normal_}


def vectors() -> list[dict[str, object]]:
    result: list[dict[str, object]] = []
    for seed, offset in KEYS:
        key = torch.tensor([seed, offset], dtype=torch.uint64)
        children = torch.ops.aten._philox_key_split(key, 3).numpy().tolist()
        entry: dict[str, object] = {"key": [seed, offset], "split": children}
        for law, draw in DRAWS.items():
            for dtype in (torch.float32, torch.float64):
                values = draw(torch.empty(SIZE, dtype=dtype), key)
                entry[f"{law} {str(dtype).removeprefix('torch.')}"] = values.numpy().tobytes().hex()
        result.append(entry)
    return result


if __name__ == "__main__":
    if FILE.exists() and "--force" not in sys.argv:
        sys.exit(f"{FILE} exists; --force replaces it")
    FILE.write_text(json.dumps({"torch": torch.__version__, "vectors": vectors()}, indent=1) + "\n")
