"""Names of a part of a model, such as a stage of a pipeline, in the whole model."""

from collections.abc import Iterable, Mapping

# What the names in the part begin with in the whole, "layers.4"; or for some modules of the part, by their names in it,
# what they are called in the whole, {"0": "layers.4", "1": "layers.5"}. Names in the whole decide on the numbers.
Prefix = str | Mapping[str, str]


def in_whole(name: str, prefix: Prefix) -> str:
    """Return what a tensor's name in the part, or a module's with its final dot, is in the whole."""
    if not prefix:
        return name
    renamed = {"": prefix} if isinstance(prefix, str) else prefix
    end = name.rfind(".")
    while end > 0:  # from the innermost module that the name is within
        whole = renamed.get(name[:end])
        if whole is not None:
            return f"{whole}.{name[end + 1 :]}" if whole else name[end + 1 :]
        end = name.rfind(".", 0, end)
    return f"{renamed['']}.{name}" if renamed.get("") else name


def check_prefix(prefix: Prefix, modules: Iterable[str]) -> None:
    """Refuse a prefix that is none, or that names other modules than these."""
    if not (isinstance(prefix, str) or (isinstance(prefix, Mapping) and _are_strings((*prefix, *prefix.values())))):
        raise TypeError(
            f"prefix must be a name, or a mapping from names in the model to names in the whole, got {prefix!r}"
        )
    for name in (prefix,) if isinstance(prefix, str) else prefix.values():
        if name and not all(name.split(".")):
            raise ValueError(f"prefix must be names with single dots between them, got {name!r}")
    if not isinstance(prefix, str) and (unknown := [*(prefix.keys() - set(modules))]):
        raise ValueError(f"prefix: the model has no module {unknown[0]!r}")


def _are_strings(values: Iterable[object]) -> bool:
    return all(isinstance(value, str) for value in values)
