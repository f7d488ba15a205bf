"""`from_checkpoint`: the very values of safetensors files, any range of them, and errors before anything is written."""

import json
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from fastinit import Recipe, RecipeError, Rule, from_checkpoint, init_model_, save_checkpoint, zeros_

TYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip


def write(folder: Path, **tensors: Tensor) -> Path:
    path = folder / "some.safetensors"
    save_file(tensors, path)
    return path


def read(source: from_checkpoint, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    source.check(name, shape, dtype)
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
    monkeypatch.setattr("fastinit.checkpoint.source._PIECE", 64)  # so that ranges are read in several pieces
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
    tensors = {"a": torch.ones(2, 3), "b": torch.ones(2, dtype=torch.int32), "z": torch.ones(2, dtype=torch.complex64)}
    source = from_checkpoint(write(tmp_path, **tensors))
    for name, shape, dtype, message in (
        ("c", (2, 3), torch.float32, "has no tensor 'c'"),
        ("a", (3, 2), torch.float32, r"'a' has shape \[2, 3\], and the parameter \[3, 2\]"),
        ("b", (2,), torch.float32, "'b' is I32, and the parameter torch.float32"),
        ("a", (2, 3), torch.int64, "'a' is F32, and the parameter torch.int64"),
        ("z", (2,), torch.int64, "'z' is C64, and the parameter torch.int64"),
        ("b", (2,), torch.complex64, "'b' is I32, and the parameter torch.complex64"),
    ):
        with pytest.raises(ValueError, match=message):
            source.check(name, shape, dtype)
    with pytest.raises(ValueError, match=r"has no tensor 'model\.a'"):
        from_checkpoint(tmp_path / "some.safetensors", prefix="model.").check("a", (2, 3), torch.float32)


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
            from_checkpoint(path).check("a", (100,), torch.float32)
    with pytest.raises(ValueError, match=r"No such file.*absent"):
        from_checkpoint(tmp_path / "absent.safetensors").check("a", (100,), torch.float32)
    with pytest.raises(ValueError, match=r"neither model\.safetensors nor"):
        from_checkpoint(tmp_path).check("a", (100,), torch.float32)
    (tmp_path / "model.safetensors.index.json").write_text("[]")
    with pytest.raises(ValueError, match="is no index"):
        from_checkpoint(tmp_path).check("a", (100,), torch.float32)


def test_it_prints_compares_and_pickles_as_what_it_was_made_of(tmp_path: Path) -> None:
    path = write(tmp_path, a=torch.ones(3))
    source = from_checkpoint(path, prefix="x.")
    assert eval(repr(source)) == source != from_checkpoint(path)
    assert repr(from_checkpoint("a.safetensors")) == "from_checkpoint('a.safetensors')"
    plain = from_checkpoint(path)
    plain.check("a", (3,), torch.float32)  # opened already
    again = pickle.loads(pickle.dumps(plain))
    assert again == plain and hash(again) == hash(plain)
    assert torch.equal(read(again, "a", (3,), torch.float32), torch.ones(3))
    with pytest.raises(TypeError, match="use it as a rule's initialiser"):
        plain(torch.ones(3))
    with pytest.raises(TypeError, match="prefix must be a str, got int"):
        from_checkpoint(path, prefix=3)  # type: ignore[arg-type]


# In a rule


def source_of(model: nn.Module, folder: Path, prefix: str = "") -> dict[str, Tensor]:
    tensors = {prefix + name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def two_layers() -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 7))


@pytest.mark.parametrize("on", ["cpu", "meta"])
def test_a_rule_takes_parameters_from_it_in_memory_and_on_the_way_to_files(tmp_path: Path, on: str) -> None:
    with torch.device(on):
        model = two_layers()
    stored = source_of(two_layers(), tmp_path, "model.")
    recipe = Recipe([Rule(from_checkpoint(tmp_path, prefix="model."), names="0.*"), Rule(zeros_, names="*")])
    save_checkpoint(model, recipe, tmp_path / "out", dtype=torch.bfloat16)
    written = load_file(tmp_path / "out" / "model.safetensors")
    assert torch.equal(written["0.weight"], stored["0.weight"].bfloat16())
    assert not written["1.weight"].any()
    init_model_(model, recipe, device="cpu")
    assert torch.equal(model[0].weight, stored["0.weight"]) and torch.equal(model[0].bias, stored["0.bias"])
    assert not model[1].weight.any()


def test_a_parameter_that_is_not_laid_out_by_rows_gets_its_values_too(tmp_path: Path) -> None:
    model = two_layers()
    stored = source_of(model, tmp_path)
    model[0].weight = nn.Parameter(torch.zeros(5, 7).t())
    init_model_(model, Recipe([Rule(from_checkpoint(tmp_path), names="*")]))
    assert torch.equal(model[0].weight, stored["0.weight"])


@pytest.mark.parametrize("what", ["missing", "shape", "type"])
def test_every_parameter_is_checked_before_anything_is_written(tmp_path: Path, what: str) -> None:
    model = nn.Sequential(*[nn.Linear(3, 3, bias=False) for _ in range(4)])  # alike but for their names
    stored = source_of(model, tmp_path)
    if what == "missing":
        del stored["2.weight"]
    else:
        stored["2.weight"] = torch.ones(3, 4) if what == "shape" else torch.ones(3, 3, dtype=torch.int8)
    save_file(stored, tmp_path / "model.safetensors")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    recipe = Recipe([Rule(from_checkpoint(tmp_path), names="*")])
    with pytest.raises(RecipeError, match=r"'2\.weight'"):
        init_model_(model, recipe)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(RecipeError, match=r"'2\.weight'"):
        save_checkpoint(model, recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_recipe_with_it_is_plain_types_too(tmp_path: Path) -> None:
    recipe = Recipe([Rule(from_checkpoint("a", prefix="model."), names="0.*"), Rule(from_checkpoint("b.safetensors"))])
    plain = recipe.to_dict()
    assert [rule["init"] for rule in plain["rules"]] == [
        {"from_checkpoint": "a", "prefix": "model."}, {"from_checkpoint": "b.safetensors"},
    ]  # fmt: skip
    assert repr(Recipe.from_dict(plain)) == repr(recipe)
    (tmp_path / "recipe.toml").write_text('[[rules]]\ninit = {from_checkpoint = "a", prefix = "model."}\n')
    assert Recipe.from_toml(tmp_path / "recipe.toml").rules[0].initialiser == from_checkpoint("a", "model.")
    for init in ({}, {"prefix": "x"}, {"from_checkpoint": "a", "suffix": "x"}):
        with pytest.raises(RecipeError, match="init must be a name"):
            Recipe.from_dict({"rules": [{"init": init}]})
