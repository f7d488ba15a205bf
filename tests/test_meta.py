"""Models on the meta device: memory and values in one pass, and an ordinary model afterwards."""

import copy
import io
import pickle
import re
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from small_model import RECIPE, Small, on_meta, same, tied_model, values
from torch import Tensor, nn

import fastinit
from fastinit import _C, Key, Part, Recipe, RecipeError, Rule, chunk, init_model_, keep, normal_, orthogonal_, zeros_
from fastinit.materialise import new_tensor

HUGE_PAGE = 2**21


def filled(model: nn.Module, recipe: Recipe = RECIPE, **given: Any) -> Any:
    init_model_(model, recipe, key=7, buffers="reset", **given)
    return model


def test_values_are_those_of_the_same_model_in_memory() -> None:
    model = filled(on_meta())
    assert not any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))
    assert same(values(model), values(filled(Small())))
    assert torch.equal(model.norm.running_var, torch.ones(8))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_is_that_of_floating_parameters_and_values_are_rounded_once(dtype: torch.dtype) -> None:
    model = on_meta()
    model.count = nn.Parameter(torch.empty(3, dtype=torch.int64, device="meta"), requires_grad=False)
    recipe = RECIPE + Recipe([Rule(fastinit.ones_, params="count")])
    report = init_model_(model, recipe, key=7, dtype=dtype, buffers="reset")
    expected = Small()
    expected.to(dtype)
    init_model_(expected, RECIPE, key=7)
    assert model.count.tolist() == [1, 1, 1]
    for name, parameter in expected.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter), name
    assert {row.dtype for row in report.rows if not row.buffer} == {dtype, torch.int64}
    assert model.norm.running_mean.dtype is torch.float32


def test_dtype_for_a_parameter_that_has_memory_is_refused_before_anything_is_written() -> None:
    model = on_meta()
    model.head = nn.Linear(6, 5)
    before = values(model.head)
    with pytest.raises(RecipeError, match=r"'head.weight' has memory, of torch.float32.*model.to\(torch.bfloat16\)"):
        init_model_(model, RECIPE, dtype=torch.bfloat16, buffers="reset")
    assert model.conv.weight.is_meta
    assert same(values(model.head), before)


@pytest.mark.parametrize("dtype", [torch.int8, "float32", float])
def test_a_dtype_that_is_none_is_refused(dtype: Any) -> None:
    with pytest.raises(ValueError, match=r"dtype must be a floating-point torch.dtype, got"):
        init_model_(on_meta(), RECIPE, dtype=dtype)


@pytest.mark.parametrize(
    ("device", "message"),
    [
        ("mps", "device must be 'cpu' or a CUDA device, got 'mps'"),
        ("cuda:99", r"device must be one that torch finds, got 'cuda:99': it finds \d+ CUDA devices"),
    ],
)
def test_other_devices_are_refused_before_anything_is_made(device: str, message: str) -> None:
    model = on_meta()
    with pytest.raises(ValueError, match=message):
        init_model_(model, RECIPE, device=device, buffers="reset")
    assert model.conv.weight.is_meta
    assert not filled(model, device="cpu").conv.weight.is_meta


def test_a_refused_rule_leaves_the_whole_model_on_meta() -> None:
    model = on_meta()
    with pytest.raises(RecipeError, match=r"'head.weight'.*std"):
        filled(model, Recipe([Rule(normal_, names="head.weight", std=-1.0), *RECIPE.rules]))
    assert all(tensor.is_meta for tensor in (*model.parameters(), *model.buffers()))


# What stays


def test_requires_grad_class_attributes_and_training_mode_stay() -> None:
    class Scaled(nn.Parameter):
        pass

    model = on_meta().eval()
    model.conv.weight.requires_grad_(False)
    model.head.weight = Scaled(model.head.weight.detach(), requires_grad=False)
    model.head.weight.layer_scale = 0.5
    filled(model)
    assert [name for name, one in model.named_parameters() if not one.requires_grad] == ["conv.weight", "head.weight"]
    assert type(model.head.weight) is Scaled
    assert model.head.weight.layer_scale == 0.5
    assert type(model.conv.weight) is nn.Parameter
    assert not model.training


def test_tied_parameters_stay_one_object_under_every_name() -> None:
    model = on_meta(tied_model)
    model.again = model.head
    report = init_model_(model, RECIPE, key=7, buffers="reset")
    assert model.head.weight is model.embedding.weight is model.again.weight
    assert next(row for row in report.rows if row.name == "embedding.weight").tied == ("head.weight", "again.weight")
    assert same(values(model), values(filled(tied_model())))


@pytest.mark.parametrize("shape", [(6, 4), (24,), (2, 12)])
def test_parameters_tied_by_storage_share_one_afterwards(shape: tuple[int, ...]) -> None:
    weight = torch.empty(6, 4, device="meta")
    model = nn.ParameterList([nn.Parameter(weight), nn.Parameter(weight.view(shape), requires_grad=False)])
    report = init_model_(model, Recipe([Rule(normal_)]), key=1)
    assert [(row.name, row.tied) for row in report.rows] == [("0", ("1",))]
    assert model[1].shape == shape
    assert model[0].data_ptr() == model[1].data_ptr()
    assert torch.equal(model[1].view(6, 4), model[0])
    assert [one.requires_grad for one in model] == [True, False]


