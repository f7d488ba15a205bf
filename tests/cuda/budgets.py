"""What an element costs on the hot path of each dense kernel, and what that would allow an H100: computed, not
measured.

    python tests/cuda/budgets.py        writes benchmarks/results/cuda_budgets.json and .md

Issue slots: instructions that a warp issues in a turn of the kernel's loop of 16-byte stores, divided by the
elements that each of its threads stores. The roofline has 132 multiprocessors at 1.755 GHz, each of which
issues for 128 threads a cycle and executes for as many as UNITS says of each class of instructions (CUDA's
programming guide, "Arithmetic Instructions"; a wide product is taken for two), and assumes 2.9 TB/s of writes.
"""

import json
from pathlib import Path
from typing import Any

import sass
from toolkit import KERNEL_FLAGS, ROOT

import build

ARCHITECTURE = 90
LAWS = ("uniform", "normal", "trunc_normal")
ITEMS = {"float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "float64": 8}
LIMITS = {("uniform", 4): 16.0, ("normal", 4): 33.0, ("trunc_normal", 4): 45.0,
          ("uniform", 2): 16.0, ("normal", 2): 33.0, ("trunc_normal", 2): 45.0}  # fmt: skip
MULTIPROCESSORS, CLOCK, WRITES = 132, 1.755e9, 2.9e12
# Threads that a multiprocessor serves a cycle, of the classes of sass.py that share a unit.
UNITS: dict[str, tuple[int, dict[str, int]]] = {
    "integer and logic": (64, {"integer and logic": 1}),
    "integer products": (64, {"integer products and moves": 1, "wide products": 2}),
    "multiply-adds": (128, {"float32": 1, "integer products and moves": 1, "wide products": 2}),
    "float64": (64, {"float64": 1}),
    "seeds": (16, {"seeds": 1}),
}
RESULTS = ROOT / "benchmarks" / "results" / "cuda_budgets.json"
TITLE = (
    "CUDA kernels: issue slots an element on sm_90, and the roofline they imply for an H100. Computed, not measured."
)


def compute_bound(cost: sass.Cost, item: int) -> tuple[float, str]:
    """Elements a second that the multiprocessors could compute, and which of their units is the narrowest."""
    cycles = {"issue": cost.issued / 128}
    for unit, (threads, classes) in UNITS.items():
        cycles[unit] = sum(weight * cost.classes.get(name, 0) for name, weight in classes.items()) / threads
    narrowest = max(cycles, key=lambda unit: cycles[unit])
    return MULTIPROCESSORS * CLOCK * (cost.stores * 16 / item) / cycles[narrowest], narrowest


def measured(csrc: Path, flags: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """A row for each law and type."""
    dense = build.device_object(csrc / "cuda" / "dense.cu", csrc, ARCHITECTURE, list(flags))
    rows = []
    for law in LAWS:
        for dtype, item in ITEMS.items():
            cost = sass.cost(dense, f"fastinit_dense_{law}_{dtype}")
            if cost.skipped and not (law == "trunc_normal" or dtype == "float64"):
                raise sass.UncountedError(f"{law} {dtype}: branches skip {cost.skipped} instructions of the hot loop")
            (compute, unit), write = compute_bound(cost, item), WRITES / item
            rows.append(
                {
                    "law": law,
                    "dtype": dtype,
                    "issue_slots_per_element": round(cost.slots(item), 2),
                    "registers": cost.registers,
                    "compute_bound_1e9_per_s": round(compute / 1e9),
                    "write_bound_1e9_per_s": round(write / 1e9),
                    "bound_by": unit if compute < write else "writes",
                    "instructions_per_turn": cost.classes,
                    "elements_per_turn": cost.stores * 16 // item,
                }
            )
    return rows


def exceeded(rows: list[dict[str, Any]]) -> list[str]:
    problems = []
    for row in rows:
        limit = LIMITS.get((row["law"], ITEMS[row["dtype"]]))
        if limit is not None and row["issue_slots_per_element"] > limit:
            problems.append(
                f"{row['law']} {row['dtype']}: {row['issue_slots_per_element']} issue slots, at most {limit}"
            )
    return problems


def document(rows: list[dict[str, Any]]) -> dict[str, Any]:
    roofline = {"multiprocessors": MULTIPROCESSORS, "clock_hz": CLOCK, "assumed_write_bytes_per_s": WRITES}
    return {"what": TITLE, "architecture": f"sm_{ARCHITECTURE}", "nvcc_flags": " ".join(KERNEL_FLAGS),
            "roofline": roofline, "kernels": rows}  # fmt: skip


def markdown(rows: list[dict[str, Any]]) -> str:
    lines = [
        "# Issue slots of the CUDA kernels (computed, not measured)",
        "",
        "Nothing in this table has run on a GPU. Slots are counted in the machine code that nvcc makes for sm_90. The",
        f"rates are what {MULTIPROCESSORS} multiprocessors at {CLOCK / 1e9} GHz could compute by the widths of their",
        f"units, and what {WRITES / 1e12} TB/s of writes, which are assumed, could store.",
        "Made by `python tests/cuda/budgets.py`.",
        "",
        "| law | type | slots an element | registers | compute bound, 10⁹/s | write bound, 10⁹/s | bound by |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['law']} | {r['dtype']} | {r['issue_slots_per_element']} | {r['registers']} | "
            f"{r['compute_bound_1e9_per_s']} | {r['write_bound_1e9_per_s']} | {r['bound_by']} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    rows = measured(ROOT / "csrc")
    RESULTS.write_text(json.dumps(document(rows), indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text(markdown(rows))
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
