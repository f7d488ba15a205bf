"""A second run into a folder: the same settings go on and touch nothing that is finished, others are refused."""

import functools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_folder import SHARD, content, save, stamps
from small_model import RECIPE, Small
from torch import Tensor, nn

import fastinit
from fastinit import Key, Recipe, Rule, save_checkpoint
from fastinit.checkpoint import shards

pytestmark = pytest.mark.one_torch

HERE = Path(__file__).parent
IMPORT = f"import sys; sys.path.insert(0, {str(HERE)!r}); import test_checkpoint_settings as t; "


def test_a_second_run_touches_nothing(tmp_path: Path) -> None:
    save(tmp_path)
    before = stamps(tmp_path)
    save(tmp_path)
    assert stamps(tmp_path) == before


def other_(tensor: Tensor, by: float = 1.0) -> None:
    tensor.fill_(by)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": 2}, "key seed: 1 there, 2 now"),
        ({"key": Key(1, 7)}, "key offset: 0 there, 7 now"),
        ({"dtype": torch.bfloat16}, r'tensor conv.weight dtype: "float32" there, "bfloat16" now'),
        ({"max_shard_size": "5GB"}, "max_shard_size: 400 there, 5000000000 now"),
        (
            {"recipe": Recipe([Rule(fastinit.normal_, names="head.bias", std=0.5)]) + RECIPE},
            r'tensor head.bias law kind: "uniform" there, "normal" now',
        ),
        (
            {"recipe": Recipe([Rule(fastinit.uniform_, names="head.bias", a=-0.75, b=0.25)]) + RECIPE},
            r"tensor head.bias law numbers: \[-0.5, 0.25, 0.0, 0.0\] there, \[-0.75, 0.25, 0.0, 0.0\] now",
        ),
        (
            {"recipe": Recipe([Rule(other_, names="head.bias", by=2.0)]) + RECIPE},
            r'tensor head.bias called: null there, {"function": ".*other_ [0-9a-f]+", "kwargs": {"by": "2.0"}} now',
        ),
    ],
)
def test_other_settings_are_refused_and_what_differs_is_said(
    tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    save(tmp_path)
    (tmp_path / "model-00002-of-00004.safetensors").unlink()
    before = stamps(tmp_path)
    with pytest.raises(ValueError, match=said) as raised:
        save(tmp_path, **changes)
    assert len(str(raised.value).split("\n")) <= 7
    assert stamps(tmp_path) == before


def test_another_model_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    model = Small()
    model.head = nn.Linear(6, 7)
    model.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match=r"tensor head.weight shape: \[5, 6\] there, \[7, 6\] now"):
        save_checkpoint(model, RECIPE, tmp_path, key=1, max_shard_size=SHARD)


def test_other_values_of_what_is_kept_are_refused(tmp_path: Path) -> None:
    model = Small()
    save_checkpoint(model, RECIPE, tmp_path)
    save_checkpoint(model, RECIPE, tmp_path)
    model.norm.running_mean.add_(1)
    with pytest.raises(ValueError, match=r"tensor norm\.running_mean kept:"):
        save_checkpoint(model, RECIPE, tmp_path)


def test_a_callable_is_the_same_in_another_process(tmp_path: Path) -> None:
    recipe = Recipe([Rule(other_, names="head.bias", by=2.0)]) + RECIPE
    save(tmp_path, recipe=recipe)
    text = (tmp_path / "fastinit.json").read_text()
    assert "0x" not in text
    code = IMPORT + (
        "recipe = t.Recipe([t.Rule(t.other_, names='head.bias', by=2.0)]) + t.RECIPE; "
        "t.save(t.Path(sys.argv[1]), recipe=recipe)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    assert (tmp_path / "fastinit.json").read_text() == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda tensor: tensor.fill_(1.0), lambda tensor: tensor.fill_(2.0)),
        (functools.partial(torch.Tensor.copy_, other=torch.ones(5)), functools.partial(torch.Tensor.zero_)),
    ],
)
def test_another_callable_of_the_same_name_is_refused(tmp_path: Path, one: Any, other: Any) -> None:
    save(tmp_path, recipe=Recipe([Rule(one, names="head.bias")]) + RECIPE)
    save(tmp_path, recipe=Recipe([Rule(one, names="head.bias")]) + RECIPE)
    with pytest.raises(ValueError, match=r"tensor head.bias called function"):
        save(tmp_path, recipe=Recipe([Rule(other, names="head.bias")]) + RECIPE)


def test_another_tensor_given_to_a_callable_is_refused(tmp_path: Path) -> None:
    def copied(tensor: Tensor, values: Tensor) -> None:
        tensor.copy_(values)

    values = torch.arange(5.0)
    save(tmp_path, recipe=Recipe([Rule(copied, names="head.bias", values=values)]) + RECIPE)
    save(tmp_path, recipe=Recipe([Rule(copied, names="head.bias", values=values.clone())]) + RECIPE)
    with pytest.raises(ValueError, match=r"tensor head.bias called kwargs values"):
        save(tmp_path, recipe=Recipe([Rule(copied, names="head.bias", values=values + 1)]) + RECIPE)


@pytest.mark.parametrize(
    "name", ["model.safetensors", "model.safetensors.index.json", "model-00001-of-00004.safetensors"]
)
def test_a_folder_with_another_checkpoint_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"another's")
    with pytest.raises(ValueError, match=f"holds {name} of another checkpoint"):
        save(tmp_path)
    assert content(tmp_path) == {name: b"another's"}


def test_a_finished_name_with_something_else_in_it_is_refused(tmp_path: Path) -> None:
    save(tmp_path)
    reference = content(tmp_path)
    shard = tmp_path / "model-00003-of-00004.safetensors"
    for other in (reference[shard.name][:-1], reference["model-00002-of-00004.safetensors"], b""):
        shard.write_bytes(other)
        with pytest.raises(ValueError, match=rf"{shard.name} is no file of this checkpoint"):
            save(tmp_path)
        assert shard.read_bytes() == other


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"format": 1}', "nonsense", "\xff"])
def test_a_fastinit_json_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "fastinit.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=r"fastinit.json is none of ours"):
        save(tmp_path)


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / ".hidden.partial").write_text("mine")
    (tmp_path / f".model.safetensors.0{shards._PARTIAL}").write_text("left by a killed run")
    save(tmp_path)
    assert (tmp_path / "config.json").read_text() == "{}"
    assert (tmp_path / ".hidden.partial").read_text() == "mine"
    assert json.loads((tmp_path / "fastinit.json").read_text())["key"]["seed"] == 1
    assert not (tmp_path / f".model.safetensors.0{shards._PARTIAL}").exists()