def test_parameters_that_overlap_on_meta_are_refused() -> None:
    weight = torch.empty(6, 4, device="meta")
    model = nn.ParameterList([nn.Parameter(weight), nn.Parameter(weight[1:])])
    with pytest.raises(RecipeError, match="'0' and '1'"):
        init_model_(model, Recipe([Rule(normal_)]))


def test_layouts_stay() -> None:
    model = on_meta(lambda: nn.Conv2d(3, 8, 3)).to(memory_format=torch.channels_last)
    strides = model.weight.stride()
    recipe = Recipe([Rule(normal_)])
    init_model_(model, recipe)
    assert model.weight.stride() == strides
    plain = nn.Conv2d(3, 8, 3)
    init_model_(plain, recipe)
    assert torch.equal(model.weight, plain.weight)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_use_their_new_weights(kind: type[nn.RNNBase]) -> None:
    recipe = Recipe([Rule(normal_, std=0.1)])
    one, other = on_meta(lambda: kind(4, 5, num_layers=2, bidirectional=True)), kind(4, 5, 2, bidirectional=True)
    init_model_(one, recipe)
    init_model_(other, recipe)
    x = torch.ones(3, 4)
    assert torch.equal(one(x)[0], other(x)[0])
    one.weight_ih_l0.data.zero_()
    assert not torch.equal(one(x)[0], other(x)[0])


def test_parametrized_and_weight_normed_modules() -> None:
    recipe = Recipe([Rule(normal_, std=0.1)])
    models = []
    for device in ("meta", "cpu"):
        with torch.device(device):
            model = nn.utils.parametrizations.weight_norm(nn.Linear(4, 5))
        init_model_(model, recipe)
        models.append(model)
    assert "parametrizations.weight.original0" in dict(models[0].named_parameters())
    assert torch.equal(models[0].weight, models[1].weight)


# An ordinary model


def test_the_result_saves_loads_pickles_copies_moves_and_trains(tmp_path: Path) -> None:
    model = filled(on_meta(tied_model))
    expected = values(model)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    loaded = tied_model()
    loaded.load_state_dict(torch.load(tmp_path / "model.pt"))
    again = pickle.loads(pickle.dumps(model))
    for one in (loaded, again, copy.deepcopy(model)):
        assert same(values(one), expected)
        assert one.head.weight is one.embedding.weight
    assert same(values(model.to(torch.float64).to(torch.float32)), expected)
    before = model.head.weight.detach().clone()
    optimiser = torch.optim.SGD(model.parameters(), lr=1.0)
    model(torch.tensor([1, 2])).sum().backward()
    optimiser.step()
    assert not torch.equal(model.head.weight, before)


def test_large_parameters_save_share_resize_and_are_freed() -> None:
    model = on_meta(lambda: nn.Linear(1024, 1025, bias=False))  # of two huge pages and 4 KB
    init_model_(model, Recipe([Rule(normal_)]), key=3)
    expected = normal_(torch.empty(1025, 1024), generator=Key(3).fold_in("weight"))
    assert torch.equal(model.weight, expected)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    assert len(file.getvalue()) < expected.nbytes + 4096  # its own elements and nothing else
    file.seek(0)
    assert torch.equal(torch.load(file)["weight"], expected)
    model.share_memory()
    assert model.weight.is_shared()
    assert torch.equal(model.weight, expected)
    tensor = new_tensor(expected, torch.float32).copy_(expected)
    tensor.resize_(2050, 1024)
    assert torch.equal(tensor[:1025], expected)
    tensor.resize_(1, 5)
    assert torch.equal(tensor[0], expected[0, :5])


def resident(address: int) -> int:
    """Return the kilobytes resident in the mapping that holds the address."""
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("Rss:"):
            return int(line.split()[1])
    return 0


def huge(address: int) -> tuple[bool, int]:
    """Say whether the mapping that holds the address is advised huge pages, and how many KB of it are in them."""
    inside, kilobytes = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("AnonHugePages:"):
            kilobytes = int(line.split()[1])
        elif inside and line.startswith("VmFlags:"):
            return "hg" in line.split(), kilobytes
    return False, 0


def test_large_tensors_lie_in_huge_pages_untouched_until_they_are_written() -> None:
    modes = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    if not modes.is_file() or "[never]" in modes.read_text():
        pytest.skip("this kernel has no transparent huge pages")
    like = torch.empty(8, 2**20, device="meta")
    tensor = new_tensor(like, torch.float32)
    address = tensor.data_ptr()
    assert address % HUGE_PAGE == 0
    assert resident(address) == 0
    normal_(tensor, generator=Key(0))
    advised, kilobytes = huge(address)
    assert advised
    assert kilobytes > 0  # all 32 MB where the machine has them free
    small = new_tensor(torch.empty(1000, device="meta"), torch.float32)
    # Ordinary memory: its mapping may be advised, since NumPy advises parts of the heap, but it does not begin one.
    assert small.data_ptr() % HUGE_PAGE != 0
    del tensor
    assert resident(address) == 0  # given back


