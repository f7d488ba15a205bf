"""`python -m fastinit init`: what it writes is what init_model_ gives, and what it cannot do it says in a line."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import fastinit
from fastinit import Recipe, Rule, __main__, init_cli, init_model_, recipes

pytestmark = pytest.mark.one_torch

TOML = """
[[rules]]
init = "normal_"
params = "weight"
std = 0.5

[[rules]]
init = "zeros_"
params = "bias"
"""
RECIPE = Recipe([Rule(fastinit.normal_, params="weight", std=0.5), Rule(fastinit.zeros_, params="bias")])
MODULE = """
import torch

class Model(torch.nn.Sequential):
    def __init__(self, width, depth=1):
        super().__init__(*[torch.nn.Linear(width, width) for _ in range(depth)])

number = 3

def not_a_module(**settings):
    return settings
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a module of the user's, a recipe and a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as `python -m` does
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    (tmp_path / "mine.py").write_text(MODULE)
    (tmp_path / "recipe.toml").write_text(TOML)
    (tmp_path / "config.json").write_text('{"width": 5, "depth": 3}')
    return tmp_path


def options(changes: dict[str, str]) -> list[str]:
    given = {"model": "mine:Model", "config": "config.json", "recipe": "recipe.toml", "out": "out"} | changes
    return ["init", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items())]


def run(**changes: str) -> "subprocess.CompletedProcess[str]":
    package = os.path.dirname(os.path.dirname(fastinit.__file__))
    return subprocess.run(
        [sys.executable, "-m", "fastinit", *options(changes)],
        capture_output=True, text=True, env={**os.environ, "PYTHONPATH": package},
    )  # fmt: skip


def main(**changes: str) -> None:
    """The same without another process."""
    __main__.main(options(changes))


def expected(dtype: torch.dtype, key: int) -> dict[str, torch.Tensor]:
    model = nn.Sequential(*[nn.Linear(5, 5) for _ in range(3)]).to(dtype)
    init_model_(model, RECIPE, key)
    return model.state_dict()


def test_a_class_of_the_working_directory_by_a_toml_recipe(here: Path) -> None:
    finished = run(key="7", dtype="bfloat16", max_shard_size="100")
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("out: 6 tensors, 0.000 GB, in ")
    assert finished.stderr == ""  # no bar without a terminal
    written: dict[str, torch.Tensor] = {}
    for file in (here / "out").glob("*.safetensors"):
        written |= load_file(file)
    tensors = expected(torch.bfloat16, 7)
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())
    assert (here / "out" / "model.safetensors.index.json").exists()
    assert not (here / "out" / "config.json").exists()
    before = {path: path.stat().st_mtime_ns for path in (here / "out").iterdir()}
    main(key="7", dtype="bfloat16", max_shard_size="100")
    assert {path: path.stat().st_mtime_ns for path in (here / "out").iterdir()} == before


