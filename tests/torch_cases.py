"""What the tests of the torch stream go through: states of a generator, numbers, options and layouts."""

from collections.abc import Iterator
from typing import Any

import torch
from cases import LAYOUTS
from torch_stream import handmade_state, state_of

LAWS = ("uniform_", "normal_", "trunc_normal_")
SIZES = [*range(201), *(2**k + offset for k in range(8, 18) for offset in (-1, 0, 1)), 2**20 + 5]

# Where the low 24 bits of a draw are extreme, and the top ones.
EXTREME = torch.tensor([0, 2**32 - 1, 2**24 - 1, 1, 2**31, 2**32 - 2, 2**24, 0, 0, 2**32 - 1, 2**32 - 1]).repeat(57)[
    :624
]
STATES: dict[str, torch.Tensor] = {
    "fresh": state_of(seed=1),
    "middle of a block": state_of(seed=2, words=100),
    "one word left": state_of(seed=3, words=623),
    "block used up": state_of(seed=4, words=624),
    "second block": state_of(seed=5, words=625),
    "many blocks": state_of(seed=6, words=624 * 5 + 311),
    "cached normal": state_of(seed=7, normals=1),
    "cached normal, block used up": state_of(seed=8, words=620, normals=1),
    "cached normal used": state_of(seed=9, words=11, normals=2),
    "wide seed": state_of(seed=2**63 + 11),
    "negative seed": state_of(seed=-3, words=5),
    "made by hand": handmade_state(torch.arange(624) * 2654435761 & 0xFFFFFFFF, drawn=301),
    "a cached normal made by hand": handmade_state(torch.arange(624) * 40503, drawn=624, cached=-1e300),
    "words of zeros": handmade_state(torch.zeros(624, dtype=torch.int64)),
    "extreme words": handmade_state(EXTREME, drawn=2),
    "extreme words, shifted": handmade_state(EXTREME.roll(1), drawn=3, cached=0.0),
}

# Numbers that hide nothing: a mean of 0 or bounds of [0, 1) would hide how a sum is rounded. The first five of each are
# ordinary in every type.
NUMBERS: dict[str, list[tuple[float, ...]]] = {
    "uniform_": [
        (-0.7, 0.9),
        (0, 1),
        (3.7, 9.1),
        (-3, 7),
        (1.0, 1.0),
        (0.0, -0.0),
        (-0.0, 0.0),
        (0.1, 0.1 + 1e-9),  # equal in float32
        (1e8 + 0.3, 1e8 + 17.7),  # their difference in float64 is another than in float32
        (-1e4, 1e-3),
        (-1e-30, 2e-38),
        (0.0, 1e-40),  # subnormal in float32
        (1e-45, 1e-44),
        (1e-310, 3e-310),  # subnormal in float64, 0 in float32
        (0.0, 3e-7),  # subnormal in float16
        (1.0, 1.0 + 2.0**-23),  # next to each other: about half of the values are rounded to the upper bound
        (1.0, 1.0 + 2.0**-7),
        (0.5, 0.5 + 2.0**-11),
        (1.0, 1.0 + 2.0**-52),
        (-65504.0, 0.0),
        (-40000.0, 40000.0),  # too wide for float16
        (-3e38, 1e37),
        (-2e38, 2e38),  # too wide for float32
        (-1e308, 5e307),
        (-1.1e308, 1.1e308),  # too wide for float64
        (16777216.0, 16777219.0),
    ],
    "normal_": [
        (0.3, 0.02),
        (0, 1),
        (1.5, 0.3),
        (-100, 1e-3),
        (0.0, 0.02),
        (1.5, 0),
        (0.0, 0.0),
        (-0.0, 0.0),
        (0.1, 1e-9),
        (1e8 + 0.3, 3.3),
        (0.0, 1e-40),
        (1e-42, 1e-43),
        (1e-310, 3e-310),
        (1e-7, 2e-7),
        (6e4, 1e4),  # beyond float16 now and then
        (0.0, 3e4),
        (3e38, 1e37),  # beyond float32 now and then
        (-1e38, 2e38),
        (0.0, 1e39),  # a number of float64, infinite in float32
        (1e39, 0.5),
        (1e300, 1e308),
        (0.5, 1e-320),
    ],
    "trunc_normal_": [
        (0.0, 1.0, -2.0, 2.0),
        (0, 0.02, -2, 2),
        (0.1, 0.5, -0.4, 0.6),
        (0.3, 0.02, 0.29, 0.33),
        (0.0, 1.0, -0.5, 0.5),
        (0.0, 1.0, 0.0, 10.0),
        (-3.0, 2.0, -3.3, 1e30),
        (100.0, 0.7, 99.3, 100.4),  # few numbers of a narrow type in the window
        (0.0, 1e-5, -1.1e-5, 1.3e-5),
        (1.0, 2.0**-9, 1.0 - 2.0**-8, 1.0 + 2.0**-8),
        (0.0, 1e-40, -1e-40, 2e-40),
        (0.0, 1e-7, -6e-8, 3e-7),
        (0.0, 1e38, -5e37, 2e38),
        (0.0, 3e4, -6e4, 6.5e4),
        (0.0, 1.0, -1e6, 1e6),  # bounds beyond float16
        (0.0, 1.0, -1e39, 1e39),  # beyond float32
        (1.0, 1.0, 1.0, 3.0),
        (0.0, 1.0, -0.4307, 10.0),
    ],
}
# Here trunc_normal_ takes its other way, from uniform numbers and torch's logarithm.
UNIFORM_BRANCH = [(0.0, 1.0, 2.0, 3.0), (0.0, 1.0, -0.1, 0.1), (0.5, 0.1, -0.3, 0.4), (0.0, 1.0, 2.5, 9.0)]


