"""eye_ and dirac_: torch's bytes in every type and layout, natively in floating types, and as jobs of a plan."""

import itertools

import pytest
import torch
from cases import DTYPES, LAYOUTS, raw

import fastinit
from fastinit import Key, _ops, laws

OTHERS = [torch.int32, torch.bool, torch.complex64]  # which torch's own code writes
EYES = [(3, 5), (5, 3), (1, 1), (1, 7), (7, 1), (33, 33), (130, 301)]
DIRACS = [
    ((4, 4, 3), (1, 2, 4)),
    ((6, 2, 3, 3), (1, 2, 3, 6)),
    ((6, 3, 1, 1), (1, 2)),
    ((2, 8, 3, 5), (1, 2)),
    ((12, 4, 2, 3, 4), (1, 3, 12)),
    ((1, 1, 1), (1,)),
    ((64, 1, 3, 3), (1, 64)),
    ((96, 40, 4, 5), (1, 2, 8)),
]
CASES = [("eye_", shape, ()) for shape in EYES]
CASES += [("dirac_", shape, (groups,)) for shape, all_groups in DIRACS for groups in all_groups]


def both(name, make, arguments):
    ours, theirs = make(), make()
    for tensor in (ours, theirs):
        torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage()).fill_(1)
    assert getattr(fastinit, name)(ours, *arguments) is ours
    getattr(torch.nn.init, name)(theirs, *arguments)
    return ours, theirs


