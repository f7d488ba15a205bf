"""A checkpoint holds what init_model_ gives in memory, in Hugging Face's layout, and needs little memory."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from small_model import RECIPE, Small, tied_model
from torch import Tensor, nn

import fastinit
from fastinit import Key, Part, Recipe, RecipeError, Rule, init_model_, keep, padding_row, save_checkpoint
from fastinit.checkpoint import manifest, shards, writer


def loaded(folder: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, read by safetensors as its index says."""
    index = folder / "model.safetensors.index.json"
    if not index.exists():
        return load_file(folder / "model.safetensors")
    tensors: dict[str, Tensor] = {}
    weight_map = json.loads(index.read_text())["weight_map"]
    for file in sorted(set(weight_map.values())):
        held = load_file(folder / file)
        assert set(held) == {name for name, where in weight_map.items() if where == file}
        tensors |= held
    assert set(tensors) == set(weight_map)
    return tensors


def same_bits(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        tensor.dtype == other[name].dtype
        and tensor.shape == other[name].shape
        and torch.equal(tensor.reshape(-1).view(torch.uint8), other[name].reshape(-1).view(torch.uint8))
        for name, tensor in one.items()
    )


def shifted_(tensor: Tensor, by: float) -> None:
    tensor.normal_().add_(by)


