"""param_groups: every trainable parameter in one group, by the selectors of rules, or an error that names it."""

import pytest
import torch
from small_model import Small, tied_model
from torch import nn

import fastinit
from fastinit import Group, RecipeError, no_decay_groups, param_groups


def names_in(model: nn.Module, group: dict) -> list[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [names[id(parameter)] for parameter in group["params"]]


def test_the_first_group_that_matches_takes_a_parameter() -> None:
    model = nn.ModuleDict({"body": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.PReLU()), "head": Small()})
    groups = param_groups(
        model,
        [
            Group(types=(nn.BatchNorm2d, nn.PReLU), weight_decay=0.0),
            Group(names="head.*", weight_decay=5e-3, lr=0.1),
            Group(weight_decay=5e-4),
        ],
    )
    assert [{k: v for k, v in group.items() if k != "params"} for group in groups] == [
        {"weight_decay": 0.0},
        {"weight_decay": 5e-3, "lr": 0.1},
        {"weight_decay": 5e-4},
    ]
    assert names_in(model, groups[0]) == [
        "body.1.weight", "body.1.bias", "body.2.weight", "head.norm.weight", "head.norm.bias"
    ]  # fmt: skip
    assert names_in(model, groups[2]) == ["body.0.weight", "body.0.bias"]
    taken = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(taken) == sorted(id(parameter) for parameter in model.parameters())


def test_selectors_are_those_of_rules() -> None:
    class Mine(nn.Linear):
        pass

    model = nn.ModuleDict({"a": Mine(2, 2), "b": nn.Conv1d(2, 2, 1), "c": nn.Bilinear(2, 2, 2)})
    groups = param_groups(model, [Group(types="Lin*", params="w*"), Group(types="torch.nn.*.Conv1d"), Group(names="*")])
    assert [names_in(model, group) for group in groups] == [
        ["a.weight"],
        ["b.weight", "b.bias"],
        ["a.bias", "c.weight", "c.bias"],
    ]
    with pytest.raises(RecipeError, match="types must be a class"):
        Group(types=3)  # type: ignore[arg-type]


def test_a_group_may_be_for_what_stands_inside_a_module() -> None:
    model = nn.ModuleDict({"layer": nn.TransformerEncoderLayer(4, 2, 8), "head": nn.Linear(4, 2)})
    inner, rest = param_groups(torch.compile(model), [Group(inside="*EncoderLayer", types=nn.Linear, lr=0.1), Group()])
    assert [name for name in names_in(model, inner) if "weight" in name] == [
        "layer.self_attn.out_proj.weight", "layer.linear1.weight", "layer.linear2.weight"
    ]  # fmt: skip
    assert inner.keys() == {"params", "lr"}
    assert names_in(model, rest)[-2:] == ["head.weight", "head.bias"]


def test_an_optimiser_takes_them_and_steps() -> None:
    model = Small()
    groups = param_groups(model, [Group(types=nn.PReLU, lr=7.0), Group(params="bias", lr=0.0), Group(lr=1.0)])
    assert groups[0]["params"] == []  # and the numbers of the others stay as they are
    optimiser = torch.optim.SGD(groups, lr=0.5)
    model.head(torch.ones(2, 6)).sum().backward()
    weight, bias = model.head.weight.detach().clone(), model.head.bias.detach().clone()
    optimiser.step()
    assert torch.equal(model.head.bias, bias)
    assert torch.equal(model.head.weight, weight - 2.0)
    torch.optim.AdamW(param_groups(model, [Group(types=nn.PReLU), Group()])).step()


def test_uncovered_parameters_are_one_error_that_names_them_all() -> None:
    with pytest.raises(RecipeError) as caught:
        param_groups(tied_model(), [Group(types=(nn.Conv2d, nn.LayerNorm, nn.BatchNorm2d))])
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("no group takes 4 of the trainable parameters")
    assert [line.split("  ")[1] for line in lines[1:]] == [
        "embedding.weight = head.weight", "body.0.weight", "body.0.bias", "head.bias"
    ]  # fmt: skip
    assert "(Embedding, [11, 6])" in lines[1]


def test_frozen_parameters_are_left_out_and_need_no_group() -> None:
    model = Small()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("head"))
    (group,) = param_groups(model, [Group(names="head.*")])
    assert names_in(model, group) == ["head.weight", "head.bias"]


def test_a_tied_parameter_is_there_once() -> None:
    model = tied_model()
    groups = param_groups(model, [Group(params="weight"), Group()])
    assert sum(parameter is model.embedding.weight for group in groups for parameter in group["params"]) == 1


