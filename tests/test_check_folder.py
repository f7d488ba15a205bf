"""`python -m fastinit check DIR`: tensors against the laws of fastinit.json, and files that are not what they say."""

import json
import math
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from small_model import RECIPE, Small, tied_model
from torch import nn

import fastinit
from fastinit import Part, Recipe, Rule, padding_row, save_checkpoint
from fastinit.__main__ import main
from fastinit.check.folder import check_folder

pytestmark = pytest.mark.one_torch

REST = Rule(fastinit.keep)


def big_model() -> tuple[nn.Module, Recipe]:
    model = nn.ModuleDict(
        {"embedding": nn.Embedding(400, 100, padding_idx=2), "linear": nn.Linear(100, 300), "norm": nn.BatchNorm1d(30)}
    )
    recipe = Recipe(
        [
            Rule(fastinit.normal_, types=nn.Embedding, std=0.02, parts=Part(fastinit.zeros_, padding_row)),
            Rule(fastinit.xavier_uniform_, types=nn.Linear, params="weight"),
            Rule(fastinit.zeros_, params="bias"),
            Rule(fastinit.ones_, types=nn.BatchNorm1d),
        ]
    )
    return model, recipe


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_checkpoint(*big_model(), tmp_path / "out", key=1, dtype=torch.float32, max_shard_size="121KB")
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 3
    return tmp_path / "out"