class Varied(nn.Module):
    """Every kind of law: elementwise, by rows, made in one piece, a callable's, parts, and what is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.elementwise = nn.Linear(37, 41)
        self.eye = nn.Linear(19, 23, bias=False)
        self.dirac = nn.Conv1d(7, 9, 3, bias=False)
        self.orthogonal = nn.Linear(17, 29, bias=False)
        self.sparse = nn.Linear(31, 13, bias=False)
        self.called = nn.Linear(11, 3, bias=False)
        self.embedding = nn.Embedding(15, 8, padding_idx=4)
        self.kept = nn.Linear(5, 6, bias=False)
        self.kept_in_part = nn.Linear(7, 11, bias=False)
        self.norm = nn.BatchNorm1d(5)
        self.register_buffer("mask", torch.tensor([True, False, True]))
        self.register_buffer("left_out", torch.ones(3), persistent=False)


VARIED = Recipe([
    Rule(fastinit.normal_, names="elementwise.weight", std=0.02),
    Rule(fastinit.uniform_, names="elementwise.bias", a=-1.0),
    Rule(fastinit.eye_, names="eye.*"),
    Rule(fastinit.dirac_, names="dirac.*"),
    Rule(fastinit.orthogonal_, names="orthogonal.*"),
    Rule(fastinit.sparse_, names="sparse.*", sparsity=0.3),
    Rule(shifted_, names="called.*", by=2.0),
    Rule(fastinit.trunc_normal_, types=nn.Embedding, parts=Part(fastinit.zeros_, at=padding_row)),
    Rule(keep, names="kept.*"),
    Rule(keep, names="kept_in_part.*", parts=(Part(fastinit.normal_, slice(2, 9)), Part(fastinit.ones_, (10, 3)))),
    Rule(fastinit.ones_, types=nn.BatchNorm1d, params="weight"),
    Rule(fastinit.zeros_, params="bias"),
])  # fmt: skip


@pytest.mark.parametrize("max_shard_size", [1, 1000, "5KB", "5GB"])
@pytest.mark.parametrize("buffer", [64, 1000, 2**26])
def test_it_holds_what_init_model_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, max_shard_size: int | str, buffer: int
) -> None:
    monkeypatch.setattr(writer, "_BUFFER", buffer)  # a small one cuts tensors into many pieces
    monkeypatch.setattr(manifest, "_PIECE", buffer)
    model = Varied()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    save_checkpoint(model, VARIED, tmp_path, key=5, max_shard_size=max_shard_size)
    assert same_bits(dict(model.state_dict()), before)
    init_model_(model, VARIED, key=5)
    assert same_bits(loaded(tmp_path), dict(model.state_dict()))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64, torch.float8_e4m3fn, None])
def test_a_model_on_meta_in_any_type(tmp_path: Path, dtype: torch.dtype | None) -> None:
    recipe = Recipe([Rule(fastinit.normal_, params="weight"), Rule(fastinit.zeros_, params="bias")])
    with torch.device("meta"):
        models = [nn.Sequential(nn.Linear(5, 7), nn.LayerNorm(7)) for _ in range(2)]
    save_checkpoint(models[0], recipe, tmp_path, key=Key(1, 2), dtype=dtype)
    assert all(parameter.is_meta for parameter in models[0].parameters())
    init_model_(models[1], recipe, Key(1, 2), device="cpu", dtype=dtype)
    assert same_bits(loaded(tmp_path), dict(models[1].state_dict()))


def test_a_model_in_memory_is_written_in_another_type_and_stays_as_it_is(tmp_path: Path) -> None:
    model = Small()
    save_checkpoint(model, RECIPE, tmp_path, dtype=torch.bfloat16, strict=True)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    held = loaded(tmp_path)
    half = Small().bfloat16()
    init_model_(half, RECIPE)
    assert same_bits({n: held[n] for n, _ in half.named_parameters()}, {n: p.data for n, p in half.named_parameters()})


def test_tied_weights_are_written_once_under_the_first_of_their_names(tmp_path: Path) -> None:
    model = tied_model()
    save_checkpoint(model, RECIPE, tmp_path, key=2)
    init_model_(model, RECIPE, key=2)
    expected = dict(model.state_dict())
    del expected["head.weight"]
    assert same_bits(loaded(tmp_path), expected)
    tied = {one["name"]: one["tied"] for one in json.loads((tmp_path / "fastinit.json").read_text())["tensors"]}
    assert tied["embedding.weight"] == ["head.weight"]


def test_names_are_canonical(tmp_path: Path) -> None:
    save_checkpoint(torch.compile(Small()), RECIPE, tmp_path)
    assert set(loaded(tmp_path)) == set(Small().state_dict())


@pytest.mark.parametrize("max_shard_size", ["5GB", 10])
def test_every_type_of_safetensors_is_held(tmp_path: Path, max_shard_size: str | int) -> None:
    torch.manual_seed(0)
    model = nn.Module()
    for number, dtype in enumerate(shards.DTYPES):  # odd sizes, narrow types before wide ones
        tensor = torch.randint(0, 2, (3, 2 * number + 1)).to(torch.uint8 if dtype == torch.float8_e8m0fnu else dtype)
        model.register_buffer(f"b{100 - number}", tensor.view(dtype))
    model.register_buffer("scalar", torch.tensor(3.5, dtype=torch.float64))
    model.register_buffer("empty", torch.zeros(0, 3))
    save_checkpoint(model, Recipe([]), tmp_path, max_shard_size=max_shard_size)
    if max_shard_size == "5GB":
        with safe_open(tmp_path / "model.safetensors", "pt") as file:
            held = {name: file.get_tensor(name) for name in model.state_dict()}
            assert file.metadata() == {"format": "pt"}
        assert same_bits(held, dict(model.state_dict()))
    else:
        assert len(list(tmp_path.glob("*.safetensors"))) > 10


def test_a_type_that_safetensors_does_not_hold_is_an_error(tmp_path: Path) -> None:
    model = nn.Module()
    model.register_buffer("b", torch.zeros(3, dtype=torch.complex128))
    with pytest.raises(ValueError, match=r"tensor 'b' is torch.complex128, which safetensors"):
        save_checkpoint(model, Recipe([]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_tensor_of_meta_without_values_is_an_error_before_anything_is_written(tmp_path: Path) -> None:
    with torch.device("meta"):
        model = Small()
    with pytest.raises(RecipeError, match=r"conv\.weight"):
        save_checkpoint(model, Recipe([]), tmp_path / "out", buffers="reset")
    with pytest.raises(ValueError, match=r"'conv\.weight' is on the meta device"):
        save_checkpoint(model, Recipe([]), tmp_path / "out", strict=False, buffers="reset")
    assert not (tmp_path / "out").exists()


# Layout


def test_tensors_are_spread_as_hugging_face_spreads_them() -> None:
    hub = pytest.importorskip("huggingface_hub")
    rng = random.Random(0)
    sharded = 0
    for _ in range(200):
        sizes = [rng.randrange(1, 40) for _ in range(rng.randrange(1, 30))]
        most = rng.randrange(1, 120)
        state = {f"t{number}": torch.zeros(size, dtype=torch.uint8) for number, size in enumerate(sizes)}
        theirs = hub.split_torch_state_dict_into_shards(
            state, filename_pattern="model{suffix}.safetensors", max_shard_size=most
        )
        specs = [shards.TensorSpec(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in state.items()]
        ours = shards.layout(specs, most)
        assert {one.file: [tensor.name for tensor in one.tensors] for one in ours} == theirs.filename_to_tensors
        if theirs.is_sharded:
            sharded += 1
            index = json.loads(shards.index_of(ours))
            assert index["metadata"]["total_size"] == theirs.metadata["total_size"]
            assert index["weight_map"] == theirs.tensor_to_filename
    assert sharded > 100


def test_sizes_are_read_as_hugging_face_reads_them() -> None:
    base = pytest.importorskip("huggingface_hub.serialization._base")
    for size in ("5GB", "1.5MB", "10kb", " 3 TB ", "0.5gb"):
        assert shards.parse_size(size) == base.parse_size_to_int(size)
    assert [shards.parse_size(size) for size in ("5GB", "2GiB", "1KiB", 7)] == [5 * 10**9, 2 * 2**30, 1024, 7]


@pytest.mark.parametrize("size", ["", "5", "GB", "5 XB", "-5GB", "five GB", "0GB", 0, -1, 1.5, True, None, b"5GB"])
def test_a_wrong_size_is_an_error_before_anything_is_written(tmp_path: Path, size: Any) -> None:
    with pytest.raises(ValueError, match="max_shard_size must be a number of bytes of at least 1, or a string") as said:
        save_checkpoint(Small(), RECIPE, tmp_path / "out", max_shard_size=size)
    assert repr(size) in str(said.value)
    assert not (tmp_path / "out").exists()


def test_data_begins_at_a_multiple_of_8_and_every_element_of_its_size(tmp_path: Path) -> None:
    model = nn.Module()
    for number, dtype in enumerate([torch.uint8, torch.float64, torch.bfloat16, torch.float32, torch.bool]):
        model.register_buffer(f"b{number}", torch.ones(3, dtype=dtype))
    save_checkpoint(model, Recipe([]), tmp_path)
    content = (tmp_path / "model.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    assert header.pop("__metadata__") == {"format": "pt"}
    for name, one in header.items():
        assert one["data_offsets"][0] % dict(model.named_buffers())[name].itemsize == 0
    assert max(one["data_offsets"][1] for one in header.values()) == len(content) - 8 - length


def test_fastinit_json_says_the_law_of_every_tensor(tmp_path: Path) -> None:
    model = Varied()
    report = save_checkpoint(model, VARIED, tmp_path, key=Key(3, 4))
    about = json.loads((tmp_path / "fastinit.json").read_text())
    assert about["key"] == {"seed": 3, "offset": 4}
    assert about["fastinit"] == fastinit.__version__
    assert about["torch"] == torch.__version__
    tensors = {one["name"]: one for one in about["tensors"]}
    assert list(tensors) == [name for name, _ in model.named_parameters()] + [
        name for name, _ in model.named_buffers() if name != "left_out"
    ]
    for row in report.rows:
        one = tensors[row.name]
        assert (tuple(one["shape"]), f"torch.{one['dtype']}") == (tuple(row.shape), str(row.dtype))
        assert one["law"] == (row.law and {"kind": row.law.kind, "numbers": list(row.law.numbers)})
        assert one["file"] == "model.safetensors"
    called = tensors["called.weight"]["called"]
    assert called["function"].split()[0] == f"{__name__}.shifted_"
    assert called["kwargs"] == {"by": "2.0"}
    (part,) = tensors["embedding.weight"]["parts"]
    assert part["index"] == [4]
    assert part["law"]["kind"] == "constant"


# transformers


def llama(**settings: Any) -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=97, hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, **settings,
    )  # fmt: skip
    return transformers.LlamaForCausalLM, config


LLAMA = Recipe([
    Rule(fastinit.normal_, types=(nn.Linear, nn.Embedding), std=0.02),
    Rule(fastinit.ones_, names="*norm.weight"),
])  # fmt: skip


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("max_shard_size", ["5GB", "20KB"])
def test_from_pretrained_gives_what_init_model_gives(
    tmp_path: Path, tied: bool, dtype: torch.dtype, max_shard_size: str
) -> None:
    kind, config = llama(tie_word_embeddings=tied)
    with torch.device("meta"):
        model = kind(config)
    save_checkpoint(model, LLAMA, tmp_path, key=9, dtype=dtype, max_shard_size=max_shard_size, buffers="reset")
    config.save_pretrained(tmp_path)
    read, info = kind.from_pretrained(tmp_path, dtype=dtype, output_loading_info=True)
    assert not any(info.values())  # nothing missing, unexpected, mismatched
    filled = kind(config).to(dtype)
    init_model_(filled, LLAMA, key=9)
    assert same_bits(dict(read.state_dict()), dict(filled.state_dict()))
    if tied:
        assert read.lm_head.weight is read.model.embed_tokens.weight
    assert (tmp_path / "model.safetensors").exists() == (max_shard_size == "5GB")


# Progress and memory


def test_progress_counts_the_bytes_of_this_run(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    save_checkpoint(
        Small(), RECIPE, tmp_path, max_shard_size=500, progress=lambda done, total: seen.append((done, total))
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {total for _, total in seen} == {seen[-1][0]}
    assert seen[-1][0] == sum(path.stat().st_size for path in tmp_path.glob("*.safetensors"))
    seen.clear()
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    save_checkpoint(
        Small(), RECIPE, tmp_path, max_shard_size=500, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1] == ((tmp_path / "model-00002-of-00003.safetensors").stat().st_size,) * 2


def test_the_bar_is_drawn_on_a_terminal_only(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    save_checkpoint(Small(), RECIPE, tmp_path, progress=True)
    assert capfd.readouterr() == ("", "")


def test_the_bar_without_rich_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    with pytest.raises(ImportError, match=r"pip install 'torch-fastinit\[models\]'"):
        save_checkpoint(Small(), RECIPE, tmp_path, progress=True)
    assert not list(tmp_path.iterdir())


_MEASURED = """
import sys
import torch
from torch import nn
import fastinit

def peak():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]) * 1024

recipe = fastinit.Recipe([fastinit.Rule(fastinit.normal_, std=0.02)])
with torch.device("meta"):
    small, large = nn.Linear(8, 8), nn.Sequential(*[nn.Linear(16384, 8192, bias=False) for _ in range(3)])
fastinit.save_checkpoint(small, recipe, sys.argv[1] + "/small")
before = peak()
fastinit.save_checkpoint(large, recipe, sys.argv[1] + "/large")
print(peak() - before)
"""


@pytest.mark.slow
def test_the_peak_of_memory_does_not_grow_with_the_checkpoint(tmp_path: Path) -> None:
    finished = subprocess.run([sys.executable, "-c", _MEASURED, str(tmp_path)], capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert (tmp_path / "large" / "model.safetensors").stat().st_size > 1.6e9
    assert int(finished.stdout) < 200e6  # two buffers of 64 MiB, and little beside them
