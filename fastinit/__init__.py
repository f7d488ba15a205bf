"""torch.nn.init, name for name, with a keyed stream of numbers that are the same everywhere, and whole-model rules."""

from fastinit import recipes as recipes
from fastinit._version import __version__ as __version__
from fastinit.batching import batched
from fastinit.check.model import CheckReport, check_model
from fastinit.checkpoint.source import from_checkpoint
from fastinit.checkpoint.writer import save_checkpoint
from fastinit.init import *  # noqa: F403
from fastinit.init import __all__ as _init_names
from fastinit.init import _calculate_correct_fan as _calculate_correct_fan
from fastinit.init import _calculate_fan_in_and_fan_out as _calculate_fan_in_and_fan_out
from fastinit.key import Key
from fastinit.model import init_model_
from fastinit.param_groups import Group, no_decay_groups, param_groups
from fastinit.recipe import Recipe
from fastinit.report import InitReport
from fastinit.rule import Part, Rule, chunk, keep, padding_row
from fastinit.selection import RecipeError
from fastinit.streams import current_stream, set_default_stream, stream

__all__ = [
    *_init_names,
    "CheckReport",
    "Group",
    "InitReport",
    "Key",
    "Part",
    "Recipe",
    "RecipeError",
    "Rule",
    "batched",
    "check_model",
    "chunk",
    "current_stream",
    "from_checkpoint",
    "init_model_",
    "keep",
    "no_decay_groups",
    "padding_row",
    "param_groups",
    "recipes",
    "save_checkpoint",
    "set_default_stream",
    "stream",
]
