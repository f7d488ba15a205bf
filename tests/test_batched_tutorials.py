"""Init functions as people write them, applied inside `fastinit.batched()`: the bits and the generator of plain torch.

And inside `fastinit.batched(model, key=...)`: each parameter as the keyed function fills it under the parameter's name.
"""

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import tutorials
from same_bits import bits, disagreements, unlike
from settings import default_dtype
from torch import Tensor, nn
from tutorials import GPT, INITS, Attention, Clips, Images, Words

import fastinit
from fastinit import Key

CASES = [
    pytest.param(make, init, id=f"{init.__name__} {make.__name__}") for init, models in INITS.items() for make in models
]
# Every function of torch.nn.init, with arguments; those that stand twice draw in two ways.
EVERY_KIND: list[tuple[str, dict[str, Any]]] = [
    ("uniform_", {"a": -0.5, "b": 0.25}),
    ("normal_", {"mean": 1.0, "std": 0.02}),
    ("trunc_normal_", {"std": 0.02}),
    ("trunc_normal_", {"mean": 0.1, "std": 2.0, "a": 0.0, "b": 0.5}),
    ("constant_", {"val": 0.3}),
    ("ones_", {}),
    ("zeros_", {}),
    ("eye_", {}),
    ("dirac_", {}),
    ("xavier_uniform_", {"gain": 0.5}),
    ("xavier_normal_", {}),
    ("kaiming_uniform_", {"a": math.sqrt(5)}),
    ("kaiming_normal_", {"mode": "fan_out", "nonlinearity": "relu"}),
    ("orthogonal_", {"gain": 1.5}),
    ("sparse_", {"sparsity": 0.3, "std": 0.1}),
]
DIMENSIONS = {"eye_": (2,), "sparse_": (2,), "dirac_": (3, 4, 5)}
ALL_KINDS = [pytest.param(name, more, id=f"{name}{' '.join(map(str, more.values()))}") for name, more in EVERY_KIND]


def filled(module: nn.Module, name: str) -> list[tuple[str, Tensor]]:
    """Return the matrices and kernels that this function can fill, by name."""
    allowed = DIMENSIONS.get(name, (2, 3, 4, 5))
    return [(path, p) for path, p in module.named_parameters() if p.dim() in allowed]


def test_every_function_of_torch_is_here() -> None:
    assert {name for name, _ in EVERY_KIND} == {name for name in nn.init.__all__ if name.endswith("_")}


# The torch stream


@pytest.mark.parametrize(("make", "init"), CASES)
def test_a_model_built_and_initialised_in_the_block(
    make: Callable[[], nn.Module], init: Callable[[nn.Module], None]
) -> None:
    assert disagreements(lambda: make().apply(init)) == []


@pytest.mark.parametrize(("make", "init"), CASES)
def test_a_model_that_was_there_before(make: Callable[[], nn.Module], init: Callable[[nn.Module], None]) -> None:
    torch.manual_seed(1)
    model = make()
    assert disagreements(lambda: copy.deepcopy(model).apply(init)) == []


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_function_after_the_other(dtype: torch.dtype) -> None:
    not_in_bfloat16 = (tutorials.recurrent, tutorials.bilinear)  # orthogonal_ and NumPy refuse it
    inits = [init for init in INITS if dtype == torch.float32 or init not in not_in_bfloat16]

    def build() -> nn.Module:
        models = nn.ModuleList([Images(), Clips(), Words(), Attention(), GPT()])
        for init in inits:
            models.apply(init)
        return models

    with default_dtype(dtype):
        assert disagreements(build) == []


@pytest.mark.parametrize(("name", "more"), ALL_KINDS)
def test_every_function_of_torch(name: str, more: dict[str, Any]) -> None:
    def build() -> nn.Module:
        model = nn.ModuleList([Images(), Clips(), Words()])
        for _, parameter in filled(model, name):
            getattr(nn.init, name)(parameter, **more)
        return model

    assert disagreements(build) == []


@pytest.mark.parametrize("make", [Images, Words, GPT])
def test_who_looks_in_the_block_sees_what_is_there(make: Callable[[], nn.Module]) -> None:
    runs: list[list[float]] = []

    def build() -> nn.Module:
        runs.append([])
        return make().apply(lambda m: tutorials.watched(m, runs[-1]))

    assert disagreements(build) == []
    plain, block = runs
    assert len(plain) > 20 and len(set(plain)) > 10
    assert block == plain


