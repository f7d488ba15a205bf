"""Init functions as tutorials and repositories write them, and small models that they are applied to.

Each function takes a module, as `model.apply` gives it; `GPT`, like many a model, initialises itself.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import nn
from torch.nn.init import kaiming_normal_, trunc_normal_, xavier_uniform_, zeros_
from torch.nn.init import normal_ as gaussian_

INNER = nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.Linear
NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d | nn.LayerNorm | nn.GroupNorm


class Images(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 6, (3, 5), groups=1, bias=False)
        )
        self.up = nn.Sequential(nn.GroupNorm(2, 6), nn.ConvTranspose2d(6, 6, 4, groups=6))
        self.head = nn.Sequential(nn.Linear(37, 19), nn.BatchNorm1d(19), nn.Linear(19, 7))


class Clips(nn.Module):
    """A stack in the manner of C3D."""

    def __init__(self) -> None:
        super().__init__()
        pairs = itertools.pairwise([3, 5, 7, 9])
        self.convolutions = nn.ModuleList(nn.Conv3d(before, after, 3, padding=1) for before, after in pairs)
        self.norm = nn.BatchNorm3d(9)
        self.fc6, self.fc7, self.fc8 = nn.Linear(9 * 16, 33), nn.Linear(33, 33), nn.Linear(33, 11)


class Words(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(23, 6, padding_idx=2)
        self.lstm = nn.LSTM(6, 5, num_layers=2, bidirectional=True)
        self.gru = nn.GRU(10, 4)
        self.cell = nn.LSTMCell(4, 3)
        self.head = nn.Linear(3, 23)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 6))
        self.attention = nn.MultiheadAttention(6, 2, add_bias_kv=True)
        self.cross = nn.MultiheadAttention(6, 2, kdim=4, vdim=5)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8), 2, enable_nested_tensor=False)


class GPT(nn.Module):
    """Decoder whose constructor applies its own init, and then scales what is added to the residual stream."""

    def __init__(self, layers: int = 3, width: int = 8) -> None:
        super().__init__()
        self.layers = layers
        self.tokens, self.positions = nn.Embedding(29, width), nn.Embedding(13, width)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm": nn.LayerNorm(width),
                    "c_attn": nn.Linear(width, 3 * width),
                    "c_proj": nn.Linear(width, width),
                    "mlp": nn.ModuleDict({"c_fc": nn.Linear(width, 33), "c_proj": nn.Linear(33, width)}),
                }
            )
            for _ in range(layers)
        )
        self.head = nn.Linear(width, 29, bias=False)
        self.tokens.weight = self.head.weight
        self.register_buffer("mask", torch.ones(13, 13).tril_().view(1, 1, 13, 13), persistent=False)
        self.init_weights()

    def init_weights(self) -> None:
        self.apply(gpt)
        for name, parameter in self.named_parameters():
            if name.endswith("c_proj.weight"):
                parameter.data.normal_(mean=0.0, std=0.02 / math.sqrt(2 * self.layers))


def gpt(m: nn.Module) -> None:
    if isinstance(m, nn.Linear | nn.Embedding):
        m.weight.data.normal_(mean=0.0, std=0.02)
    if isinstance(m, nn.Linear) and m.bias is not None:
        m.bias.data.zero_()
    elif isinstance(m, nn.LayerNorm):
        m.bias.data.zero_()
        m.weight.data.fill_(1.0)


def by_class_name(m: nn.Module) -> None:
    """The way of adversarial networks."""
    name = type(m).__name__
    if "Conv" in name:
        m.weight.data.normal_(0.0, 0.02)
    elif "BatchNorm" in name:
        nn.init.normal_(m.weight.data, 1.0, 0.02)
        nn.init.constant_(m.bias.data, 0)


def by_isinstance(m: nn.Module) -> None:
    if isinstance(m, nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(m.weight, mode="fan_out", nonlinearity="relu")
        if m.bias is not None:
            nn.init.constant_(m.bias, 0)
    elif isinstance(m, NORMS):
        nn.init.constant_(m.weight, 1)
        nn.init.constant_(m.bias, 0)
    elif isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, 0, 0.01)
        if m.bias is not None:
            nn.init.constant_(m.bias.data, 0.3)


def by_data(m: nn.Module) -> None:
    if isinstance(m, INNER):
        m.weight.data.normal_(0, 0.02)
        if m.bias is not None:
            m.bias.data.zero_()
    elif isinstance(m, NORMS):
        m.weight.data.fill_(1)
        m.bias.data.zero_()


def he_by_hand(m: nn.Module) -> None:
    if isinstance(m, nn.Conv2d):
        n = m.kernel_size[0] * m.kernel_size[1] * m.out_channels
        m.weight.data.normal_(0, math.sqrt(2.0 / n))
        if m.bias is not None:
            m.bias.data.zero_()
    elif isinstance(m, nn.Linear):
        r = 1 / math.sqrt(m.weight.size(1))
        m.weight.data.uniform_(-r, r)
        if m.bias is not None:
            m.bias.data.uniform_(-r, r)


def c3d(m: nn.Module) -> None:
    if isinstance(m, nn.Conv3d):
        nn.init.normal_(m.weight, std=0.01)
        m.bias.data = torch.ones(m.out_channels)
    elif isinstance(m, nn.Linear):
        nn.init.normal_(m.weight, std=0.005)
        if m.bias is not None:
            m.bias.data.fill_(1)


def recurrent(m: nn.Module) -> None:
    if isinstance(m, nn.LSTM | nn.GRU | nn.LSTMCell):
        for name, param in m.named_parameters():
            if "weight_ih" in name:
                nn.init.xavier_uniform_(param.data)
            elif "weight_hh" in name:
                nn.init.orthogonal_(param.data)
            elif "bias" in name:
                param.data.fill_(0)
                n = param.size(0)
                if not isinstance(m, nn.GRU):
                    param.data[n // 4 : n // 2].fill_(1)


def gate_by_gate(m: nn.Module) -> None:
    if isinstance(m, nn.LSTM):
        for name, param in m.named_parameters():
            if "weight" in name:
                for gate in param.data.chunk(4):
                    nn.init.xavier_uniform_(gate)
            else:
                nn.init.zeros_(param)
                forget = param.data.view(4, -1)[1]
                forget.fill_(1)


def padded(m: nn.Module) -> None:
    if isinstance(m, nn.Embedding):
        m.weight.data.uniform_(-0.1, 0.1)
        if m.padding_idx is not None:
            m.weight.data[m.padding_idx].zero_()
    elif isinstance(m, nn.Linear):
        m.weight.data[:, ::2].normal_(0, 0.5)
        m.weight.data[:2, 1:2] = 0.25
        if m.bias is not None:
            m.bias.data[0] = -1.0


def new_rows(m: nn.Module) -> None:
    """What is done for tokens that are added to a vocabulary."""
    if isinstance(m, nn.Embedding):
        m.weight.data.normal_(0, 0.02)
        m.weight.data[-3:].normal_(0, 0.5)


def attention(m: nn.Module) -> None:
    if isinstance(m, nn.MultiheadAttention):
        if m.in_proj_weight is None:
            for weight in (m.q_proj_weight, m.k_proj_weight, m.v_proj_weight):
                nn.init.xavier_normal_(weight, gain=1 / math.sqrt(2))
        else:
            with torch.no_grad():
                q, k, v = m.in_proj_weight.chunk(3)
                nn.init.xavier_uniform_(q, gain=0.5)
                nn.init.xavier_uniform_(k, gain=0.5)
                nn.init.xavier_uniform_(v)
        nn.init.zeros_(m.in_proj_bias)
        nn.init.constant_(m.out_proj.bias, 0.0)
        for bias in (m.bias_k, m.bias_v):
            if bias is not None:
                nn.init.xavier_normal_(bias)


def every_matrix(m: nn.Module) -> None:
    """Applied to each module, it fills a deep parameter once for each module around it."""
    for p in m.parameters():
        if p.dim() > 1:
            nn.init.xavier_uniform_(p)


def imported_names(m: nn.Module) -> None:
    if isinstance(m, nn.Linear):
        trunc_normal_(m.weight, std=0.02)
        if m.bias is not None:
            zeros_(m.bias)
    elif isinstance(m, nn.Conv2d):
        kaiming_normal_(m.weight, nonlinearity="relu")
    elif isinstance(m, nn.Embedding):
        gaussian_(m.weight, std=0.5)
    elif isinstance(m, nn.MultiheadAttention) and m.in_proj_weight is not None:
        xavier_uniform_(m.in_proj_weight)


def inverse_error_function(m: nn.Module) -> None:
    """A library's own truncated normal."""
    if isinstance(m, INNER):
        std, low, high = 0.02, math.erf(-1 / math.sqrt(2)), math.erf(1 / math.sqrt(2))
        with torch.no_grad():
            m.weight.uniform_(low, high)
            m.weight.erfinv_()
            m.weight.mul_(std * math.sqrt(2.0))
            m.weight.add_(0.01)
            m.weight.clamp_(min=-0.03, max=0.03)


