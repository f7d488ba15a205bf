"""Runs of the benchmark suite whose figures are known, as pytest-benchmark writes them."""

from typing import Any

from fastinit.bench import figures

MACHINE = {
    "fastinit": {
        "fastinit": "1.0", "torch": "2.0", "python": "3.11", "system": "Linux", "cpu": "A CPU", "cores": 2,
        "threads": 2, "isa": "avx2", "isas": ["avx2", "scalar"],
    },
    "libraries": {"numpy": "2.0"},
}  # fmt: skip
# Of each contestant, seconds a million elements in three turns of two passes each: the machine is slow in the second.
SECONDS = {
    "torch.nn.init": ((4.0e-3, 4.2e-3), (8.0e-3, 8.4e-3), (4.0e-3, 4.2e-3)),
    "torch stream": ((5e-4, 5e-4), (1e-3, 1e-3), (4e-4, 4e-4)),
    "keyed stream": ((2e-4, 2e-4), (4e-4, 4e-4), (2e-4, 2e-4)),
    "fill_": ((1e-4, 1e-4), (2e-4, 2e-4), (1e-4, 1e-4)),
}


def goes(contestants: dict[str, tuple[tuple[float, ...], ...]] = SECONDS, **case: Any) -> list[dict[str, Any]]:
    """Return the benchmarks of one case, as pytest-benchmark writes them."""
    usual = {
        "kind": "fill",
        "name": "normal_",
        "dtype": "float32",
        "elements": 2**20,
        "threads": 2,
        "shape": [1024, 1024],
    }
    info = usual | {"arguments": [], "memory": "warm", "layout": "contiguous"} | case
    scale = info["elements"] / 2**20
    return [
        {"extra_info": info | {"contestant": who, "turn": turn}, "stats": {"data": [one * scale for one in passes]}}
        for who, turns in contestants.items()
        for turn, passes in enumerate(turns)
    ]


def run(*cases: list[dict[str, Any]], suite: str = "quick") -> figures.Run:
    measured = {
        "benchmarks": [go for case in cases for go in case],
        "machine_info": MACHINE,
        "commit_info": {"id": "0123abc", "dirty": True},
        "datetime": "2026-01-02T03:04:05",
    }
    return figures.from_pytest(measured, suite, "python -m fastinit bench --report out")


def slower(contestant: str, times: float) -> dict[str, tuple[tuple[float, ...], ...]]:
    return {
        who: tuple(tuple(one * (times if who == contestant else 1) for one in passes) for passes in turns)
        for who, turns in SECONDS.items()
    }


def everything() -> figures.Run:
    """Return a run with something for every chapter and picture."""
    others = {"NumPy": SECONDS["torch stream"], "JAX": SECONDS["torch.nn.init"]}
    no_torch = {who: turns for who, turns in SECONDS.items() if who in ("keyed stream", "fill_")}
    cases = [
        goes(name=name, dtype=dtype, elements=elements, threads=threads)
        for name in ("uniform_", "normal_", "trunc_normal_", "sparse_", "constant_")
        for dtype in ("float32", "bfloat16")
        for elements in (10, 1000, 2**20, 2**24)
        for threads in (1, 2)
    ]
    cases += [
        goes(dtype="float8_e5m2", contestants=no_torch),
        goes(arguments=[["std", 0.02]]),
        goes(layout="transposed"),
    ]
    cases += [goes(name=name, elements=2**24, memory="fresh") for name in ("uniform_", "normal_", "trunc_normal_")]
    cases += [goes(kind="competitor", name=name, contestants=SECONDS | others) for name in ("uniform_", "normal_")]
    cases += [goes(kind="instruction set", contestants=SECONDS | {"keyed stream, scalar": SECONDS["torch stream"]})]
    for name, size in (("resnet-50", 25_557_032), ("llama-8b", 8_030_261_248)):
        cases += [goes(kind="model", name=name, elements=size, shape=[], memory=memory) for memory in ("warm", "fresh")]
    return run(*cases)
