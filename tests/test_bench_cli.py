"""The command line: `info`, and `bench` on the smallest of its models."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastinit
import fastinit._ops
from fastinit import __main__, machine

pytestmark = pytest.mark.one_torch


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fastinit", *arguments], capture_output=True, text=True)


def test_info_says_versions_instruction_sets_and_native_functions(capsys: pytest.CaptureFixture[str]) -> None:
    __main__.main(["info"])
    lines = {line[:14].strip(): line[14:] for line in capsys.readouterr().out.splitlines()}
    assert lines["torch"] == torch.__version__
    assert lines["isa"] == fastinit._ops.isa()
    assert int(lines["threads"]) == torch.get_num_threads()
    assert set(lines["keyed stream"].split()) == {name for name in torch.nn.init.__all__ if name.endswith("_")}
    assert lines["stream"].split()[0] == fastinit.current_stream()
    assert "float32" in lines["torch stream"]


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        __main__.main(["bench", "--help"])
    assert "example: python -m fastinit bench" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "alexnet"], "resnet-50"),
        (["--dtype", "int8"], "bfloat16"),
        (["--threads", "0"], "at least 1, got 0"),
        (["--repeat", "-1"], "at least 1, got -1"),
        (["--threads", "two"], "at least 1, got two"),
        (["--seed", "-1"], "in [0, 2**64), got -1"),
        (["--quick"], "--full and --from go with --report"),
        (["--full", "--check", "report.json"], "--full and --from go with --report"),
        (["--from", "report.json"], "--full and --from go with --report"),
        (["--report", "out", "--quick", "--full"], "not allowed with argument --quick"),
        (["--report", "out", "--check", "report.json"], "not allowed with argument --report"),
    ],
)
def test_a_wrong_option_says_what_is_allowed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        __main__.main(["bench", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_bench_prints_a_table_and_writes_the_same_figures(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("rich")
    path = tmp_path / "figures.json"
    options = ["--model", "resnet-50", "--dtype", "bfloat16", "--repeat", "1", "--threads", "2"]
    finished = run("bench", *options, "--json", str(path))
    assert finished.returncode == 0, finished.stderr
    figures = json.loads(path.read_text())
    assert figures["elements"] == 25_557_032  # ResNet-50's
    assert figures["bytes"] == 2 * figures["elements"]
    assert figures["machine"]["threads"] == 2
    assert figures["machine"]["isa"] == fastinit._ops.isa()
    assert figures["command"].startswith("python -m fastinit bench --model resnet-50")
    passes = [(one["what"], one["threads"]) for one in figures["passes"]]
    streams = [("fastinit, torch stream", 2), ("fastinit, keyed stream", 2)]
    assert passes == [("torch.nn.init", 2), *streams, ("fill_", 1), ("fill_", 2)]
    for one in figures["passes"]:
        assert one["ns_per_parameter"] == pytest.approx(one["seconds"] / figures["elements"] * 1e9)
        assert f"{one['ns_per_parameter']:.3f}" in finished.stdout
        assert f"{one['times_faster_than_torch']:.1f}" in finished.stdout
    assert "\x1b" not in finished.stdout + finished.stderr  # no bar and no colours in a pipe
    assert "passes" not in finished.stderr


def test_every_model_has_a_recipe_that_takes_every_parameter() -> None:
    pytest.importorskip("transformers")
    from fastinit.bench import architectures
    from fastinit.plan import make_plan

    assert tuple(architectures.ARCHITECTURES) == __main__._MODELS
    sizes = {}
    for name, architecture in architectures.ARCHITECTURES.items():
        plan = make_plan(architectures.on_meta(name, torch.float32), architecture.recipe, buffers="reset")
        assert all(entry.rule is not None for entry in plan.entries if not entry.buffer), name
        sizes[name] = sum(entry.shape.numel() for entry in plan.entries if not entry.buffer)
    assert sizes == {
        "llama-1b": 1_235_814_400,  # Llama 3.2 1B's
        "llama-8b": 8_030_261_248,  # Llama 3 8B's
        "gpt2-xl": 1_557_611_200,
        "bert-large": 336_226_108,  # BERT-large uncased with both its heads
        "vit-l": 304_326_632,  # ViT-L/16's
        "resnet-50": 25_557_032,
        "resnet-152": 60_192_808,
        "c3d": 79_991_015,  # of the layers in its paper's figure 3, with Sports-1M's 487 classes
    }


@pytest.mark.parametrize(
    ("arguments", "free", "message"),
    [
        (["--model", "llama-8b"], 24, "35.3 GB of memory, and 24.0 GB is free; --dtype bfloat16 takes half of it"),
        (["--model", "llama-8b", "--dtype", "bfloat16"], 12, "17.7 GB of memory, and 12.0 GB is free; --model resnet"),
        ([], 1, "llama-1b in torch.float32 needs 5.4 GB of memory, and 1.0 GB is free; --model resnet-50 is the"),
    ],
)
def test_bench_says_what_it_needs_where_memory_is_short(
    arguments: list[str], free: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("rich")
    monkeypatch.setattr(machine, "available_memory", lambda: free * 10**9)
    with pytest.raises(SystemExit, match=re.escape(message)):
        __main__.main(["bench", *arguments])


@pytest.mark.parametrize("missing", ["rich", "transformers"])
def test_bench_without_its_extra_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    monkeypatch.setitem(sys.modules, "transformers", sys)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(SystemExit, match=rf"{missing}: pip install 'torch-fastinit\[bench\]'"):
        __main__.main(["bench"])