@pytest.mark.parametrize("dtype", [*DTYPES, *OTHERS], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_bytes_are_torch_s_and_nothing_else_is_written(layout, dtype):
    for name, shape, arguments in CASES:
        ours, theirs = both(name, lambda shape=shape: LAYOUTS[layout](*shape, dtype=dtype), arguments)
        memory = [raw(torch.empty(0, dtype=torch.uint8).set_(tensor.untyped_storage())) for tensor in (ours, theirs)]
        assert memory[0] == memory[1], (name, shape, arguments)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_order_of_the_dimensions(dtype):
    for name, shape, arguments in (("eye_", (6, 4), ()), ("dirac_", (6, 4, 3, 2), (3,)), ("dirac_", (4, 2, 3), (2,))):
        for order in itertools.permutations(range(len(shape))):

            def make(shape=shape, order=order):
                places = [order.index(d) for d in range(len(shape))]
                return torch.empty([shape[d] for d in order], dtype=dtype).permute(places)

            ours, theirs = both(name, make, arguments)
            assert raw(ours) == raw(theirs), order


def test_large_tensors_run_on_several_threads():
    for name, shape, arguments in (("eye_", (1500, 1200), ()), ("dirac_", (300, 310, 3, 3), (2,))):
        for order in ((0, 1, *range(2, len(shape))), (1, 0, *range(2, len(shape)))):
            ours, theirs = both(name, lambda s=shape, o=order: torch.empty([s[d] for d in o]).permute(o), arguments)
            assert raw(ours) == raw(theirs)


def test_floating_types_are_native_and_others_are_not(monkeypatch):
    def refused(*_arguments):
        raise AssertionError

    monkeypatch.setattr(torch.nn.init, "eye_", refused)
    monkeypatch.setattr(torch.nn.init, "dirac_", refused)
    for dtype in DTYPES:
        fastinit.eye_(torch.empty(3, 4, dtype=dtype))
        fastinit.dirac_(torch.empty(3, 4, 1, dtype=dtype))
    for dtype in OTHERS:
        with pytest.raises(AssertionError):
            fastinit.eye_(torch.empty(3, 4, dtype=dtype))


def outcome(function, make, *arguments):
    tensor = make()
    try:
        function(tensor, *arguments)
    except Exception as error:
        return type(error), str(error)
    node = type(tensor.grad_fn)
    return raw(tensor) if tensor.device.type == "cpu" else tensor.device, tensor.requires_grad, node


UNUSUAL = {
    "one dimension": lambda: torch.ones(3),
    "two": lambda: torch.ones(3, 4),
    "three": lambda: torch.ones(4, 3, 2),
    "six": lambda: torch.ones(1, 2, 1, 2, 1, 2),
    "empty": lambda: torch.ones(0, 4, 3),
    "an empty kernel": lambda: torch.ones(2, 2, 0),
    "meta": lambda: torch.ones(4, 3, 2, device="meta"),
    "a leaf": lambda: torch.ones(4, 3, 2, requires_grad=True),
    "a leaf of two": lambda: torch.ones(4, 3, requires_grad=True),
    "no leaf": lambda: torch.ones(4, 4, 2, requires_grad=True) * 2,
    "no leaf of two": lambda: torch.ones(4, 4, requires_grad=True) * 2,
    "a leaf's view": lambda: torch.ones(4, 4, requires_grad=True).t()[1:],
    "overlapping": lambda: torch.ones(1, 3).expand(3, 3),
    "compressed": lambda: torch.ones(4, 4).to_sparse(),
    "inference": lambda: torch.inference_mode()(torch.ones)(4, 4),
    "a subclass": lambda: torch.ones(4, 4).as_subclass(type("Plain", (torch.Tensor,), {})),
}


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_what_is_unusual_ends_as_in_torch(unusual):
    make = UNUSUAL[unusual]
    assert outcome(fastinit.eye_, make) == outcome(torch.nn.init.eye_, make)
    for groups in (1, 2, 3, 0, -1, 2.0, True, "1", None):
        ours = outcome(fastinit.dirac_, make, groups)
        assert ours == outcome(torch.nn.init.dirac_, make, groups), groups


def test_a_default_device_ends_as_in_torch():
    for device in ("cpu", "meta"):
        with torch.device(device):
            make = lambda: torch.ones(4, 4, device="cpu")  # noqa: E731
            assert outcome(fastinit.eye_, make) == outcome(torch.nn.init.eye_, make)


def test_the_version_grows():
    for name, shape in (("eye_", (3, 4)), ("dirac_", (3, 4, 5))):
        tensor = torch.empty(shape)
        getattr(fastinit, name)(tensor)
        assert tensor._version > 0


def test_neither_stream_draws():
    for stream in ("torch", "keyed"):
        with fastinit.stream(stream):
            state = torch.get_rng_state()
            assert fastinit.eye_(torch.empty(3, 3)).equal(torch.eye(3))
            fastinit.dirac_(torch.empty(3, 3, 3))
            assert torch.get_rng_state().equal(state)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_parts_are_parts_of_the_whole(layout):
    for name, shape, arguments in CASES:
        whole = getattr(torch.nn.init, name)(torch.empty(shape), *arguments)
        law = getattr(laws, name[:-1])(shape, *arguments)
        start = tuple(n // 3 for n in shape)
        size = tuple(max(1, n // 2) for n in shape)
        part = LAYOUTS[layout](*size, dtype=torch.float32).fill_(5)
        _ops.fill_([part], [law], [Key(0).shard(shape, start)])
        window = tuple(slice(s, s + n) for s, n in zip(start, size, strict=True))
        assert raw(part) == raw(whole[window]), (name, shape, arguments)


def test_many_at_once():
    tensors = [torch.empty(shape).fill_(5) for _, shape, _ in CASES for _ in range(20)]
    chosen = [getattr(laws, name[:-1])(shape, *rest) for name, shape, rest in CASES for _ in range(20)]
    _ops.fill_(tensors, chosen, [Key(0)] * len(tensors))
    for tensor, (name, shape, arguments) in zip(tensors, [case for case in CASES for _ in range(20)], strict=True):
        assert raw(tensor) == raw(getattr(torch.nn.init, name)(torch.empty(shape), *arguments))


@pytest.mark.parametrize("groups", [0, -1])
def test_the_law_refuses_groups_that_are_none(groups):
    with pytest.raises(ValueError, match="groups must be at least 1"):
        laws.dirac((4, 4, 4), groups)


@pytest.mark.parametrize(
    ("numbers", "message"), [((0.5,), "whole number"), ((0,), "whole number"), ((3,), "divisible")]
)
def test_the_op_refuses_groups_that_do_not_divide(numbers, message):
    tensor = torch.ones(4, 4, 4)
    with pytest.raises(ValueError, match=message):
        _ops.fill_([tensor], [laws.Law("dirac", (*numbers, 0.0, 0.0, 0.0))], [Key(0)])
    assert (tensor == 1).all()
