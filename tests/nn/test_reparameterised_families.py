"""RepViT, MobileOne, FastViT and EdgeNeXt: the published sizes, training's branches folded exactly, the same answer
wherever they are cut.

Training's form of every folded layer is written down here, from the papers and under timm's names.
Shape letters: B batch, C channels, H W space, N places, S heads, D channels of a head.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from splitrt import families
from splitrt.errors import ConfigError
from splitrt.nn import edgenext, metaformer, repvit
from splitrt.nn.bottleneck import Bottleneck, widen
from splitrt.nn.branched import BiasedConv, Branched
from splitrt.nn.crosscovariance import SplitAttention, waves
from splitrt.nn.onnx import export_onnx
from splitrt.nn.pretrained import adopt
from splitrt.nn.split import Back, Front, Head, Tail, Whole

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

SIDE = {"repvit": 224, "mobileone": 224, "fastvit": 256, "edgenext": 256}

# Millions of parameters and of multiply-adds of the inference form as the papers have them: arXiv:2307.09283,
# 2206.04040, 2206.10589 (and its repository for base). 0.8 G is published for anything from 750 M to 850 M.
PUBLISHED: list[tuple[str, str, float, float, float]] = [
    ("repvit", "m0_9", 5.1, 800, 50),
    ("repvit", "m1_0", 6.8, 1100, 50),
    ("repvit", "m1_1", 8.2, 1300, 50),
    ("repvit", "m1_5", 14.0, 2300, 50),
    ("repvit", "m2_3", 22.9, 4500, 50),
    ("mobileone", "s0", 2.1, 275, 1),
    ("mobileone", "s1", 4.8, 825, 1),
    ("mobileone", "s2", 7.8, 1299, 1),
    ("mobileone", "s3", 10.1, 1896, 1),
    ("mobileone", "s4", 14.8, 2978, 2),
    ("edgenext", "xx_small", 1.33, 261, 5),
    ("edgenext", "x_small", 2.34, 538, 5),
    ("edgenext", "small", 5.59, 1260, 10),
    ("edgenext", "base", 18.51, 3840, 20),
]
# Millions of multiply-adds in arXiv:2303.14189; its parameters are those of neither form.
FASTVIT = {"t8": 700, "t12": 1400, "s12": 1800, "sa12": 1900, "sa24": 3800, "sa36": 5600, "ma36": 7900}
# Millions that timm's cards and the published files say of training's form: parameters, or all values with buffers.
TRAINED: list[tuple[str, str, bool, float, float]] = [
    ("repvit", "m0_9", False, 5.5, 0.05),
    ("repvit", "m1_0", False, 7.3, 0.05),
    ("repvit", "m1_1", False, 8.8, 0.05),
    ("mobileone", "s0", True, 5.38, 0.005),
    ("mobileone", "s1", True, 4.89, 0.005),
    ("mobileone", "s2", True, 7.97, 0.005),
    ("mobileone", "s3", True, 10.3, 0.05),
    ("mobileone", "s4", True, 15.1, 0.05),
    ("fastvit", "t8", False, 4.0, 0.05),
    ("fastvit", "t12", False, 7.6, 0.05),
    ("fastvit", "sa24", False, 21.6, 0.05),
    ("fastvit", "ma36", False, 44.1, 0.05),
    ("edgenext", "xx_small", False, 1.33, 0.005),
    ("edgenext", "small", False, 5.59, 0.005),
]
# Some of timm's names and shapes.
NAMES: dict[tuple[str, str], dict[str, tuple[int, ...]]] = {
    ("repvit", "m0_9"): {
        "stem.conv1.c.weight": (24, 3, 3, 3),
        "stem.conv2.bn.running_var": (48,),
        "stages.0.blocks.0.se.fc1.weight": (16, 48, 1, 1),
        "stages.0.blocks.1.token_mixer.conv.c.weight": (48, 1, 3, 3),
        "stages.1.downsample.pre_block.channel_mixer.conv2.bn.bias": (48,),
        "stages.1.downsample.spatial_downsample.c.weight": (48, 1, 3, 3),
        "stages.2.downsample.channel_downsample.c.weight": (192, 96, 1, 1),
        "stages.2.blocks.13.token_mixer.conv1.bias": (192,),
        "stages.3.downsample.ffn.conv1.c.weight": (768, 384, 1, 1),
        "stages.3.blocks.1.token_mixer.bn.running_mean": (384,),
        "head.head.bn.weight": (384,),
        "head.head_dist.l.weight": (1000, 384),
    },
    ("mobileone", "s0"): {
        "stem.conv_kxk.0.conv.weight": (48, 3, 3, 3),
        "stem.conv_scale.bn.running_mean": (48,),
        "stages.0.1.identity.weight": (48,),
        "stages.1.0.conv_scale.conv.weight": (48, 1, 1, 1),
        "stages.1.15.conv_kxk.3.conv.weight": (128, 128, 1, 1),
        "stages.3.1.conv_kxk.0.bn.bias": (1024,),
        "head.fc.weight": (1000, 1024),
    },
    ("mobileone", "s4"): {
        "stages.2.10.attn.fc1.weight": (56, 896, 1, 1),
        "stages.2.19.attn.fc2.bias": (896,),
        "stages.3.0.attn.fc1.weight": (56, 896, 1, 1),
        "stages.3.1.attn.fc1.bias": (128,),
    },
    ("fastvit", "sa12"): {
        "stem.0.conv_kxk.0.conv.weight": (64, 3, 3, 3),
        "stem.1.conv_scale.conv.weight": (64, 1, 1, 1),
        "stem.2.identity.running_var": (64,),
        "stages.0.blocks.0.token_mixer.norm.identity.bias": (64,),
        "stages.0.blocks.1.token_mixer.mixer.conv_kxk.0.conv.weight": (64, 1, 3, 3),
        "stages.1.blocks.0.token_mixer.layer_scale.gamma": (128, 1, 1),
        "stages.1.blocks.0.mlp.conv.bn.weight": (128,),
        "stages.1.blocks.0.layer_scale.gamma": (128, 1, 1),
        "stages.2.downsample.proj.0.large_conv.conv.weight": (256, 1, 7, 7),
        "stages.2.downsample.proj.0.small_conv.conv.weight": (256, 1, 3, 3),
        "stages.2.downsample.proj.1.conv_kxk.0.conv.weight": (256, 256, 1, 1),
        "stages.3.pos_emb.pos_enc.weight": (512, 1, 7, 7),
        "stages.3.blocks.0.norm.running_mean": (512,),
        "stages.3.blocks.0.token_mixer.qkv.weight": (1536, 512),
        "stages.3.blocks.1.layer_scale_2.gamma": (512, 1, 1),
        "stages.3.blocks.1.mlp.fc1.weight": (2048, 512, 1, 1),
        "final_conv.se.fc1.weight": (64, 1024, 1, 1),
        "head.fc.bias": (1000,),
    },
    ("edgenext", "xx_small"): {
        "stem.0.weight": (24, 3, 4, 4),
        "stem.1.bias": (24,),
        "stages.0.blocks.1.conv_dw.weight": (24, 1, 3, 3),
        "stages.1.downsample.0.weight": (24,),
        "stages.1.downsample.1.weight": (48, 24, 2, 2),
        "stages.1.blocks.1.pos_embd.token_projection.weight": (48, 64, 1, 1),
        "stages.2.blocks.4.gamma": (88,),
        "stages.2.blocks.5.convs.1.weight": (30, 1, 3, 3),
        "stages.2.blocks.5.gamma_xca": (88,),
        "stages.3.blocks.1.convs.2.bias": (42,),
        "stages.3.blocks.1.xca.temperature": (4, 1, 1),
        "stages.3.blocks.1.xca.qkv.bias": (504,),
        "stages.3.blocks.1.norm_xca.weight": (168,),
        "head.norm.weight": (168,),
        "head.fc.weight": (1000, 168),
    },
}
SMALL = [
    ("repvit", "m0_9"),
    ("mobileone", "s0"),
    ("mobileone", "s4"),
    ("fastvit", "t8"),
    ("fastvit", "sa12"),
    ("edgenext", "xx_small"),
    ("edgenext", "small"),
]
CUTS = [1, 2, 3, 4]


# ── training's form ─────────────────────────────────────────────────────────────────────────────────


def normed(own: nn.Conv2d, kernel: int | None = None, names: tuple[str, str] = ("conv", "bn")) -> nn.Sequential:
    """A convolution like `own`, but with a batch norm and perhaps with a kernel of another side."""
    side, stride = kernel or own.kernel_size[0], own.stride[0]
    conv = nn.Conv2d(own.in_channels, own.out_channels, side, stride, side // 2, groups=own.groups, bias=False)
    return nn.Sequential(OrderedDict([(names[0], conv), (names[1], nn.BatchNorm2d(own.out_channels))]))


class Scale(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return x_BCHW * self.gamma


class Branches(nn.Module):
    def __init__(self, own: nn.Conv2d, number: int, se: nn.Module | None = None, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv_kxk = nn.ModuleList(normed(own) for _ in range(number))
        if own.kernel_size[0] > 1 and number:
            self.conv_scale = normed(own, 1)
        if own.in_channels == own.out_channels and own.stride[0] == 1:
            self.identity = nn.BatchNorm2d(own.out_channels)
        self.se, self.act = se or nn.Identity(), act or nn.Identity()

    def forward(self, x_BCHW: Tensor) -> Tensor:
        singles = (getattr(self, name, None) for name in ("conv_scale", "identity"))
        every = [branch(x_BCHW) for branch in (*self.conv_kxk, *singles) if branch is not None]
        answer: Tensor = self.act(self.se(torch.stack(every).sum(0)))
        return answer


class RepVitMixer(nn.Module):
    def __init__(self, own: repvit.Mixer) -> None:
        super().__init__()
        self.conv = normed(own, names=repvit.NAMES)
        self.conv1 = nn.Conv2d(own.in_channels, own.in_channels, 1, groups=own.in_channels)
        self.bn = nn.BatchNorm2d(own.in_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        answer: Tensor = self.bn(self.conv(x_BCHW) + self.conv1(x_BCHW) + x_BCHW)
        return answer


class RepVitClassifier(nn.Module):
    def __init__(self, own: repvit.Classifier) -> None:
        super().__init__()
        self.head, self.head_dist = (
            nn.Sequential(
                OrderedDict(bn=nn.BatchNorm1d(own.in_features), l=nn.Linear(own.in_features, own.out_features))
            )
            for _ in range(2)
        )

    def forward(self, x_BC: Tensor) -> Tensor:
        answer: Tensor = (self.head(x_BC) + self.head_dist(x_BC)) / 2
        return answer


class FastVitLargeKernel(nn.Module):
    def __init__(self, own: metaformer.LargeKernel) -> None:
        super().__init__()
        self.large_conv, self.small_conv = normed(own), normed(own, 3)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        answer: Tensor = self.large_conv(x_BCHW) + self.small_conv(x_BCHW)
        return answer


class FastVitPosition(nn.Module):
    def __init__(self, own: metaformer.Position) -> None:
        super().__init__()
        self.pos_enc = nn.Conv2d(own.in_channels, own.in_channels, 7, padding=3, groups=own.groups)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        answer: Tensor = x_BCHW + self.pos_enc(x_BCHW)
        return answer


class FastVitMixer(nn.Module):
    def __init__(self, own: metaformer.Mixer) -> None:
        super().__init__()
        self.norm, self.mixer, self.layer_scale = Branches(own, 0), Branches(own, 1), Scale(own.out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        answer: Tensor = x_BCHW + self.layer_scale(self.mixer(x_BCHW) - self.norm(x_BCHW))
        return answer


class FastVitMixerBlock(nn.Module):
    def __init__(self, own: metaformer.MixerBlock) -> None:
        super().__init__()
        self.token_mixer, self.mlp = own.token_mixer, own.mlp
        self.layer_scale = Scale(own.mlp.fc2.out_channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.token_mixer(x_BCHW)
        answer: Tensor = x_BCHW + self.layer_scale(self.mlp(x_BCHW))
        return answer


class FastVitAttentionBlock(nn.Module):
    def __init__(self, own: metaformer.AttentionBlock) -> None:
        super().__init__()
        channels = own.mlp.fc2.out_channels
        self.norm, self.layer_scale_1, self.layer_scale_2 = nn.BatchNorm2d(channels), Scale(channels), Scale(channels)
        self.token_mixer = nn.ModuleDict(
            {"qkv": nn.Linear(channels, 3 * channels, bias=False), "proj": nn.Linear(channels, channels)}
        )
        self.mlp = own.mlp

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW + self.layer_scale_1(self._attend(self.norm(x_BCHW)))
        answer: Tensor = x_BCHW + self.layer_scale_2(self.mlp(x_BCHW))
        return answer

    def _attend(self, x_BCHW: Tensor) -> Tensor:
        batch, channels, high, wide = x_BCHW.shape
        qkv = self.token_mixer["qkv"](x_BCHW.permute(0, 2, 3, 1)).reshape(batch, high * wide, 3, channels // 32, 32)
        q_BSND, k_BSND, v_BSND = (qkv[:, :, one].transpose(1, 2) for one in range(3))
        y_BSND = F.scaled_dot_product_attention(q_BSND, k_BSND, v_BSND)
        y_BHWC = self.token_mixer["proj"](y_BSND.transpose(1, 2).reshape(batch, high, wide, channels))
        answer: Tensor = y_BHWC.permute(0, 3, 1, 2)
        return answer


class EdgeNextConvBlock(nn.Module):
    def __init__(self, own: edgenext.ConvBlock) -> None:
        super().__init__()
        self.conv_dw, self.norm, self.mlp = own.conv_dw, own.norm, own.mlp
        self.gamma = nn.Parameter(torch.ones(own.conv_dw.out_channels))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BHWC = self.gamma * self.mlp(self.norm(self.conv_dw(x_BCHW).permute(0, 2, 3, 1)))
        answer: Tensor = x_BCHW + y_BHWC.permute(0, 3, 1, 2)
        return answer


class EdgeNextAttention(nn.Module):
    def __init__(self, own: SplitAttention) -> None:
        super().__init__()
        self.convs, self.norm_xca, self.xca, self.norm, self.mlp = own.convs, own.norm_xca, own.xca, own.norm, own.mlp
        self.pos_embd = own.pos_embd
        channels = own.xca.proj.out_features
        self.gamma, self.gamma_xca = (nn.Parameter(torch.ones(channels)) for _ in range(2))

    def forward(self, x_BCHW: Tensor) -> Tensor:
        width: Any = self.convs[0].out_channels
        seen, parts = torch.zeros(()), list[Tensor]()
        for number, conv in enumerate(self.convs):
            seen = conv(seen + x_BCHW[:, number * width : (number + 1) * width])
            parts.append(seen)
        y_BCHW = torch.cat([*parts, x_BCHW[:, len(self.convs) * width :]], 1)
        if self.pos_embd is not None:
            y_BCHW = y_BCHW + self.pos_embd.token_projection(waves(x_BCHW.shape[-1]))
        y_BNC = y_BCHW.flatten(2).transpose(1, 2)
        y_BNC = y_BNC + self.gamma_xca * self._attend(self.norm_xca(y_BNC))
        y_BCN = (self.gamma * self.mlp(self.norm(y_BNC))).transpose(1, 2)
        answer: Tensor = x_BCHW + y_BCN.reshape(x_BCHW.shape)
        return answer

    def _attend(self, x_BNC: Tensor) -> Tensor:
        batch, places, channels = x_BNC.shape
        qkv = self.xca.qkv(x_BNC).reshape(batch, places, 3, self.xca.heads, channels // self.xca.heads)
        q, k, v = qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2]
        q, k = (one / one.square().sum(1, keepdim=True).sqrt() for one in (q, k))
        share = (torch.einsum("bnsd,bnse->bsde", q, k) * self.xca.temperature).softmax(-1)
        answer: Tensor = self.xca.proj(torch.einsum("bsde,bnse->bnsd", share, v).reshape(batch, places, channels))
        return answer


TRAINING: dict[type[nn.Module], Callable[[Any], nn.Module]] = {
    BiasedConv: lambda own: normed(own, names=own.names),
    repvit.Mixer: RepVitMixer,
    repvit.Classifier: RepVitClassifier,
    metaformer.LargeKernel: FastVitLargeKernel,
    metaformer.Position: FastVitPosition,
    metaformer.Mixer: FastVitMixer,
    metaformer.MixerBlock: FastVitMixerBlock,
    metaformer.AttentionBlock: FastVitAttentionBlock,
    edgenext.ConvBlock: EdgeNextConvBlock,
    SplitAttention: EdgeNextAttention,
}


def training_form(module: nn.Module, branches: int) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, training_form(child, branches))
    if isinstance(module, Branched):
        return Branches(module.conv, branches, module.se, module.act)
    make = TRAINING.get(type(module))
    return make(module) if make else module


# ── networks ────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def _double() -> Iterator[None]:
    """Networks are built, and checkpoints made, of numbers that show whether a fold is exact."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def undivided(family: str, variant: str, classes: int = 1000, side: int = 64) -> nn.Sequential:
    """All stages and the answer in one row."""
    own: Any = import_module(f"splitrt.nn.{family}")
    stages = own.stages(variant, side) if family == "edgenext" else own.stages(variant)
    network = nn.Sequential()
    for layers in [*(stage.layers for stage in stages), own.answer(variant, classes)]:
        for name, layer in layers.items():
            network.add_module(name, layer)
    return network.eval()


