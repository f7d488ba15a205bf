"""Models cut over ranks: their checkpoints, fastinit's and torch.distributed's, hold the bytes of the whole."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import gloo
import pytest
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from small_model import RECIPE, Small, on_meta
from test_save_together import content, fails_on
from torch import Tensor, nn
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_model_state_dict
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate, distribute_tensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

import fastinit
from fastinit import Recipe, Rule, init_model_, save_checkpoint

load_file = pytest.importorskip("safetensors.torch").load_file

RANKS = 4
SHARD = 150  # bytes, for several files


def halves_(tensor: Tensor) -> None:
    tensor.copy_(torch.arange(tensor.numel()).reshape(tensor.shape) / 2)


CALLED = Recipe([Rule(halves_, names="head.weight")]) + RECIPE
KEPT = Recipe([Rule(fastinit.keep, names="head.weight")]) + RECIPE


def seeded() -> Small:
    torch.manual_seed(0)
    return Small()


def save(model: nn.Module, folder: Path, recipe: Recipe = RECIPE, together: bool = True) -> None:
    group = dist.group.WORLD if together else None
    save_checkpoint(model, recipe, folder, key=1, max_shard_size=SHARD, buffers="reset", process_group=group)


def tensors(folder: Path) -> dict[str, Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def meshes() -> tuple[DeviceMesh, DeviceMesh]:
    return init_device_mesh("cpu", (4,)), init_device_mesh("cpu", (2, 2), mesh_dim_names=("data", "tensor"))


def fsdp(model: Small) -> Small:
    line, _ = meshes()
    fully_shard(model.body, mesh=line)
    fully_shard(model, mesh=line)
    return model


def fsdp_and_tensor_parallel(model: Small) -> Small:
    _, square = meshes()
    cut = {"embedding": RowwiseParallel(), "body.0": ColwiseParallel(), "head": ColwiseParallel()}
    parallelize_module(model, square["tensor"], cut)
    fully_shard(model, mesh=square["data"])
    return model


def cuts() -> dict[str, Callable[[Small], Small]]:
    return {"fsdp": fsdp, "fsdp and tensor parallel": fsdp_and_tensor_parallel}


def is_cut(model: nn.Module) -> None:
    assert any(isinstance(one, DTensor) and one.to_local().numel() < one.numel() for one in model.parameters())


# What every rank runs: a folder of its own, and that with the references.


def saved_from_the_meta_device(folder: Path, reference: Path) -> None:
    for name, cut in cuts().items():
        model = cut(on_meta())
        is_cut(model)
        save(model, folder / name)
        assert content(folder / name) == content(reference / "whole")
        assert all(one.is_meta for one in model.parameters())


def saved_from_memory(folder: Path, reference: Path) -> None:
    for name, cut in cuts().items():
        model = cut(seeded())
        before = {name: one.to_local().clone() for name, one in model.named_parameters() if isinstance(one, DTensor)}
        is_cut(model)
        save(model, folder / name)
        assert content(folder / name) == content(reference / "whole")
        after = dict(model.named_parameters())
        assert all(torch.equal(after[name].to_local(), local) for name, local in before.items())


def saved_by_one_rank(folder: Path, reference: Path) -> None:
    """No other rank has to take part."""
    model = fsdp(on_meta())
    if dist.get_rank() == 1:
        save(model, folder, together=False)
        assert content(folder) == content(reference / "whole")


def saved_by_torch(folder: Path, reference: Path) -> None:
    expected = tensors(reference / "whole")
    for name, cut in cuts().items():
        model = cut(on_meta())
        init_model_(model, RECIPE, key=1, buffers="reset")
        dcp.save(get_model_state_dict(model), checkpoint_id=folder / name)
        plain = {name: torch.full_like(tensor, -7) for name, tensor in expected.items()}
        dcp.load(plain, checkpoint_id=folder / name)
        same(plain, expected)
        if dist.get_rank() == 0:
            dcp_to_torch_save(folder / name, folder / f"{name}.pt")
            same(torch.load(folder / f"{name}.pt"), expected)
        dist.barrier()


def same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        assert got[name].dtype == tensor.dtype and torch.equal(got[name], tensor), name


def read_back(folder: Path, reference: Path) -> None:
    source = fastinit.from_checkpoint(reference / "whole")
    recipe = Recipe([Rule(source), Rule(source, buffers="*")])
    for build in (on_meta, seeded):
        for cut in cuts().values():
            model = cut(build())
            init_model_(model, recipe)
            is_cut(model)
            state = {
                name: one.full_tensor() if isinstance(one, DTensor) else one
                for name, one in get_model_state_dict(model).items()
            }
            same(state, tensors(reference / "whole"))


def called(folder: Path, reference: Path) -> None:
    save(fsdp(on_meta()), folder, CALLED)
    assert content(folder) == content(reference / "called")


def values_of_other_ranks(folder: Path, reference: Path) -> None:
    for recipe in (KEPT, CALLED):
        # Every rank says so itself.
        with pytest.raises(
            ValueError, match=r"'head\.weight' is cut over ranks, as \[Shard.*torch\.distributed\.checkpoint"
        ):
            save(fsdp(seeded()), folder, recipe)
    assert not folder.exists()


def kept_copies(folder: Path, reference: Path) -> None:
    for name, recipe in (("kept", KEPT), ("called", CALLED)):
        model = seeded()
        line, _ = meshes()
        model.head.weight = nn.Parameter(distribute_tensor(model.head.weight.detach(), line, [Replicate()]))
        save(model, folder / name, recipe)
        assert content(folder / name) == content(reference / name)


def other_values_on_one_rank(folder: Path, reference: Path) -> None:
    model = seeded()
    if dist.get_rank() == 2:
        model.head.weight.data[0, 0] = 7
    fails_on(2, ValueError, r"tensor head\.weight kept:", lambda: save(model, folder, KEPT))


CASES = [
    saved_from_the_meta_device,
    saved_from_memory,
    saved_by_one_rank,
    saved_by_torch,
    read_back,
    called,
    values_of_other_ranks,
    kept_copies,
    other_values_on_one_rank,
]


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sharded")
    for name, recipe in (("whole", RECIPE), ("kept", KEPT), ("called", CALLED)):
        save(seeded(), root / name, recipe, together=False)
    return root


@pytest.fixture(scope="module")
def said(reference: Path) -> dict[str, str]:
    return gloo.run(RANKS, [_at(case, reference) for case in CASES])


def _at(case: Callable[[Path, Path], None], root: Path) -> Callable[[], None]:
    bound = partial(case, root / case.__name__, root)
    bound.__dict__["__name__"] = case.__name__
    return bound


@pytest.mark.parametrize("case", [case.__name__ for case in CASES])
def test_of_a_model_cut_over_four_ranks(said: dict[str, str], case: str) -> None:
    assert said[case] == ""


def test_the_stages_of_a_pipeline_are_saved_under_the_names_of_the_whole(tmp_path: Path) -> None:
    whole = seeded()
    save(whole, tmp_path / "whole", together=False)
    expected = tensors(tmp_path / "whole")
    stages = {
        "one": (whole.body, "body"),
        "two": (nn.Sequential(whole.embedding, whole.head), {"0": "embedding", "1": "head"}),
        "three": (nn.ModuleDict({"conv": whole.conv, "norm": whole.norm}), ""),
    }
    got: dict[str, Tensor] = {}
    for name, (stage, prefix) in stages.items():
        save_checkpoint(stage, RECIPE, tmp_path / name, key=1, prefix=prefix)
        held = tensors(tmp_path / name)
        assert held.keys().isdisjoint(got)
        got |= held
    same(got, expected)
