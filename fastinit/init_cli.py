"""`python -m fastinit init`: a checkpoint on disk from the name of a class, its configuration and a recipe."""

import argparse
import ast
import importlib
import importlib.util
import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fastinit import recipes
from fastinit.checkpoint.shards import open_folder
from fastinit.checkpoint.writer import save_checkpoint
from fastinit.recipe import Recipe

_DTYPES = ("float32", "bfloat16", "float16", "float64", "float8_e4m3fn", "float8_e5m2")
# What configurations call the arguments of recipes.
_OTHER_NAMES = {"n_layer": ("num_hidden_layers", "num_layers", "n_layers")}


class _Refused(Exception):
    """What the user is told, in one line where it can be."""


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", key: Callable[[str], int]) -> None:
    parser = commands.add_parser(
        "init",
        help="write the checkpoint of a new model, which may be larger than memory",
        description="Write the safetensors files of a newly initialised model, which may be larger than memory.",
        epilog="example: python -m fastinit init --model transformers:LlamaForCausalLM --config config.json "
        "--recipe llama --key 0 --dtype bfloat16 --out llama/",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="MODULE:CLASS", help="transformers:LlamaForCausalLM, or one of your own")
    add("--config", metavar="FILE", help="JSON: the configuration of a transformers class, or keyword arguments")
    add("--recipe", required=True, help="a .toml file, or a name in fastinit.recipes, as in gpt2 or gpt2:n_layer=12; "
        "arguments that it needs and is not given are taken from the configuration")  # fmt: skip
    add("--out", required=True, metavar="DIR", help="the folder; a second run goes on where the first was stopped")
    add("--key", type=key, default=0, help="seed of the keyed stream (default: 0)")
    add("--dtype", choices=_DTYPES, help="of the parameters (default: as the class makes them)")
    add(
        "--max-shard-size",
        type=_size,
        default="5GB",
        metavar="SIZE",
        help="bytes in a file, or 500MB or 2GiB (default: 5GB)",
    )
    add("--buffers", choices=("error", "reset"), default="error",
        help="what to do with buffers that no rule takes: modules can make them anew (default: error)")  # fmt: skip


def run(given: argparse.Namespace) -> None:
    try:
        settings = _read_config(given.config)
        model, config = _built(given.model, settings)
        recipe = _recipe(given.recipe, settings if config is None else config.to_dict())
        dtype = None if given.dtype is None else getattr(torch, given.dtype)
        report = save_checkpoint(
            model, recipe, given.out, given.key, dtype=dtype, max_shard_size=given.max_shard_size,
            buffers=given.buffers, progress=True if importlib.util.find_spec("rich") else None,
        )  # fmt: skip
        if config is not None:
            _write_config(config, model, dtype, Path(given.out))
    except (_Refused, ValueError) as error:
        sys.exit(f"init: {error}")
    except OSError as error:
        sys.exit(f"init: {error if error.filename else error.strerror}")
    except KeyboardInterrupt:
        print("init: interrupted; what is finished stays, and the same command goes on", file=sys.stderr)
        sys.exit(130)
    size = sum(path.stat().st_size for path in Path(given.out).glob("model*.safetensors"))
    print(f"{given.out}: {len(report.rows)} tensors, {size / 1e9:.3f} GB, in {report.seconds:.1f} s")


def _size(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _read_config(path: str | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        settings = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise _Refused(f"--config: cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise _Refused(f"--config: {path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise _Refused(f"--config: {path} must hold an object, got {type(settings).__name__}")
    return settings


def _built(name: str, settings: dict[str, Any]) -> tuple[nn.Module, Any]:
    """Build the model on the meta device; return it with its configuration, None where it is not transformers'."""
    make = _imported(name)
    try:
        with torch.device("meta"):
            if (config_class := getattr(make, "config_class", None)) is not None:
                about = config_class.from_dict(settings)
                model = make(about)
            else:
                about, model = None, make(**settings)
    except Exception as error:  # whatever the class says of its arguments
        raise _Refused(f"--model: {name} cannot be built from --config: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise _Refused(f"--model: {name} makes a {type(model).__name__}, not a torch.nn.Module")
    return model, about


def _imported(name: str) -> Callable[..., Any]:
    module, colon, path = name.partition(":")
    if not (module and colon and path):
        raise _Refused(f"--model must be module:Class, such as transformers:LlamaForCausalLM, got {name}")
    try:
        found: Any = importlib.import_module(module)  # Python has put the working directory on its path
        for part in path.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise _Refused(f"--model: {error}") from error
    except Exception as error:  # whatever a module does while it is imported
        raise _Refused(f"--model: {module} cannot be imported: {type(error).__name__}: {error}") from error
    if not callable(found):
        raise _Refused(f"--model: {name} is a {type(found).__name__}, neither a class nor a function")
    made: Callable[..., Any] = found
    return made


def _recipe(given: str, settings: dict[str, Any]) -> Recipe:
    """Return the recipe of a .toml file, or one of fastinit.recipes, as "gpt2" or "gpt2:n_layer=12,std=0.01"."""
    if given.endswith(".toml"):
        return Recipe.from_toml(given)
    name, _, text = given.partition(":")
    if name not in recipes.__all__:
        raise _Refused(f"--recipe must be the path of a .toml file or one of {', '.join(recipes.__all__)}, got {given}")
    make = getattr(recipes, name)
    arguments = _arguments(text)
    parameters = inspect.signature(make).parameters
    if unknown := arguments.keys() - parameters.keys():
        raise _Refused(f"--recipe: {name} has no argument {min(unknown)}; it has {', '.join(parameters) or 'none'}")
    for argument, parameter in parameters.items():
        if argument not in arguments and parameter.default is parameter.empty:
            names = argument, *_OTHER_NAMES.get(argument, ())
            found = [settings[one] for one in names if settings.get(one) is not None]
            if not found:
                raise _Refused(f"--recipe: {name} needs {argument}, and --config has none: {name}:{argument}=...")
            arguments[argument] = found[0]
    try:
        recipe = make(**arguments)
    except TypeError as error:
        raise _Refused(f"--recipe: {given}: {error}") from error
    assert isinstance(recipe, Recipe)
    return recipe


def _arguments(text: str) -> dict[str, Any]:
    arguments = {}
    for one in filter(None, text.split(",")):
        name, equals, value = one.partition("=")
        if not equals:
            raise _Refused(f"--recipe: arguments are given as name=value, got {one}")
        try:
            arguments[name] = ast.literal_eval(value)
        except (ValueError, SyntaxError):
            arguments[name] = value  # a text needs no quotes
    return arguments


def _write_config(about: Any, model: nn.Module, dtype: torch.dtype | None, out: Path) -> None:
    """Write config.json, by which transformers' from_pretrained knows the class and the type."""
    about.architectures = [type(model).__name__]
    about.dtype = dtype or next(model.parameters()).dtype
    with open_folder(out) as folder:
        folder.publish_text("config.json", about.to_json_string().encode())