def trained(family: str, variant: str, classes: int = 1000) -> nn.Module:
    """The undivided network in training's form. MobileOne's smallest has four convolutions in a block, its stem one."""
    network: Any = undivided(family, variant, classes)
    network.stem = training_form(network.stem, 1)
    return training_form(network, 4 if (family, variant) == ("mobileone", "s0") else 1).eval()


def randomise(network: nn.Module) -> None:
    """Weights by which maps keep their size; norms and layer scales do something."""
    torch.manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight)
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            assert layer.running_mean is not None
            assert layer.running_var is not None
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(layer.weight, 0.3, 0.6)
            nn.init.normal_(layer.bias, 0, 0.1)
    for name, value in network.named_parameters():
        if "gamma" in name or "temperature" in name:
            nn.init.uniform_(value, 0.2, 0.8)


def checkpoint(family: str, network: nn.Module) -> dict[str, Tensor]:
    """As timm would have written it."""
    named: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        theirs = re.sub(r"^stage(\d)\.", r"stages.\1.", name)
        theirs = re.sub(r"\.se\.", ".attn.", theirs) if family == "mobileone" else theirs
        named[theirs] = value
    return named


def halves(family: str, **arguments: Any) -> tuple[Front, Back]:
    front: Front = families.head_module(family).build(**arguments).eval()
    back: Back = families.tail_module(family).build(**arguments).eval()
    return front, back


