"""`from_checkpoint`: the very values of safetensors files, any range of them, and errors before anything is written."""

import json
import pickle
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from fastinit import from_checkpoint

TYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def write(folder: Path, **tensors: Tensor) -> Path:
    path = folder / "some.safetensors"
    save_file(tensors, path)
    return path


def read(source: from_checkpoint, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    source.check(name, torch.Size(shape), dtype)
    out = torch.zeros(shape, dtype=dtype)
    source.read(name, out.view(-1), 0)
    return out


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_is_read_as_it_is(tmp_path: Path, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    values = torch.randint(0, 100, (7, 3, 5)).to(dtype)
    source = from_checkpoint(write(tmp_path, other=torch.ones(3), values=values))
    assert torch.equal(read(source, "values", (7, 3, 5), dtype).view(torch.uint8), values.view(torch.uint8))


@pytest.mark.parametrize("shape", [(), (1,), (0, 4)])
def test_scalars_and_empty_tensors(tmp_path: Path, shape: tuple[int, ...]) -> None:
    source = from_checkpoint(write(tmp_path, values=torch.full(shape, 2.5)))
    assert torch.equal(read(source, "values", shape, torch.float32), torch.full(shape, 2.5))


def test_any_range_is_the_range_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules["fastinit.from_checkpoint"]  # the package has the class under this name
    monkeypatch.setattr(module, "_PIECE", 64)  # so that ranges are read in several pieces
    values = torch.randn(11, 13)
    source = from_checkpoint(write(tmp_path, values=values))
    for first in (0, 1, 12, 13, 100):
        for length in (1, 15, 16, 17, 143 - first):
            out = torch.full((length,), torch.nan)
            source.read("values", out[: 143 - first], first)
            assert torch.equal(out[: 143 - first], values.view(-1)[first : first + length])


@pytest.mark.parametrize("to", [torch.bfloat16, torch.float16, torch.float64])
def test_values_are_converted_as_torch_converts(tmp_path: Path, to: torch.dtype) -> None:
    values = torch.randn(100)
    assert torch.equal(read(from_checkpoint(write(tmp_path, values=values)), "values", (100,), to), values.to(to))


def sharded(folder: Path) -> dict[str, Tensor]:
    tensors = {f"model.{n}.weight": torch.randn(n + 1, 3) for n in range(5)}
    weight_map = {}
    for number, (name, tensor) in enumerate(tensors.items()):
        save_file({name: tensor}, folder / f"{number}.safetensors")
        weight_map[name] = f"{number}.safetensors"
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return tensors


@pytest.mark.parametrize("at", ["", "model.safetensors.index.json"])
def test_a_folder_or_an_index_of_shards_with_a_prefix(tmp_path: Path, at: str) -> None:
    tensors = sharded(tmp_path)
    source = from_checkpoint(tmp_path / at, prefix="model.")
    for n in range(5):
        assert torch.equal(read(source, f"{n}.weight", (n + 1, 3), torch.float32), tensors[f"model.{n}.weight"])


def test_a_folder_with_one_file_is_read_as_transformers_reads_it(tmp_path: Path) -> None:
    sharded(tmp_path)
    save_file({"0.weight": torch.ones(2)}, tmp_path / "model.safetensors")  # from_pretrained looks for this one first
    assert torch.equal(read(from_checkpoint(tmp_path), "0.weight", (2,), torch.float32), torch.ones(2))


def test_what_cannot_be_is_said_with_the_names(tmp_path: Path) -> None:
    source = from_checkpoint(write(tmp_path, a=torch.ones(2, 3), b=torch.ones(2, dtype=torch.int32)))
    for name, shape, dtype, message in (
        ("c", (2, 3), torch.float32, "has no tensor 'c'"),
        ("a", (3, 2), torch.float32, r"'a' has shape \[2, 3\], and the parameter \[3, 2\]"),
        ("b", (2,), torch.float32, "'b' is I32, and the parameter torch.float32"),
        ("a", (2, 3), torch.int64, "'a' is F32, and the parameter torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            source.check(name, torch.Size(shape), dtype)
    with pytest.raises(ValueError, match=r"has no tensor 'model\.a'"):
        from_checkpoint(tmp_path / "some.safetensors", prefix="model.").check("a", torch.Size((2, 3)))


def test_files_that_are_missing_cut_short_or_something_else(tmp_path: Path) -> None:
    whole = write(tmp_path, a=torch.ones(100)).read_bytes()
    length = 8 + int.from_bytes(whole[:8], "little")
    cases = {
        "empty": b"",
        "no-header": whole[: length - 1],
        "cut": whole[:-1],
        "endless": b"\xff" * 8 + whole[8:],
        "no-json": whole[:8] + b"x" * 1000,
        "beyond": whole[:length].replace(b'"data_offsets":[0,400]', b'"data_offsets":[8,408]') + whole[length:],
        "wrong-size": whole[:length].replace(b"[100]", b"[101]") + whole[length:],
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors is no whole safetensors file"):
            from_checkpoint(path).check("a", torch.Size((100,)))
    with pytest.raises(ValueError, match=r"No such file.*absent"):
        from_checkpoint(tmp_path / "absent.safetensors").check("a", torch.Size((100,)))
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor"):
        from_checkpoint(tmp_path).check("a", torch.Size((100,)))
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="is no index"):
        from_checkpoint(tmp_path).check("a", torch.Size((100,)))


def test_it_prints_compares_and_pickles_as_what_it_was_made_of(tmp_path: Path) -> None:
    path = write(tmp_path, a=torch.ones(3))
    source = from_checkpoint(path, prefix="x.")
    assert eval(repr(source)) == source != from_checkpoint(path)
    assert repr(from_checkpoint("a.safetensors")) == "from_checkpoint('a.safetensors')"
    plain = from_checkpoint(path)
    plain.check("a", torch.Size((3,)))  # opened already
    again = pickle.loads(pickle.dumps(plain))
    assert again == plain and hash(again) == hash(plain)
    assert torch.equal(read(again, "a", (3,), torch.float32), torch.ones(3))
    with pytest.raises(TypeError, match="belongs in a Rule"):
        plain(torch.ones(3))
    with pytest.raises(TypeError, match="prefix must be a str, got int"):
        from_checkpoint(path, prefix=3)  # type: ignore[arg-type]
