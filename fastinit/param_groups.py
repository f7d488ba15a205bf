"""An optimiser's parameter groups, by the selectors that rules have."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import nn
from torch.nn.parameter import Parameter

from fastinit.parameters import modules, owned_parameters, surroundings
from fastinit.selection import FirstMatch, RecipeError, Selector


class Group(Selector):
    """Options of an optimiser, such as weight_decay and lr, and the parameters that they are for.

    A group without selectors takes all that is left.

    Args:
        types: selects by the class of the module that holds the parameter, as in a `Rule`
        params: by its name there
        names: by its full name
        inside: by the class of a module around
        max_dim: takes only parameters of so many dimensions or fewer; 1 for biases and the gains of norms
        with_ties: a tied parameter that the group takes under one of its names is its own under all of them, whatever
            later group takes the others
        options: the optimiser's, such as lr and weight_decay

    Raises:
        RecipeError: a selector or an argument of another kind

    """

    def __init__(
        self,
        *,
        types: type | str | tuple[type | str, ...] | None = None,
        params: str | tuple[str, ...] | None = None,
        names: str | tuple[str, ...] | None = None,
        inside: type | str | tuple[type | str, ...] | None = None,
        max_dim: int | None = None,
        with_ties: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(types, params, names, inside=inside)
        if max_dim is not None and not isinstance(max_dim, int):
            raise RecipeError(f"max_dim must be a whole number, got {max_dim!r}")
        self.max_dim = max_dim
        self.with_ties = with_ties
        self.options = options

    def __repr__(self) -> str:
        given = self.shown()
        given += [] if self.max_dim is None else [f"max_dim={self.max_dim}"]
        given += ["with_ties=True"] if self.with_ties else []
        return f"Group({', '.join([*given, *(f'{name}={value!r}' for name, value in self.options.items())])})"


def param_groups(model: nn.Module, groups: Iterable[Group]) -> list[dict[str, Any]]:
    """Return the list that torch.optim's optimisers take, each trainable parameter in the first group that matches.

    The dictionaries are those of `groups`, in order, and parameters in the model's order. A group that takes nothing
    has an empty list, which optimisers accept: the number of groups does not depend on the model. What requires no
    gradient is left out, and a tied parameter is there once.

    Args:
        model: whose parameters they are
        groups: in order: the first that matches takes a parameter

    Raises:
        RecipeError: parameters that no group takes, tied ones whose names fall into different groups, and those over
            the memory of others; it names them all
        TypeError: a model that is no module, a group by itself

    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if isinstance(groups, Group):
        raise TypeError("groups must be a list of fastinit.Group, got one by itself")
    given = list(groups)
    for group in given:
        if not isinstance(group, Group):
            raise RecipeError(f"groups: each must be a fastinit.Group, got {group!r}")
    around = surroundings(model) if any(group.inside is not None for group in given) else {}
    matchers: dict[int, _Matcher] = {}
    result: list[dict[str, Any]] = [{"params": [], **group.options} for group in given]
    uncovered, divided = [], []
    for parameter, names in _trainable(model):
        matcher = matchers.setdefault(parameter.dim(), _Matcher(given, parameter.dim()))
        taken = {
            name: matcher.match(module, own, name, around.get(name[: -len(own)], ())) for name, module, own in names
        }
        index = _one_of(given, set(taken.values()))
        if index is not None:
            result[index]["params"].append(parameter)
        elif set(taken.values()) == {None}:
            uncovered.append(f"{' = '.join(taken)}  ({type(names[0][1]).__name__}, {list(parameter.shape)})")
        else:
            places = [f"{name}: {'no group' if at is None else given[at]}" for name, at in taken.items()]
            divided.append("\n    ".join(places))
    if uncovered:
        raise RecipeError(
            f"no group takes {len(uncovered)} of the trainable parameters (add groups; one without selectors takes all "
            "that is left):\n  " + "\n  ".join(uncovered)
        )
    if divided:
        raise RecipeError(
            f"{len(divided)} tied parameters have names in different groups (give the first group names=... for all of "
            "them, or with_ties=True):\n  " + "\n  ".join(divided)
        )
    return result


def no_decay_groups(weight_decay: float, **options: Any) -> list[Group]:
    """Return ready groups for the usual split: without weight decay, and then all the rest with it.

    Without: embeddings (with the heads tied to them), PReLU and whatever normalises, which is any class with "Norm" in
    its name or a base's, torch's as well as the RMSNorm of each model of transformers; then biases, learned tokens and
    positions, by the names that parameters have in their modules ("bias" in them, "embed", or "token" at the end).

    Args:
        weight_decay: of the last group
        options: of all these groups, such as lr

    """
    return [
        Group(types=(nn.Embedding, nn.EmbeddingBag, nn.PReLU, "*Norm*"), with_ties=True, weight_decay=0.0, **options),
        Group(params=("*bias*", "*embed*", "*token"), with_ties=True, weight_decay=0.0, **options),
        Group(weight_decay=weight_decay, **options),
    ]


class _Matcher:
    """The first of the groups that are for parameters of `dim` dimensions."""

    def __init__(self, groups: list[Group], dim: int) -> None:
        self._indices = [at for at, one in enumerate(groups) if one.max_dim is None or dim <= one.max_dim]
        self._first = FirstMatch([groups[at] for at in self._indices])

    def match(self, module: nn.Module, own: str, name: str, around: tuple[type, ...]) -> int | None:
        found = self._first.match(type(module), own, name, around=around)
        return None if found is None else self._indices[found]


def _one_of(groups: list[Group], taken: set[int | None]) -> int | None:
    """Return the group of a parameter whose names these groups take; None if they do not agree."""
    first = min((at for at in taken if at is not None), default=None)
    return first if first is not None and (len(taken) == 1 or groups[first].with_ties) else None


def _trainable(model: nn.Module) -> Iterator[tuple[Parameter, list[tuple[str, nn.Module, str]]]]:
    """Yield each parameter that requires a gradient, in order, with all its names: in full, its module, its own."""
    distinct = {id(tensor) for tensor, _, _ in owned_parameters(model)[0].values()}
    found: dict[int, tuple[Parameter, list[tuple[str, nn.Module, str]]]] = {}
    for prefix, module in modules(model):
        for own, parameter in module._parameters.items():
            if parameter is not None and parameter.requires_grad:
                found.setdefault(id(parameter), (parameter, []))[1].append((prefix + own, module, own))
    others = [names[0][0] for key, (_, names) in found.items() if key not in distinct]
    if others:
        raise RecipeError(
            f"{len(others)} parameters stand over the memory of others without being the same object, so that an "
            "optimiser would take steps on it twice (tie them: one.weight = other.weight):\n  " + "\n  ".join(others)
        )
    yield from found.values()