def test_memory_that_is_not_to_be_had_is_torchs_own_error() -> None:
    with pytest.raises(RuntimeError, match="can't allocate memory"):
        _C.new_tensor([2**60], [1], torch.uint8)


# Keys


def test_where_the_default_device_is_meta_too() -> None:
    gates = [Part(orthogonal_, chunk(i, 4)) for i in range(4)]
    with torch.device("meta"):
        model, lstm = filled(Small()), nn.LSTM(4, 5)
        init_model_(lstm, Recipe([Rule(keep, params="weight_*", parts=gates), Rule(zeros_)]))
    assert same(values(model), values(filled(Small())))
    assert torch.equal(model.norm.running_var, torch.ones(8))
    assert not lstm.weight_ih_l0.is_meta


def test_order_of_registration_threads_and_wrappers_change_nothing() -> None:
    expected = values(filled(on_meta()))
    reversed_ = on_meta()
    reversed_._modules = dict(reversed(reversed_._modules.items()))
    assert same(dict(sorted(values(filled(reversed_)).items())), dict(sorted(expected.items())))
    inner = on_meta()
    filled(torch.compile(inner))
    assert same(values(inner), expected)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert same(values(filled(on_meta())), expected)
    finally:
        torch.set_num_threads(threads)
    other = on_meta()
    worker = threading.Thread(target=filled, args=(other,))
    worker.start()
    worker.join()
    assert same(values(other), expected)


def test_a_model_made_in_inference_mode_trains_outside_of_it() -> None:
    model = on_meta(lambda: nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5)))
    with torch.inference_mode():
        init_model_(model, Recipe([Rule(normal_)]), buffers="reset")
    assert not any(tensor.is_inference() for tensor in (*model.parameters(), *model.buffers()))
    model(torch.ones(2, 4)).sum().backward()
    assert model[0].weight.grad is not None


def test_a_callable_makes_tensors_with_values_under_a_default_device_of_meta() -> None:
    def mine(tensor: Tensor) -> None:
        tensor.copy_(torch.rand(tensor.shape))

    with torch.device("meta"):
        model = nn.Linear(3, 4)
        init_model_(model, Recipe([Rule(mine)]))
    expected = nn.Linear(3, 4)
    init_model_(expected, Recipe([Rule(mine)]))
    assert same(values(model), values(expected))


# Some of it


def test_only_makes_what_it_names_and_leaves_the_rest_on_meta() -> None:
    model = filled(on_meta(), only="head.*")
    assert [name for name, one in model.named_parameters() if not one.is_meta] == ["head.weight", "head.bias"]
    assert model.norm.running_mean.is_meta
    assert same(values(filled(model)), values(filled(Small())))  # and the rest later


def test_keep_and_unmatched_parameters_stay_on_meta() -> None:
    model = on_meta()
    init_model_(model, Recipe([Rule(keep, names="conv.*"), Rule(zeros_, names="head.*")]), strict=False)
    assert model.conv.weight.is_meta
    assert model.embedding.weight.is_meta
    assert not model.head.weight.any()


def test_parts_alone_must_cover_a_parameter_on_meta() -> None:
    def recipe(count: int) -> Recipe:
        gates = [Part(orthogonal_, chunk(i, 4)) for i in range(count)]
        return Recipe([Rule(keep, params="weight_*", parts=gates), Rule(zeros_)])

    model = on_meta(lambda: nn.LSTM(4, 5))
    with pytest.raises(RecipeError, match=r"weight_ih_l0.*keep has nothing to keep.*do not cover"):
        init_model_(model, recipe(3))
    assert model.weight_ih_l0.is_meta
    init_model_(model, recipe(4))
    gate = model.weight_hh_l0[5:10]
    torch.testing.assert_close(gate @ gate.T, torch.eye(5))


def test_a_callable_of_the_users_gets_a_tensor_with_memory() -> None:
    seen: list[Tensor] = []

    def mine(tensor: Tensor, scale: float) -> None:
        seen.append(tensor)
        tensor.uniform_(0, scale)

    models = [on_meta(), Small()]
    for model in models:
        init_model_(model, Recipe([Rule(mine, scale=2.0)]), key=1, buffers="reset")
    assert not any(tensor.is_meta for tensor in seen)
    assert same(values(models[0]), values(models[1]))


def test_an_interrupt_leaves_whole_parameters_and_the_rest_on_meta() -> None:
    class Stop(BaseException):
        pass

    def stop(tensor: Tensor) -> None:
        raise Stop

    model = on_meta()
    with pytest.raises(Stop):
        init_model_(model, Recipe([Rule(normal_, params="weight"), Rule(stop)]), buffers="reset")
    assert not model.conv.weight.is_meta
    assert model.conv.bias.is_meta
    assert same(values(filled(model)), values(filled(Small())))
