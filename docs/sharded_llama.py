"""A Llama cut over four processes: the weights of one process, to the last bit, and the same training.

    torchrun --nproc-per-node 4 docs/sharded_llama.py

Needs transformers and no GPU. The mesh is 2 x 2: FSDP2 over tensor parallel. Each process also has the uncut model, to
compare with: without `alone`, this is how a model of any size begins. Ends with status 1 if anything differs.
"""

import os
import sys

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Replicate
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from transformers import LlamaConfig, LlamaForCausalLM

import fastinit

CONFIG = LlamaConfig(
    vocab_size=1000, hidden_size=64, intermediate_size=176, num_hidden_layers=3,
    num_attention_heads=4, num_key_value_heads=2, tie_word_embeddings=False, use_cache=False,
)  # fmt: skip
# N(0, 0.02²), and the outputs onto the residual path smaller. Any recipe will do.
RECIPE = fastinit.recipes.llama(n_layer=CONFIG.num_hidden_layers)
KEY, STEPS, LEARNING_RATE = 0, 10, 3e-3
BOUND = 1e-5  # of losses: float32 sums in another order differ by some 1e-7 of themselves, and ten steps add to that


def on_meta() -> nn.Module:
    with torch.device("meta"):  # shapes alone, so that no process ever has the whole model
        return LlamaForCausalLM(CONFIG)


def cut(model: nn.Module, data: dist.DeviceMesh, tensor: dist.DeviceMesh) -> None:
    """Make the parameters DTensors, still on the meta device. Nothing here is fastinit's."""
    attention = {f"self_attn.{name}_proj": ColwiseParallel() for name in "qkv"}  # some of the heads
    block = {
        **attention,
        "self_attn.o_proj": RowwiseParallel(),
        "mlp.gate_proj": ColwiseParallel(),
        "mlp.up_proj": ColwiseParallel(),
        "mlp.down_proj": RowwiseParallel(),
    }
    ends = {
        "model.embed_tokens": RowwiseParallel(input_layouts=Replicate()),  # some of the vocabulary
        "lm_head": ColwiseParallel(output_layouts=Replicate()),
    }
    parallelize_module(model, tensor, ends)
    for layer in model.model.layers:
        parallelize_module(layer, tensor, block)
        fully_shard(layer, mesh=data)
    fully_shard(model, mesh=data)


def losses(model: nn.Module, batches: Tensor) -> list[Tensor]:
    # After init_model_, which gives a model of the meta device other Parameter objects. foreach would want all of them
    # on one mesh, and tensor parallel leaves the norms out of its.
    optimiser = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, foreach=False)
    found = []
    for batch in batches:
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()
        found.append(loss.detach())
    return found


def main() -> bool:
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("data", "tensor"))

    # Each process gives memory to its own shards alone and fills them: no process sends anything to another. Buffers
    # (of Llama the rotary frequencies) have no rule; the model's own code makes them.
    sharded = on_meta()
    cut(sharded, mesh["data"], mesh["tensor"])
    report = fastinit.init_model_(sharded, RECIPE, key=KEY, buffers="reset")

    # What one process would have. Same recipe, same key: names decide, and the mesh does not.
    alone = on_meta()
    fastinit.init_model_(alone, RECIPE, key=KEY, buffers="reset")

    whole = dict(alone.named_parameters())
    parts: dict[str, DTensor] = dict(sharded.named_parameters())
    assert parts.keys() == whole.keys()
    # full_tensor is torch's: it gathers the shards. Bytes, because a comparison of numbers has 0.0 equal to -0.0.
    same = {
        name: torch.equal(part.full_tensor().view(torch.uint8), whole[name].view(torch.uint8))
        for name, part in parts.items()
    }

    # Each half of the mesh along "data" has half of each batch; FSDP2 takes the mean of their gradients.
    starts = torch.randint(CONFIG.vocab_size, (STEPS, 8, 1), generator=torch.Generator().manual_seed(1))
    batches = (starts + torch.arange(64)) % CONFIG.vocab_size  # counting: something to be learnt
    mine = batches.chunk(mesh["data"].size(), 1)[mesh["data"].get_local_rank()]
    ours = torch.stack(losses(sharded, mine))
    dist.all_reduce(ours, group=mesh["data"].get_group())
    ours /= mesh["data"].size()
    theirs = torch.stack(losses(alone, batches))
    apart = ((ours - theirs) / theirs).abs()

    good = all(same.values()) and bool(apart.max() <= BOUND) and bool(theirs[-1] < theirs[0])
    everywhere = torch.tensor(good)
    dist.all_reduce(everywhere, op=dist.ReduceOp.MIN)
    if dist.get_rank() == 0:
        show(report, same, parts, ours, theirs)
    dist.destroy_process_group()
    return bool(everywhere)


def show(report: fastinit.InitReport, same: dict[str, bool], parts: dict[str, DTensor], *both: Tensor) -> None:
    print(f"{'parameter':50}{'whole':12}{'of it in process 0':20}{'as in one process'}")
    for row in report.rows:
        if row.name in same and ("layers" not in row.name or "layers.0" in row.name):  # the other layers look alike
            shapes = ["x".join(map(str, shape)) for shape in (row.shape, row.sharding.local_shape)]
            print(f"{row.name:50}{shapes[0]:12}{shapes[1]:20}{'every byte' if same[row.name] else 'DIFFERENT'}")
    held = sum(part.to_local().numel() for part in parts.values())
    print(f"{sum(same.values())} of {len(same)} parameters equal byte for byte")
    print(
        f"process 0 holds {held:,} of {sum(row.shape.numel() for row in report.rows if row.name in same):,} elements\n"
    )
    print(f"{'step':6}{'loss, four processes':>22}{'loss, one':>14}{'apart':>12}")
    for step, (ours, theirs) in enumerate(zip(*both, strict=True), 1):
        print(f"{step:<6}{ours:22.7f}{theirs:14.7f}{abs(ours - theirs) / theirs:12.1e}")


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    sys.exit(0 if main() else 1)