def rewrite(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor | None]) -> None:
    """Change one tensor in its file; None leaves it out."""
    for file in folder.glob("*.safetensors"):
        tensors = load_file(file)
        if name in tensors:
            changed = change(tensors.pop(name))
            save_file(tensors | ({} if changed is None else {name: changed}), file, {"format": "pt"})
            return
    raise AssertionError(name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_a_checkpoint_that_save_checkpoint_wrote_is_ok(tmp_path: Path, dtype: torch.dtype) -> None:
    model, recipe = big_model()
    save_checkpoint(model, recipe, tmp_path, key=1, dtype=dtype, max_shard_size="100KB")
    report = check_folder(tmp_path)
    assert report.ok, report
    model.to(dtype)
    for buffer in model.buffers():  # as they were
        if buffer.is_floating_point():
            buffer.data = buffer.float()
    fastinit.init_model_(model, recipe, key=1)
    in_memory = {row.name: row for row in fastinit.check_model(model, recipe).rows}
    assert len(in_memory) == 6
    for row in report.rows:
        if row.name in in_memory:
            assert row == in_memory[row.name]
    assert {row.name for row in report.rows} - set(in_memory) == {
        "norm.running_mean", "norm.running_var", "norm.num_batches_tracked"
    }  # fmt: skip


def test_one_file_and_tied_names(tmp_path: Path) -> None:
    save_checkpoint(tied_model(), RECIPE, tmp_path)
    report = check_folder(tmp_path)
    assert report.ok
    assert {row.name: row.tied for row in report.rows}["embedding.weight"] == ("head.weight",)


def test_values_out_of_law_are_found(folder: Path) -> None:
    rewrite(folder, "linear.weight", lambda tensor: tensor * 1.1)
    rewrite(folder, "norm.bias", lambda tensor: tensor + 1e-8)
    rewrite(folder, "embedding.weight", lambda tensor: tensor.index_fill(0, torch.tensor(2), 0.01))
    report = check_folder(folder)
    assert {row.name: row.verdict for row in report.failures} == {
        "linear.weight": "out of law", "norm.bias": "out of law", "embedding.weight[2]": "out of law"
    }  # fmt: skip
    assert not report.problems and not report.ok


def test_without_fastinit_json_only_what_is_no_number_fails(folder: Path) -> None:
    rewrite(folder, "linear.weight", lambda tensor: tensor * 3)
    (folder / "fastinit.json").unlink()
    report = check_folder(folder)
    assert report.ok
    assert all(row.law is None for row in report.rows)
    assert {row.name: row.note for row in report.rows}["norm.bias"] == "all zero"
    rewrite(folder, "linear.weight", lambda tensor: tensor.index_fill(0, torch.tensor(7), math.nan))
    (row,) = check_folder(folder).failures
    assert (row.name, row.verdict, row.note) == ("linear.weight", "nan", "100 NaN")


def second(folder: Path) -> Path:
    return folder / "model-00002-of-00003.safetensors"


def change_index(folder: Path, change: Callable[[dict], object]) -> None:
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    change(index["weight_map"])
    path.write_text(json.dumps(index))


def cut(path: Path, to: int) -> None:
    path.write_bytes(path.read_bytes()[:to])


def change_described(folder: Path, change: Callable[[dict], object]) -> None:
    """Change the first tensor of fastinit.json."""
    manifest = json.loads((folder / "fastinit.json").read_text())
    change(manifest["tensors"][0])
    (folder / "fastinit.json").write_text(json.dumps(manifest))


NO_SIZES = b'{"a":{"dtype":"F32","shape":[null],"data_offsets":[0,4]}}'

PROBLEMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a missing shard": (lambda f: second(f).unlink(), "model-00002-of-00003.safetensors is missing, with "),
    "a torn shard": (lambda f: cut(second(f), 90_000), "model-00002-of-00003.safetensors: torn: 90,000 bytes, and its"),
    "a torn header": (lambda f: cut(second(f), 20), "torn: 20 bytes end within the header"),
    "an empty file": (lambda f: cut(second(f), 0), "torn: 0 bytes end within the header"),
    "no header": (lambda f: second(f).write_bytes(b"\x02" + b"\0" * 7 + b"[]"), "its header is not that of a"),
    "a partial file": (
        lambda f: (f / ".model-00002-of-00003.safetensors.0a1b.fastinit-partial").write_bytes(b"x"),
        "left over by a write that did not end: .model-00002",
    ),
    "no index": (lambda f: (f / "model.safetensors.index.json").unlink(), "model.safetensors.index.json is missing"),
    "no index and no shard": (
        lambda f: ((f / "model.safetensors.index.json").unlink(), second(f).unlink()),
        "missing: model-00002-of-00003.safetensors",
    ),
    "an index of too much": (
        lambda f: change_index(f, lambda index: index.update(ghost=second(f).name)),
        "model.safetensors.index.json has tensors that are not in the files it names: ghost",
    ),
    "an index of the wrong file": (
        lambda f: change_index(f, lambda index: index.update({"embedding.weight": "model-00003-of-00003.safetensors"})),
        "not in the files it names: embedding.weight",
    ),
    "an index of too little": (
        lambda f: change_index(f, lambda index: index.pop("norm.bias")),
        "model.safetensors.index.json leaves out norm.bias",
    ),
    "an index that is none": (
        lambda f: (f / "model.safetensors.index.json").write_text("{}"),
        "model.safetensors.index.json cannot be read",
    ),
    "a tensor that fastinit.json has": (
        lambda f: rewrite(f, "norm.bias", lambda tensor: None),
        "in fastinit.json and in no file: norm.bias",
    ),
    "another shape": (
        lambda f: rewrite(f, "norm.bias", lambda tensor: tensor.reshape(5, 6)),
        "norm.bias is F32 of [5, 6], and in fastinit.json float32 of [30]",
    ),
    "another type": (
        lambda f: rewrite(f, "norm.bias", lambda tensor: tensor.half()),
        "norm.bias is F16 of [30], and in fastinit.json float32 of [30]",
    ),
    "the same tensor twice": (
        lambda f: save_file({"norm.bias": torch.zeros(30)}, f / "more.safetensors"),
        "norm.bias stands in two files: ",
    ),
    "fastinit.json that is none": (lambda f: (f / "fastinit.json").write_text("{}"), "fastinit.json cannot be read"),
    "fastinit.json without a tensor's type": (
        lambda f: change_described(f, lambda tensor: tensor.pop("dtype")),
        "fastinit.json cannot be read: 'dtype'",
    ),
    "fastinit.json with tied names that are none": (
        lambda f: change_described(f, lambda tensor: tensor.update(tied=3)),
        "fastinit.json cannot be read: ",
    ),
    "fastinit.json with a part beyond its tensor": (
        lambda f: change_described(f, lambda tensor: tensor.update(parts=[{"name": "", "index": [400], "law": None}])),
        "fastinit.json cannot be read: index 400",
    ),
    "an index of numbers": (
        lambda f: change_index(f, lambda index: index.update(ghost=3)),
        "3 is missing, with ghost",
    ),
    "a header of no sizes": (
        lambda f: second(f).write_bytes(len(NO_SIZES).to_bytes(8, "little") + NO_SIZES + b"0000"),
        "its header is not that of a",
    ),
    "nothing": (lambda f: (shutil.rmtree(f), f.mkdir()), "there are no safetensors files"),
}