LLAMA = {
    "vocab_size": 97, "hidden_size": 32, "intermediate_size": 56, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip


def test_a_transformers_class_that_from_pretrained_then_reads(here: Path) -> None:
    transformers = pytest.importorskip("transformers")
    (here / "llama.json").write_text(json.dumps(LLAMA))
    (here / "llama.toml").write_text(
        '[[rules]]\ninit = "normal_"\ntypes = ["Linear", "Embedding"]\nstd = 0.02\n'
        '[[rules]]\ninit = "ones_"\nnames = "*norm.weight"\n'
    )
    main(model="transformers:LlamaForCausalLM", config="llama.json", recipe="llama.toml", dtype="bfloat16")
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        here / "out", output_loading_info=True, dtype="auto"
    )
    assert type(model) is transformers.LlamaForCausalLM
    assert not any(info.values())
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    filled = transformers.LlamaForCausalLM(transformers.LlamaConfig(**LLAMA)).bfloat16()
    init_model_(filled, Recipe.from_toml(here / "llama.toml"))
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in filled.state_dict().items())
    assert model.lm_head.weight is model.model.embed_tokens.weight


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [("gpt2", {}), ("gpt2", {"n_layer": 2}), ("gpt2:n_layer=3", {"n_layer": 2}), ("gpt2:std=0.5,n_layer=3", {})],
)
def test_a_ready_recipe_takes_what_it_needs_from_the_configuration(
    here: Path, recipe: str, settings: dict[str, Any]
) -> None:
    transformers = pytest.importorskip("transformers")
    small = {"vocab_size": 50, "n_positions": 9, "n_embd": 8, "n_head": 2} | settings
    (here / "gpt2.json").write_text(json.dumps(small))
    main(model="transformers:GPT2LMHeadModel", config="gpt2.json", recipe=recipe)
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**small))
    layers = 3 if "n_layer" in recipe else settings.get("n_layer", 12)
    init_model_(model, recipes.gpt2(n_layer=layers, **({"std": 0.5} if "std" in recipe else {})))
    read = transformers.GPT2LMHeadModel.from_pretrained(here / "out")
    assert all(torch.equal(read.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        __main__.main(["init", "--help"])
    assert left.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "example: python -m fastinit init --model transformers:LlamaForCausalLM --config config.json --recipe llama "
        "--key 0 --dtype bfloat16 --out llama/" in shown
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model": "Model"}, "--model must be module:Class, such as transformers:LlamaForCausalLM, got Model"),
        ({"model": "absent:Model"}, "--model: No module named 'absent'"),
        ({"model": "mine:Absent"}, "--model: module 'mine' has no attribute 'Absent'"),
        ({"model": "broken:Model"}, "--model: broken cannot be imported: SyntaxError: "),
        ({"model": "mine:number"}, "--model: mine:number is a int, neither a class nor a function"),
        ({"model": "mine:not_a_module"}, "--model: mine:not_a_module makes a dict, not a torch.nn.Module"),
        ({"config": "absent.json"}, "--config: cannot read absent.json: No such file or directory"),
        ({"config": "recipe.toml"}, "--config: recipe.toml is not JSON: "),
        ({"config": "list.json"}, "--config: list.json must hold an object, got list"),
        ({"config": "wrong.json"}, "--model: mine:Model cannot be built from --config: TypeError: "),
        ({"recipe": "absent.toml"}, "[Errno 2] No such file or directory: 'absent.toml'"),
        ({"recipe": "wrong.toml"}, "wrong.toml is not TOML: "),
        ({"max_shard_size": "5XB"}, "max_shard_size must be a number of bytes of at least 1, or a string"),
        ({"out": "mine.py"}, "out must be a folder, and a file is in its place: mine.py"),
        ({"recipe": "few.toml"}, "no rule matches 3 of the model's tensors"),
    ],
)
def test_what_cannot_be_is_said_without_a_traceback(here: Path, changes: dict[str, str], said: str) -> None:
    (here / "broken.py").write_text("class Model(")
    (here / "list.json").write_text("[]")
    (here / "wrong.json").write_text('{"height": 5}')
    (here / "wrong.toml").write_text("rules = ")
    (here / "few.toml").write_text('[[rules]]\ninit = "zeros_"\nparams = "bias"\n')
    with pytest.raises(SystemExit) as left:
        main(**changes)
    message = left.value.code
    assert isinstance(message, str)  # Python then prints it and exits with 1
    assert message.startswith(f"init: {said}")
    if changes != {"recipe": "few.toml"}:  # which lists the parameters
        assert "\n" not in message
    assert not (here / "out").exists()


def test_an_error_is_one_line_on_stderr_and_a_status(here: Path) -> None:
    finished = run(config="absent.json")
    assert finished.returncode == 1
    assert finished.stderr == "init: --config: cannot read absent.json: No such file or directory\n"
    assert finished.stdout == ""


def test_interrupted_it_says_how_to_go_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*arguments: Any, **given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(init_cli, "save_checkpoint", interrupted)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 130
    assert capsys.readouterr().err == "init: interrupted; what is finished stays, and the same command goes on\n"


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ("lama", "--recipe must be the path of a .toml file or one of "),
        ("gpt2", "--recipe: gpt2 needs n_layer, and --config has none: gpt2:n_layer=..."),
        ("gpt2:layers=3", "--recipe: gpt2 has no argument layers; it has n_layer, std"),
        ("gpt2:3", "--recipe: arguments are given as name=value, got 3"),
    ],
)
def test_a_ready_recipe_that_cannot_be_is_said(here: Path, recipe: str, said: str) -> None:
    with pytest.raises(SystemExit) as left:
        main(recipe=recipe)
    assert str(left.value.code).startswith(f"init: {said}")


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"dtype": "int8"}, "bfloat16"), ({"key": "-1"}, "in [0, 2**64), got -1"), ({"buffers": "no"}, "reset")],
)
def test_a_wrong_option_says_what_is_allowed(
    changes: dict[str, str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main(**changes)
    assert left.value.code == 2
    assert said in capsys.readouterr().err