def test_names_of_a_tied_parameter_in_different_groups_are_an_error_that_names_them() -> None:
    model = tied_model()
    for other in (Group(names="head.*", lr=3.0), Group(names="head.bias", lr=3.0)):
        with pytest.raises(RecipeError) as caught:
            param_groups(model, [Group(types=nn.Embedding), other, Group(names="[!h]*"), Group(names="head.bias")])
        text = str(caught.value)
        assert "1 tied parameters have names in different groups" in text
        assert "embedding.weight: Group(types=Embedding)" in text
        assert "head.weight: " + ("no group" if "bias" in str(other.names) else repr(other)) in text


def test_a_group_with_ties_takes_a_parameter_under_all_its_names() -> None:
    model = tied_model()
    first, second = param_groups(model, [Group(types=nn.Embedding, with_ties=True), Group()])
    assert names_in(model, first) == ["embedding.weight"]
    assert len(second["params"]) == len(list(model.parameters())) - 1
    with pytest.raises(RecipeError, match="different groups"):  # an earlier group's claim comes first
        param_groups(model, [Group(names="head.weight"), Group(types=nn.Embedding, with_ties=True), Group()])


def test_parameters_over_the_memory_of_others_are_an_error_that_names_them() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = nn.Parameter(model[0].weight.detach())
    with pytest.raises(RecipeError, match=r"the memory of others.*\n  1\.weight$"):
        param_groups(model, [Group()])


def test_wrappers_are_no_part_of_names() -> None:
    model = torch.compile(Small(), backend="eager")
    first, _ = param_groups(model, [Group(names="head.weight"), Group()])
    assert first["params"][0] is model._orig_mod.head.weight


def test_max_dim_leaves_matrices_out() -> None:
    model = Small()
    vectors, rest = param_groups(model, [Group(max_dim=1, weight_decay=0.0), Group()])
    assert all(parameter.dim() == 1 for parameter in vectors["params"])
    assert names_in(model, rest) == ["conv.weight", "embedding.weight", "body.0.weight", "head.weight"]


def test_the_usual_split() -> None:
    class TinyRMSNorm(nn.Module):  # as each model of transformers has one
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))
            self.cls_token, self.pos_embed = nn.Parameter(torch.ones(1, 4)), nn.Parameter(torch.ones(1, 9, 4))

    model = nn.ModuleDict(
        {"tied": tied_model(), "rms": TinyRMSNorm(), "prelu": nn.PReLU(), "lstm": nn.LSTM(3, 3), "out": nn.Linear(4, 4),
         "group": nn.GroupNorm(2, 4), "bag": nn.EmbeddingBag(5, 4), "attention": nn.MultiheadAttention(4, 2)}
    )  # fmt: skip
    groups = param_groups(model, no_decay_groups(0.1, lr=1e-3))
    assert [(group["weight_decay"], group["lr"]) for group in groups] == [(0.0, 1e-3), (0.0, 1e-3), (0.1, 1e-3)]
    assert names_in(model, groups[2]) == [
        "tied.conv.weight", "tied.body.0.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "out.weight",
        "attention.in_proj_weight", "attention.out_proj.weight",
    ]  # fmt: skip
    torch.optim.AdamW(groups)
    model["head"] = nn.Linear(4, 2)
    mine, *_ = param_groups(model, [Group(names="head.weight", weight_decay=0.5), *no_decay_groups(0.1)])
    assert names_in(model, mine) == ["head.weight"]


@pytest.mark.parametrize("name", ["llama", "bert"])
def test_the_usual_split_of_real_models(name: str) -> None:
    transformers = pytest.importorskip("transformers")
    config, model_class = {
        "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
        "bert": (transformers.BertConfig, transformers.BertForPreTraining),
    }[name]
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
             "vocab_size": 50}  # fmt: skip
    with torch.device("meta"):
        model = model_class(config(**shape))
    *without, rest = param_groups(model, no_decay_groups(0.1))
    decayed = names_in(model, rest)
    assert decayed
    for name in decayed:
        assert name.endswith(".weight") and "norm" not in name.lower() and "embed" not in name, name
    spared = sum(len(group["params"]) for group in without)
    assert spared + len(decayed) == len({id(parameter) for parameter in model.parameters()})


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module, got list"):
        param_groups([], [])  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match=r"groups: each must be a fastinit\.Group, got \{"):
        param_groups(Small(), [{"lr": 1.0}])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"groups must be a list of fastinit\.Group"):
        param_groups(Small(), Group())  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="max_dim must be a whole number, got '1'"):
        Group(max_dim="1")  # type: ignore[arg-type]
    group = Group(types=nn.Linear, params=("a", "b"), max_dim=1, with_ties=True, lr=0.1)
    assert repr(group) == "Group(types=Linear, params=('a', 'b'), max_dim=1, with_ties=True, lr=0.1)"
    assert fastinit.Group is Group