@pytest.mark.parametrize("problem", PROBLEMS)
def test_files_that_are_not_as_they_should_be_are_said(folder: Path, problem: str) -> None:
    change, sentence = PROBLEMS[problem]
    change(folder)
    report = check_folder(folder)
    assert any(sentence in line for line in report.problems), report.problems
    assert not report.ok
    assert sentence in str(report)


def test_types_that_are_read(tmp_path: Path) -> None:
    tensors = {
        str(dtype): torch.arange(-3, 3).to(dtype).reshape(2, 3)
        for dtype in (torch.float64, torch.float8_e4m3fn, torch.float8_e5m2, torch.int64, torch.int8, torch.bool)
    } | {"scalar": torch.tensor(2.5), "empty": torch.empty(0, 4), "complex": torch.tensor([1 + 2j, 3.0])}
    save_file(tensors, tmp_path / "model.safetensors")
    report = check_folder(tmp_path)
    assert report.ok, report
    for row in report.rows:
        tensor = tensors[row.name]
        assert (row.shape, row.dtype, row.elements) == (tensor.shape, tensor.dtype, tensor.numel())
        values = torch.view_as_real(tensor) if tensor.is_complex() else tensor
        assert row.max == (values.double().max().item() if tensor.numel() else None)
    unknown = b'{"x":{"dtype":"F4","shape":[2],"data_offsets":[0,1]}}'
    (tmp_path / "other.safetensors").write_bytes(len(unknown).to_bytes(8, "little") + unknown + b"\0")
    assert check_folder(tmp_path).problems == ["other.safetensors: tensor x is of type F4, which is not known here"]


def test_large_files_are_read_in_pieces_and_all_of_them(tmp_path: Path) -> None:
    values = torch.zeros(3, 1100, 1000)
    values[2, 1099, 999] = 7.0
    save_file({"a": torch.ones(5), "b": values, "c": torch.full((4,), 3.0)}, tmp_path / "x.safetensors")
    rows = {row.name: row for row in check_folder(tmp_path).rows}
    assert rows["b"].max == 7.0 and rows["b"].mean == pytest.approx(7.0 / values.numel())
    assert rows["a"].min == rows["a"].max == 1.0 and rows["c"].min == rows["c"].max == 3.0


def test_memory_does_not_grow_with_the_files(tmp_path: Path) -> None:
    """512 MiB; mapped or read as a whole they would show."""
    model = nn.Linear(2**14, 2**14, bias=False, device="meta")
    save_checkpoint(model, Recipe([Rule(fastinit.normal_)]), tmp_path, dtype=torch.bfloat16)
    code = (
        "import re, sys; from pathlib import Path; from fastinit.check.folder import check_folder\n"
        "kib = lambda field: int(re.search(field + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1])\n"
        "before = kib('VmRSS'); assert check_folder(sys.argv[1]).ok; print(kib('VmHWM') - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert int(done.stdout) / 1024 < 250  # MiB


def test_the_command_prints_the_table_and_says_by_its_status(folder: Path, capsys, tmp_path: Path) -> None:
    main(["check", str(folder), "--json", str(tmp_path / "report.json")])
    printed = capsys.readouterr().out
    assert "linear.weight" in printed and "none wrong" in printed
    assert json.loads((tmp_path / "report.json").read_text())["ok"] is True
    second(folder).unlink()
    with pytest.raises(SystemExit) as caught:
        main(["check", str(folder), "--json", str(tmp_path / "report.json")])
    assert caught.value.code == 1
    assert "is missing" in capsys.readouterr().out
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["ok"] is False and "is missing" in plain["problems"][0]


def test_a_report_that_cannot_be_written_is_shown_all_the_same(folder: Path, capsys) -> None:
    with pytest.raises(SystemExit, match="No such file or directory"):
        main(["check", str(folder), "--json", str(folder / "nowhere" / "report.json")])
    assert "linear.weight" in capsys.readouterr().out


def test_the_command_as_a_process(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "-m", "fastinit", "check", str(folder / "nowhere")]
    nowhere = subprocess.run(command, capture_output=True, text=True)
    assert nowhere.returncode == 1
    assert "DIR must be a folder" in nowhere.stderr and "Traceback" not in nowhere.stderr
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    assert "example: python -m fastinit check" in capsys.readouterr().out


def test_the_laws_of_a_model_that_fits_nowhere_are_read_from_the_file(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = Small()
    save_checkpoint(model, RECIPE, tmp_path, buffers="reset")
    report = check_folder(tmp_path)
    assert report.ok
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert {row.name for row in report.rows} == set(file.keys())