def test_dead_fills_are_counted_where_a_function_fills_again_and_again() -> None:
    model = Attention()
    with fastinit.batched() as block:
        model.apply(tutorials.every_matrix)
    matrices = sum(p.dim() > 1 for p in model.parameters())
    fills = sum(p.dim() > 1 for m in model.modules() for p in m.parameters())
    assert fills >= 3 * matrices
    assert (block.recorded, block.dead) == (fills, fills - matrices)


# The keyed stream

Fill = Callable[[str, Tensor, Key], object]


def gpt_keyed(name: str, x: Tensor, key: Key) -> None:
    if "norm" in name:
        x.fill_(float(name.endswith("weight")))
    elif name.endswith("bias"):
        x.zero_()
    else:
        # What is written first by the modules' own init is overwritten, and so does not count.
        fastinit.normal_(x, std=0.02 / math.sqrt(2 * 3) if name.endswith("c_proj.weight") else 0.02, generator=key)


def by_class_name_keyed(name: str, x: Tensor, key: Key) -> None:
    if name in ("features.0.weight", "features.3.weight", "up.1.weight"):
        fastinit.normal_(x, std=0.02, generator=key)
    elif name in ("features.1.weight", "head.1.weight"):
        fastinit.normal_(x, 1.0, 0.02, generator=key)
    elif name in ("features.1.bias", "head.1.bias"):
        x.zero_()


def by_isinstance_keyed(name: str, x: Tensor, key: Key) -> None:
    if x.dim() > 2:
        fastinit.kaiming_normal_(x, mode="fan_out", nonlinearity="relu", generator=key)
    elif x.dim() == 2:
        fastinit.normal_(x, 0, 0.01, generator=key)
    elif name.startswith("fc"):
        x.fill_(0.3)
    else:
        x.fill_(float(name == "norm.weight"))


def he_by_hand_keyed(name: str, x: Tensor, key: Key) -> None:
    if name in ("features.0.weight", "features.3.weight"):
        fastinit.normal_(x, std=math.sqrt(2 / (x.size(0) * x[0, 0].numel())), generator=key)
    elif name == "features.0.bias":
        x.zero_()
    elif name.startswith(("head.0", "head.2")):
        r = 1 / math.sqrt(37 if name.startswith("head.0") else 19)
        fastinit.uniform_(x, -r, r, generator=key)


def c3d_keyed(name: str, x: Tensor, key: Key) -> None:
    if x.dim() > 1:
        fastinit.normal_(x, std=0.01 if x.dim() == 5 else 0.005, generator=key)
    elif "norm" not in name:
        x.fill_(1)


def gate_by_gate_keyed(name: str, x: Tensor, key: Key) -> None:
    if not name.startswith("lstm"):
        return
    gates = x.chunk(4)
    if "weight" in name:
        for fills_before, gate in enumerate(gates):
            fastinit.xavier_uniform_(gate, generator=key.fold_in(fills_before) if fills_before else key)
    else:
        x.zero_()
        gates[1].fill_(1)


def padded_keyed(name: str, x: Tensor, key: Key) -> None:
    if name == "embedding.weight":
        fastinit.uniform_(x, -0.1, 0.1, generator=key)
        x[2] = 0
    elif name == "head.weight":
        fastinit.normal_(x[:, ::2], 0, 0.5, generator=key)
        x[:2, 1:2] = 0.25
    elif name == "head.bias":
        x[0] = -1


def new_rows_keyed(name: str, x: Tensor, key: Key) -> None:
    if name == "embedding.weight":
        fastinit.normal_(x, std=0.02, generator=key)
        fastinit.normal_(x[-3:], std=0.5, generator=key.fold_in(1))


def every_matrix_keyed(name: str, x: Tensor, key: Key) -> None:
    if x.dim() > 1:
        fastinit.xavier_uniform_(x, generator=key)


def imported_names_keyed(name: str, x: Tensor, key: Key) -> None:
    if name in ("features.0.weight", "features.3.weight"):
        fastinit.kaiming_normal_(x, nonlinearity="relu", generator=key)
    elif name in ("head.0.weight", "head.2.weight"):
        fastinit.trunc_normal_(x, std=0.02, generator=key)
    elif name in ("head.0.bias", "head.2.bias"):
        x.zero_()


