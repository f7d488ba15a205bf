"""JAX on CPU: one compiled function a law, which is given its last output's memory back to write into.

XLA's threads cannot be limited within a process, so it takes part with all of them only.
"""

from collections.abc import Callable
from typing import Any

from cases import ALL
from turns import Case

NAME = "JAX"
PACKAGE = "jax"
LAWS = ("uniform_", "normal_", "trunc_normal_")
IMPLEMENTATION = "threefry2x32"
MODE = f"jit, its memory donated, {IMPLEMENTATION}"


def offers(case: Case) -> bool:
    of_type = case.dtype in ("float32", "float64", "bfloat16")
    return case.name in LAWS and of_type and case.threads == ALL


def filler(case: Case) -> Callable[[], Any] | None:
    if not offers(case):
        return None
    import jax

    jax.config.update("jax_enable_x64", True)  # or there is no float64
    cpu = jax.devices("cpu")[0]
    numbers = _law(case)

    def following(key: Any, _: Any) -> tuple[Any, Any]:
        key, now = jax.random.split(key)
        return key, numbers(now)

    compiled = jax.jit(following, donate_argnums=1, keep_unused=True)
    with jax.default_device(cpu):
        key = jax.random.key(7, impl=IMPLEMENTATION)
        array = jax.numpy.full(case.elements, 0.3, dtype=case.dtype)

    def run() -> Any:
        nonlocal key, array
        key, array = compiled(key, array)
        return array.block_until_ready()

    return run


def _law(case: Case) -> Callable[[Any], Any]:
    """Return what makes a tensor of numbers of a key."""
    from jax import random

    shape, dtype, given = (case.elements,), case.dtype, dict(case.arguments)
    if case.name == "uniform_":
        return lambda key: random.uniform(key, shape, dtype, given["a"], given["b"])
    if case.name == "normal_":
        return lambda key: random.normal(key, shape, dtype) * given["std"]
    return lambda key: random.truncated_normal(key, given["a"], given["b"], shape, dtype)