# With each, whether torch refuses it.
OPTIONS: dict[str, list[tuple[dict[str, Any], bool]]] = {
    "xavier": [({"gain": gain}, gain < 0) for gain in (1, 1.7, 5 / 3, 0, 1e-42, -0.5)],
    "kaiming": [
        ({"mode": mode, "nonlinearity": nonlinearity, "a": a}, refused)
        for mode, nonlinearity, a, refused in [
            ("fan_in", "leaky_relu", 0, False),
            ("fan_in", "leaky_relu", 5**0.5, False),
            ("FAN_OUT", "leaky_relu", 0.2, False),
            ("fan_out", "relu", 0, False),
            ("fan_in", "relu", 3, False),
            ("fan_out", "tanh", 0, False),
            ("fan_in", "selu", 0, False),
            ("fan_out", "linear", 0, False),
            ("fan_in", "sigmoid", 0, False),
            ("fan_out", "conv3d", 0, False),
            ("fan_up", "relu", 0, True),
            ("fan_in", "softplus", 0, True),
            ("fan_in", "leaky_relu", "steep", True),
        ]
    ],
}


def views(dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """Tensors of every layout that torch fills: in memory order where that is dense, by strides where it is not."""
    for shape in [(3, 4), (5, 7), (33, 65), (2, 3, 4, 5), (6, 5, 1, 7), (1, 16), (16, 1)]:
        for layout in LAYOUTS.values():
            yield layout(*shape, dtype=dtype)
    memory = torch.empty(6000, dtype=dtype)
    yield memory[:1].view(())
    yield memory[1:8]
    yield memory[1:18]
    yield memory[3:1003:3]
    yield memory[5:1029].view(32, 32).t()
    yield memory[:4900].view(70, 70)[3:69:2, 1:68:3]
    yield memory[:4900].view(70, 70)[:, 69:]
    yield memory[:720].view(4, 6, 30).permute(2, 0, 1)
    yield memory[:720].view(4, 6, 30).permute(1, 2, 0)[1:, ::3]
    yield memory[:1296].view(6, 6, 6, 6)[::2, :, 1:4].permute(3, 1, 0, 2)
    yield memory.as_strided((1, 17, 1), (5, 1, 999))  # strides of dimensions of one element mean nothing
    yield memory.as_strided((1, 17, 3, 1), (1, 3, 1, 0))
    yield memory.as_strided((5, 1, 4), (1, 0, 5))
    yield memory.as_strided((7, 1, 4), (11, 3, 2))
    yield memory.as_strided((4, 4), (4, 4), 2)[::4, 1:]  # two dimensions of equal strides, one of one element
    yield torch.empty(2, 5, 4, 6, dtype=dtype).to(memory_format=torch.channels_last)
    yield torch.empty(2, 3, 4, 5, 6, dtype=dtype).to(memory_format=torch.channels_last_3d)
    yield torch.empty(2, 8, 4, 6, dtype=dtype).to(memory_format=torch.channels_last)[:, 1::2]
    yield torch.empty(5, 0, 3, dtype=dtype).transpose(0, 2)
    yield torch.empty(517, 129, dtype=dtype).t()[1:]
    yield torch.empty(129, 517, dtype=dtype).t()


def small_tensors(dtype: torch.dtype) -> Iterator[torch.Tensor]:
    """One for each of torch's ways to go: in blocks of 16, with a rest, element by element, across strides."""
    for n in (1, 7, 16, 40, 700):
        yield torch.empty(n, dtype=dtype)
    yield torch.empty(9, 5, dtype=dtype).t()
    yield torch.empty(9, 5, dtype=dtype)[:, ::2]
