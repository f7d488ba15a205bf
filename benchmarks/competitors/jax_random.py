"""JAX on CPU: one compiled function a law, which is given its last output's memory back to write into.

It writes one block after the other: what is made all at once passes through memory several times on its way.
XLA's threads cannot be limited within a process, so it takes part with all of them only.
"""

from collections.abc import Callable
from typing import Any

from suites import ALL
from turns import Case

NAME = "JAX"
PACKAGE = "jax"
LAWS = ("uniform_", "normal_", "trunc_normal_")
IMPLEMENTATION = "threefry2x32"
BLOCK = 2**18  # elements
MODE = f"jit, its memory donated, {IMPLEMENTATION}, blocks of {BLOCK:,}"


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
    block = min(BLOCK, case.elements)
    blocks = case.elements // block

    def following(key: Any, array: Any) -> tuple[Any, Any]:
        key, now = jax.random.split(key)

        def with_block(number: Any, array: Any) -> Any:
            values = numbers(jax.random.fold_in(now, number), block)
            return jax.lax.dynamic_update_slice(array, values, (number * block,))

        array = jax.lax.fori_loop(0, blocks, with_block, array)
        rest = numbers(jax.random.fold_in(now, blocks), case.elements - blocks * block)
        return key, array.at[blocks * block :].set(rest)

    compiled = jax.jit(following, donate_argnums=1)
    with jax.default_device(cpu):
        key = jax.random.key(7, impl=IMPLEMENTATION)
        array = jax.numpy.full(case.elements, 0.3, dtype=case.dtype)

    def run() -> Any:
        nonlocal key, array
        key, array = compiled(key, array)
        return array.block_until_ready()

    return run


def _law(case: Case) -> Callable[[Any, int], Any]:
    """Return what makes so many numbers of a key."""
    from jax import random

    dtype, given = case.dtype, dict(case.arguments)
    if case.name == "uniform_":
        return lambda key, count: random.uniform(key, (count,), dtype, given["a"], given["b"])
    if case.name == "normal_":
        return lambda key, count: random.normal(key, (count,), dtype) * given["std"]
    return lambda key, count: random.truncated_normal(key, given["a"], given["b"], (count,), dtype)