def scaled_keyed(name: str, x: Tensor, key: Key) -> None:
    if "linear" in name or "out_proj" in name:
        if x.dim() == 2:
            fastinit.uniform_(x, generator=key).mul_(0.2).sub_(0.1)
        else:
            fastinit.normal_(x, generator=key).div_(math.sqrt(2.0 * (8 if "linear2" in name else 6)))
    elif "norm" in name and name.endswith("weight"):
        x.fill_(0.5)


def inverse_error_function_keyed(name: str, x: Tensor, key: Key) -> None:
    if x.dim() > 1:
        edge = math.erf(1 / math.sqrt(2))
        fastinit.uniform_(x, -edge, edge, generator=key)
        x.erfinv_().mul_(0.02 * math.sqrt(2.0)).add_(0.01).clamp_(min=-0.03, max=0.03)


KEYED: list[tuple[Callable[[], nn.Module], Callable[[nn.Module], None], Fill]] = [
    (GPT, GPT.init_weights, gpt_keyed),
    (Images, tutorials.by_class_name, by_class_name_keyed),
    (Clips, tutorials.by_isinstance, by_isinstance_keyed),
    (Images, tutorials.he_by_hand, he_by_hand_keyed),
    (Clips, tutorials.c3d, c3d_keyed),
    (Words, tutorials.gate_by_gate, gate_by_gate_keyed),
    (Words, tutorials.padded, padded_keyed),
    (Words, tutorials.new_rows, new_rows_keyed),
    (Attention, tutorials.every_matrix, every_matrix_keyed),
    (Images, tutorials.imported_names, imported_names_keyed),
    (Attention, tutorials.scaled, scaled_keyed),
    (Clips, tutorials.inverse_error_function, inverse_error_function_keyed),
]


def initialise(model: nn.Module, init: Callable[[nn.Module], None]) -> None:
    if init is GPT.init_weights:
        init(model)
    else:
        model.apply(init)


def values(model: nn.Module) -> dict[str, dict[str, Any]]:
    return {name: {"bits": bits(p).clone()} for name, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("make", "init", "fill"), [pytest.param(*case, id=case[1].__name__) for case in KEYED])
def test_with_a_key_each_parameter_is_filled_under_its_name(
    make: Callable[[], nn.Module], init: Callable[[nn.Module], None], fill: Fill, dtype: torch.dtype
) -> None:
    with default_dtype(dtype):
        torch.manual_seed(1)
        model = make()
        expected = copy.deepcopy(model)
        for name, parameter in expected.named_parameters():
            fill(name, parameter.data, Key(5).fold_in(name))
        assert unlike(values(model), values(expected)) != []

        for seed in (2, 3):
            again = copy.deepcopy(model)
            torch.manual_seed(seed)
            state = torch.get_rng_state()
            with fastinit.batched(again, key=5):
                initialise(again, init)
            assert torch.equal(torch.get_rng_state(), state), "nothing is drawn from torch's generator"
            assert unlike(values(again), values(expected)) == []


@pytest.mark.parametrize(("name", "more"), ALL_KINDS)
def test_with_a_key_every_function_of_torch_is_the_keyed_one(name: str, more: dict[str, Any]) -> None:
    model = nn.ModuleList([Images(), Clips(), Words()])
    expected = copy.deepcopy(model)
    draws = name not in ("constant_", "ones_", "zeros_", "eye_", "dirac_")
    for path, parameter in filled(expected, name):
        generator = {"generator": Key(5).fold_in(path)} if draws else {}
        getattr(fastinit, name)(parameter.data, **more, **generator)
    with fastinit.batched(model, key=5):
        for _, parameter in filled(model, name):
            getattr(nn.init, name)(parameter, **more)
    if name == "orthogonal_":  # sums of products, which are equal to rounding
        for (path, parameter), (_, other) in zip(filled(model, name), filled(expected, name), strict=True):
            torch.testing.assert_close(parameter, other, msg=path)
    else:
        assert unlike(values(model), values(expected)) == []


@pytest.mark.parametrize(("make", "init"), [(Words, tutorials.computed), (Images, tutorials.seeded)])
def test_with_a_key_numbers_for_what_is_no_parameter_are_an_error(
    make: Callable[[], nn.Module], init: Callable[[nn.Module], None]
) -> None:
    """A tensor that is copied into a parameter has no name, and a torch.Generator is another stream."""
    model = make()
    before = values(model)
    # The first thing that would be written, in each of these, is what is refused.
    with pytest.raises(RuntimeError), fastinit.batched(model, key=5):
        (model.head if make is Words else model.features[0]).apply(init)
    assert unlike(values(model), before) == []