def adopted(family: str, weights: dict[str, Tensor], **arguments: Any) -> tuple[Front, Back]:
    front, back = halves(family, **arguments)
    for module, half in ((families.head_module, front), (families.tail_module, back)):
        half.load_state_dict(module(family).pretrained(weights, **arguments))
    return front, back


def frames(side: int = 64, batch: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(batch, 3, side, side)


def size(family: str, variant: str) -> tuple[float, float]:
    """Millions of parameters and of multiply-adds."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        whole = Whole(*halves(family, variant=variant))
        whole(torch.empty(1, 3, SIDE[family], SIDE[family]))
    return sum(value.numel() for value in whole.parameters()) / 1e6, counter.get_total_flops() / 2e6


# ── sizes ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "variant", "millions", "multiply_adds", "last_digit"), PUBLISHED)
def test_the_whole_network_has_the_published_size(
    family: str, variant: str, millions: float, multiply_adds: float, last_digit: float
) -> None:
    own_millions, own_multiply_adds = size(family, variant)
    assert own_millions == pytest.approx(millions, rel=0.005, abs=0.05)
    assert own_multiply_adds == pytest.approx(multiply_adds, abs=last_digit)


@pytest.mark.parametrize(("variant", "multiply_adds"), FASTVIT.items())
def test_fastvit_computes_what_is_published(variant: str, multiply_adds: float) -> None:
    assert size("fastvit", variant)[1] == pytest.approx(multiply_adds, rel=0.012, abs=50)


@pytest.mark.parametrize(("family", "variant", "with_buffers", "millions", "last_digit"), TRAINED)
def test_training_s_form_has_the_size_of_the_published_weights(
    family: str, variant: str, with_buffers: bool, millions: float, last_digit: float
) -> None:
    with torch.device("meta"):
        network = trained(family, variant)
    values = network.state_dict().values() if with_buffers else network.parameters()
    assert sum(value.numel() for value in values) / 1e6 == pytest.approx(millions, abs=last_digit)


# ── folding ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("_double")
@pytest.mark.parametrize(("family", "variant"), SMALL)
@torch.inference_mode()
def test_the_folded_network_answers_as_the_trained_one(family: str, variant: str) -> None:
    network = trained(family, variant, 10)
    randomise(network)
    weights, x_BCHW = checkpoint(family, network), frames()
    whole = Whole(*adopted(family, weights, variant=variant, classes=10, resolution=64))
    wanted = network(x_BCHW)
    assert wanted.std() > 1e-3
    torch.testing.assert_close(whole(x_BCHW), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("stride", "groups"), [(1, 1), (1, 4), (1, 8), (2, 8)])
@torch.inference_mode()
def test_branches_of_any_grouping_are_one_convolution(stride: int, groups: int) -> None:
    own = Branched(8, 8, 3, nn.ReLU(), stride=stride, groups=groups)
    several = nn.Sequential(Branches(own.conv, 3, act=nn.ReLU())).eval()
    randomise(several)
    folded = nn.Sequential(own)
    folded.load_state_dict(adopt(folded, several.state_dict(), str))
    x_BCHW = torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(folded(x_BCHW), several(x_BCHW), rtol=1e-5, atol=1e-5)


def test_repvit_without_a_second_classifier_has_the_first_one_s_answer() -> None:
    network = trained("repvit", "m0_9", 10)
    randomise(network)
    weights = checkpoint("repvit", network)
    single = {name: value for name, value in weights.items() if "head_dist" not in name}
    twice = single | {name.replace("head.head.", "head.head_dist."): single[name] for name in single}
    arguments: dict[str, Any] = {"variant": "m0_9", "classes": 10}
    one, two = (families.tail_module("repvit").pretrained(given, **arguments) for given in (single, twice))
    both = families.tail_module("repvit").pretrained(weights, **arguments)
    torch.testing.assert_close(one, two)
    assert not torch.equal(one["body.2.head.weight"], both["body.2.head.weight"])


def test_waves_are_sines_and_cosines_of_the_row_and_then_of_the_column() -> None:
    wave = waves(5)
    assert wave.shape == (1, 64, 5, 5)
    for channel in range(64):
        of, place = (channel % 32) // 2, channel % 2
        for row, column in ((0, 3), (4, 1)):
            at = (row if channel < 32 else column) + 1
            angle = at / (5 + 1e-6) * 2 * math.pi / 10_000 ** (2 * of / 32)
            wanted = math.cos(angle) if place else math.sin(angle)
            assert float(wave[0, channel, row, column]) == pytest.approx(wanted, abs=1e-5)


# ── names ───────────────────────────────────────────────────────────────────────────────────────────


class Reads(dict[str, Tensor]):
    """Remembers which names were asked for."""

    read: set[str]

    def __getitem__(self, name: str) -> Tensor:
        self.read.add(name)
        return super().__getitem__(name)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize(("family", "variant"), SMALL)
def test_every_published_value_is_in_one_half(family: str, variant: str, cut: int) -> None:
    """All but the counters of the batch norms, which nothing reads."""
    with torch.device("meta"):
        weights, taken = Reads(checkpoint(family, trained(family, variant))), []
        for module in (families.head_module, families.tail_module):
            weights.read = set()
            values = module(family).pretrained(weights, variant=variant, cut=cut, resolution=64)
            assert set(values) == set(module(family).build(variant=variant, cut=cut, resolution=64).state_dict())
            taken.append(weights.read)
    assert not taken[0] & taken[1]
    left = set(weights) - taken[0] - taken[1]
    assert all(name.endswith(".num_batches_tracked") for name in left)


@pytest.mark.parametrize(("network", "some"), NAMES.items())
def test_names_and_shapes_are_timm_s(network: tuple[str, str], some: dict[str, tuple[int, ...]]) -> None:
    with torch.device("meta"):
        weights = checkpoint(network[0], trained(*network))
    assert {name: tuple(weights[name].shape) for name in some} == some


@pytest.mark.parametrize(
    ("family", "variant", "name"),
    [
        ("repvit", "m0_9", "stages.2.blocks.3.token_mixer.bn.running_var"),
        ("repvit", "m0_9", "head.head.l.weight"),
        ("mobileone", "s0", "stages.1.7.conv_kxk.0.conv.weight"),
        ("mobileone", "s0", "stages.1.7.identity.bias"),
        ("fastvit", "t8", "stages.1.blocks.0.token_mixer.layer_scale.gamma"),
        ("fastvit", "t8", "stages.2.downsample.proj.0.small_conv.bn.running_mean"),
        ("edgenext", "xx_small", "stages.2.blocks.5.gamma_xca"),
        ("edgenext", "xx_small", "stages.3.downsample.1.weight"),
    ],
)
def test_a_weight_that_is_missing_or_of_another_shape_is_named(family: str, variant: str, name: str) -> None:
    with torch.device("meta"):
        weights, tail = checkpoint(family, trained(family, variant)), families.tail_module(family)
        value = weights.pop(name)
        with pytest.raises(ConfigError, match=f"weights must hold '{name}'"):
            tail.pretrained(weights, variant=variant, resolution=64)
        weights[name] = value[:-1]
        with pytest.raises(ConfigError, match=rf"weights '{name}' .* must have shape \({value.shape[0]},"):
            tail.pretrained(weights, variant=variant, resolution=64)


def test_weights_of_another_variant_are_refused() -> None:
    with torch.device("meta"):
        weights = checkpoint("fastvit", trained("fastvit", "t8"))
        with pytest.raises(ConfigError, match=r"weights 'stem\.0\..*' .* must have shape \(64, .*got \(48, "):
            families.head_module("fastvit").pretrained(weights, variant="t12")


# ── cuts ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("family", "variant"), SMALL)
@torch.inference_mode()
def test_halves_of_published_weights_answer_as_the_uncut_network(family: str, variant: str) -> None:
    network = trained(family, variant, 10)
    randomise(network)
    weights, x_BCHW = checkpoint(family, network), frames()
    whole = undivided(family, variant, 10)
    own: Any = import_module(f"splitrt.nn.{family}")
    whole.load_state_dict(adopt(whole, weights, lambda name: own.original(f"stem.{name}")))
    wanted = whole(x_BCHW)
    for cut in CUTS:
        front, back = adopted(family, weights, variant=variant, classes=10, resolution=64, cut=cut)
        head, tail = Head(front, 1, None), Tail(back, None)
        features_BCHW = head.stem(x_BCHW)
        assert features_BCHW.shape[1:] == tuple(front.features)
        assert back.replaced(features_BCHW).shape[1:] == tuple(back.restored)
        z_BCHW = head.encoder(features_BCHW, head.encoder.widths[-1])
        assert torch.equal(tail(z_BCHW, torch.zeros(2, dtype=torch.int64)), wanted)
        assert torch.equal(Whole(front, back)(x_BCHW), wanted)


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("family", SIDE)
@torch.inference_mode()
def test_a_bottleneck_stands_for_the_stage_after_any_cut(family: str, cut: int) -> None:
    front, back = halves(family, classes=10, resolution=64, cut=cut)
    bottleneck = Bottleneck(widths=(2, 5), hidden=4, decoder_hidden=8)
    stride = front.features.height // back.restored.height
    head, tail = Head(front, stride, bottleneck).eval(), Tail(back, bottleneck).eval()
    z_BCHW = head.encoder(head.stem(frames()), 5)
    assert tail(widen(z_BCHW, bottleneck.sent), torch.ones(2, dtype=torch.int64)).shape == (2, 10)


@pytest.mark.parametrize("family", SIDE)
def test_the_device_ends_at_a_quarter_of_the_side_unless_told_otherwise(family: str) -> None:
    with torch.device("meta"):
        front, _ = halves(family)
        assert front.features.height == front.features.width == SIDE[family] // 4


@pytest.mark.parametrize(
    ("family", "variant", "head_cut"),
    [("repvit", "m0_9", 2), ("mobileone", "s4", 1), ("fastvit", "sa12", 2), ("edgenext", "xx_small", 3)],
)
@torch.inference_mode()
def test_onnx_runtime_gives_the_same_at_another_batch_size(
    family: str, variant: str, head_cut: int, tmp_path: Path
) -> None:
    """A short head and a short tail, in which every kind of layer is once."""
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    front, _ = halves(family, variant=variant, classes=10, resolution=64, cut=head_cut)
    last, back = halves(family, variant=variant, classes=10, resolution=64, cut=4)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    for number, module in enumerate((front.stem, nn.Sequential(back.replaced, back.body))):
        randomise(module)
        path = tmp_path / f"{number}.onnx"
        given = last.features if number else (3, 64, 64)
        export_onnx(module, (torch.randn(2, *given),), path, ["given"], free_batch=True)
        x_BCHW = torch.randn(3, *given)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        (outputs,) = session.run(None, {"given": x_BCHW.numpy()})
        wanted = module(x_BCHW).numpy()
        np.testing.assert_allclose(outputs, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


# ── arguments ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("side", ["head", "tail"])
@pytest.mark.parametrize("family", SIDE)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cut": 0}, r"cut must be 1 to 4 .*, got 0; the nearest is 1"),
        ({"cut": 5}, r"cut must be 1 to 4 .*, got 5; the nearest is 4"),
        ({"resolution": 100}, r"resolution must be a multiple of 32 from 64 to 512, got 100"),
        ({"resolution": 32}, r"resolution .*, got 32"),
        ({"resolution": -96}, r"resolution .*, got -96"),
        ({"classes": 0}, r"classes must be at least 1, got 0"),
        ({"classes": -1}, r"classes must be at least 1, got -1"),
        ({"variant": "huge"}, r"variant must be one of .*, got 'huge'"),
    ],
)
def test_arguments_that_make_no_network_are_refused(
    side: str, family: str, arguments: dict[str, Any], message: str
) -> None:
    module = families.head_module(family) if side == "head" else families.tail_module(family)
    with torch.device("meta"), pytest.raises(ConfigError, match=rf"{family}\.{message}"):
        module.build(**arguments)
