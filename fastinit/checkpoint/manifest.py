"""fastinit.json: what a checkpoint's folder holds and by which laws, so that a second run can go on with it.

`python -m fastinit check` reads it too. Plain types only; the tensors' bytes are not looked at, save for those that
come from the model's memory, which nothing else describes.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any

import torch

from fastinit._version import __version__
from fastinit.checkpoint.shards import Folder, Shard
from fastinit.checkpoint.together import Ranks
from fastinit.fill import unit, write_piece
from fastinit.key import Key
from fastinit.plan import Entry, Plan
from fastinit.rule import Index, keep

MANIFEST = "fastinit.json"
_PIECE = 2**24  # elements
_SHOWN = 5  # differences


def manifest_of(
    plan: Plan, entries: Mapping[str, Entry], shards: Sequence[Shard], key: Key, max_shard_size: int
) -> bytes:
    """Return the text, a line a tensor."""
    files = {tensor.name: shard.file for shard in shards for tensor in shard.tensors}
    manifest = {
        "format": 1,
        "fastinit": __version__,
        "torch": torch.__version__,
        "key": {"seed": key.seed, "offset": key.offset},
        "max_shard_size": max_shard_size,
    }
    lines = [json.dumps({**_tensor(plan, entry, key), "file": files[name]}) for name, entry in entries.items()]
    head = json.dumps(manifest, indent=1).removesuffix("\n}")
    return (head + ',\n "tensors": [\n  ' + ",\n  ".join(lines) + "\n ]\n}\n").encode()


def refuse_other(folder: Folder, manifest: bytes) -> None:
    """Refuse a folder that a run with other settings has begun, and say what differs."""
    text = folder.read(MANIFEST)
    if text is None:
        return
    try:
        said = _other(text, manifest)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"out: {folder.path / MANIFEST} is none of ours: move it away or delete it") from error
    if said:
        raise ValueError(
            f"out: {folder.path} holds a checkpoint begun with other settings; give them again, or an empty folder:"
            + said
        )


def refuse_different(ranks: Ranks, manifest: bytes) -> None:
    """Refuse ranks that were called with different settings, and say what differs from the first rank's."""
    if len({*ranks.exchange(hashlib.blake2b(manifest).digest())}) == 1:
        return
    first = ranks.exchange(manifest if ranks.first else b"")[0]  # which may be megabytes, hence the digests
    with ranks.step():
        if said := _other(first, manifest):
            raise ValueError(f"called with other settings than rank {ranks.names[0]} (there):{said}")


def _other(there: bytes, now: bytes) -> str:
    """Return what differs between two manifests, a line each, or nothing."""
    differences = list(_differences(_comparable(there), _comparable(now)))
    more = [f"and {len(differences) - _SHOWN} more"] if len(differences) > _SHOWN else []
    return "".join(f"\n  {line}" for line in differences[:_SHOWN] + more)


def _comparable(text: bytes) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads(text)
    del manifest["torch"]  # the keyed stream's numbers are the same with any
    tensors = {tensor.pop("name"): tensor for tensor in manifest.pop("tensors")}
    for tensor in tensors.values():
        del tensor["file"]  # which follows from the rest
    return {**manifest, "tensor": tensors}


def _differences(there: Any, now: Any, at: str = "") -> Iterator[str]:
    if isinstance(there, dict) and isinstance(now, dict):
        for name in {**there, **now}:
            yield from _differences(there.get(name), now.get(name), f"{at} {name}".lstrip())
    elif there != now:
        yield f"{at}: {json.dumps(there)} there, {json.dumps(now)} now"


def _tensor(plan: Plan, entry: Entry, key: Key) -> dict[str, Any]:
    rule = None if entry.rule is None else plan.recipe.rules[entry.rule]
    called = rule is not None and entry.law is None and rule.initialiser is not keep
    kept = entry.law is None and not called
    return {
        "name": entry.name,
        "tied": entry.tied,
        "shape": entry.shape,
        "dtype": str(entry.dtype).removeprefix("torch."),
        "buffer": entry.buffer,
        "law": entry.law and entry.law.to_dict(),
        "called": _called(rule.initialiser, plan.arguments(entry.name, rule)) if rule is not None and called else None,
        "kept": _digest(plan, entry, key) if kept else None,
        "parts": [
            {
                "name": part.name,
                "index": _index(part.at),
                "shape": part.shape,
                "law": part.law and part.law.to_dict(),
                "called": _called(part.initialiser, part.kwargs) if part.law is None else None,
            }
            for part in entry.parts
        ],
    }


def _index(index: Index) -> list[int | list[int]]:
    return [entry if isinstance(entry, int) else [entry.start, entry.stop, entry.step] for entry in index]


def _called(function: Callable[..., object], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {"function": _text(function), "kwargs": {name: _text(value) for name, value in kwargs.items()}}


def _text(value: Any) -> str:
    """Return what a value of the user's is, the same in every process: functions by their names and code."""
    if hasattr(value, "__qualname__"):
        code = getattr(value, "__code__", None)
        return f"{value.__module__}.{value.__qualname__}" + (f" {_hash(_code(code))}" if code is not None else "")
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} {list(value.shape)} {_hash(repr(value.detach().cpu().reshape(-1).tolist()))}"
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _code(code: CodeType) -> str:
    constants = [_code(one) if isinstance(one, CodeType) else repr(one) for one in code.co_consts]
    return repr((code.co_code, code.co_names, constants))


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _digest(plan: Plan, entry: Entry, key: Key) -> str:
    """Return a digest of the bytes that come from the model's memory."""
    digest = hashlib.blake2b(digest_size=16)
    total = entry.shape.numel()
    step = unit(plan, entry)
    piece = max(_PIECE // step, 1) * step
    for first in range(0, total, piece):
        buffer = bytearray(min(piece, total - first) * entry.dtype.itemsize)
        write_piece(plan, entry, torch.frombuffer(buffer, dtype=entry.dtype), first, key)
        digest.update(buffer)
    return digest.hexdigest()
