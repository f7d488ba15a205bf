"""Ready recipes, each with its source named: which class and method of which library, or which paper.

They hold what that source does and nothing beyond: a parameter of a kind that it does not have is left to the
coverage error, or to rules of yours, before or after (`Recipe([...]) + fastinit.recipes.bert()`).
"""

from fastinit.recipes.language import bert, gpt2, llama
from fastinit.recipes.torch_nn import torch_defaults
from fastinit.recipes.vision import c3d, resnet, vit

__all__ = ["bert", "c3d", "gpt2", "llama", "resnet", "torch_defaults", "vit"]