def scaled(m: nn.Module) -> None:
    if isinstance(m, nn.Linear):
        m.weight.data.uniform_().mul_(0.2).sub_(0.1)
        if m.bias is not None:
            m.bias.data.normal_().div_(math.sqrt(2.0 * m.in_features))
    elif isinstance(m, nn.LayerNorm):
        m.weight.data.fill_(1).mul_(0.5)


def computed(m: nn.Module) -> None:
    """Numbers that come from another tensor, whichever way they are written."""
    if isinstance(m, nn.Linear):
        with torch.no_grad():
            m.weight.copy_(torch.randn_like(m.weight) * 0.1)
            if m.bias is not None:
                m.bias.copy_(torch.linspace(-1, 1, m.out_features))
    elif isinstance(m, nn.Conv2d):
        m.weight.data = torch.rand(m.weight.shape) * 0.1 - 0.05
    elif isinstance(m, nn.Embedding):
        m.weight = nn.Parameter(torch.empty(m.weight.shape).normal_(0, 0.1))
    elif isinstance(m, NORMS):
        m.bias.data = torch.full_like(m.bias, 0.25)
        m.weight.data.copy_(torch.ones(m.weight.shape))


def normalised(m: nn.Module) -> None:
    """What is read decides what is written."""
    if isinstance(m, nn.Linear | nn.Embedding):
        m.weight.data.normal_()
        m.weight.data /= m.weight.data.norm(dim=1, keepdim=True)
        if m.weight.data.abs().max() > 0.9:
            m.weight.data.mul_(0.5)
        fan_in, _ = nn.init._calculate_fan_in_and_fan_out(m.weight)
        if isinstance(m, nn.Linear) and m.bias is not None:
            nn.init.uniform_(m.bias, -1 / math.sqrt(fan_in), m.weight[0, 0].abs().item())


def bilinear(m: nn.Module) -> None:
    """Upsampling's kernel, through NumPy."""
    if isinstance(m, nn.ConvTranspose2d):
        nn.init.normal_(m.weight)
        places = 1 - np.abs(np.arange(4) - 1.5) / 2
        m.weight.data.copy_(torch.from_numpy(np.outer(places, places)))
        m.bias.data.normal_()
        m.bias.data.numpy()[1:3] += 1
        m.bias.data[4:].normal_()
    elif isinstance(m, nn.Linear):
        seen = m.weight.data.normal_(0, 0.1).numpy()
        m.weight.data.uniform_(-1, 1)
        if m.bias is not None:
            m.bias.data = torch.from_numpy(seen.mean(axis=1).copy())


def seeded(m: nn.Module) -> None:
    if isinstance(m, nn.Linear):
        torch.manual_seed(m.in_features)
        m.weight.data.normal_()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            m.weight.data[1:].uniform_(-1, 1)
        m.weight.data[0].normal_()
    elif isinstance(m, nn.Conv2d):
        m.weight.data.normal_(generator=torch.Generator().manual_seed(3))


def again(m: nn.Module) -> None:
    """Defaults once more, and the last layer zero."""
    if hasattr(m, "reset_parameters"):
        m.reset_parameters()
    if isinstance(m, nn.Sequential) and isinstance(m[-1], nn.Linear):
        nn.init.zeros_(m[-1].weight)
        m[-1].bias.data.fill_(-math.log((1 - 0.01) / 0.01))


def watched(m: nn.Module, seen: list[float]) -> None:
    """Look at each tensor as it is filled, as people do who debug."""
    for p in m.parameters(recurse=False):
        seen.append(p.detach().flatten()[0].item())
        p.data.normal_(0, 0.1)
        seen.append(float(p.data.mean()))
        p.data[:1].zero_()
        seen += p.data.flatten()[:3].tolist()


Init = Callable[[nn.Module], None]
# Each with the models that it finds something to fill in.
INITS: dict[Init, tuple[Callable[[], nn.Module], ...]] = {
    gpt: (GPT, Attention),
    by_class_name: (Images, Clips),
    by_isinstance: (Images, Clips),
    by_data: (Images, Clips),
    he_by_hand: (Images,),
    c3d: (Clips,),
    recurrent: (Words,),
    gate_by_gate: (Words,),
    padded: (Words,),
    new_rows: (Words, GPT),
    attention: (Attention,),
    every_matrix: (Attention, GPT),
    imported_names: (Images, Words, Attention),
    inverse_error_function: (Images, Clips),
    scaled: (Attention,),
    computed: (Images, Words),
    normalised: (Words, GPT),
    bilinear: (Images,),
    seeded: (Images,),
    again: (Images, Words),
}
