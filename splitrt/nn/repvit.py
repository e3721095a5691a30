"""RepViT: a depthwise convolution mixes places, two pointwise ones mix channels, every other block has squeeze-excite.

Shape letters: B batch, C channels, H W space, N classes.
Wang et al., CVPR 2024, arXiv:2307.09283. Published, counted of this form, branches folded and one classifier left,
at 224 x 224:

    m0_9  5.1 M parameters  0.8 G multiply-adds      m1_5  14.0 M  2.3 G
    m1_0  6.8 M             1.1 G                    m2_3  22.9 M  4.5 G
    m1_1  8.2 M             1.3 G
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from torch import Tensor, nn

from splitrt.errors import ConfigError
from splitrt.nn.blocks import scaled
from splitrt.nn.branched import BiasedConv
from splitrt.nn.kernel import Kernel, batch_norm, layer, normed, skip
from splitrt.nn.pretrained import Published
from splitrt.nn.squeeze import SqueezeExcite
from splitrt.nn.stages import Layers, Stage, check_classes, inside

NAMES = ("c", "bn")  # timm's, of a convolution and its norm
EXPAND = 2
SQUEEZE = 0.25


class Variant(NamedTuple):
    channels: tuple[int, ...]
    depths: tuple[int, ...]


VARIANTS = {
    "m0_9": Variant((48, 96, 192, 384), (2, 2, 14, 2)),
    "m1_0": Variant((56, 112, 224, 448), (2, 2, 14, 2)),
    "m1_1": Variant((64, 128, 256, 512), (2, 2, 12, 2)),
    "m1_5": Variant((64, 128, 256, 512), (4, 4, 24, 4)),
    "m2_3": Variant((80, 160, 320, 640), (6, 6, 34, 2)),
}


def stages(variant: str) -> list[Stage]:
    """Side / 4 (two convolutions), / 4, / 8, / 16, / 32. Raises ConfigError on a variant that the paper has not."""
    spec = _variant(variant)
    given = spec.channels[0]
    stem = OrderedDict(
        conv1=BiasedConv(3, given // 2, 3, stride=2, names=NAMES),
        act=nn.GELU(),
        conv2=BiasedConv(given // 2, given, 3, stride=2, names=NAMES),
    )
    row = [Stage(layers=OrderedDict(stem=nn.Sequential(stem)), channels=given, stride=4)]
    for number, (channels, depth) in enumerate(zip(spec.channels, spec.depths, strict=True)):
        blocks = nn.Sequential(*(Block(channels, squeeze=place % 2 == 0) for place in range(depth)))
        parts: Layers = OrderedDict(downsample=_downsample(given, channels)) if number else OrderedDict()
        layers: Layers = OrderedDict({f"stage{number}": nn.Sequential(parts | OrderedDict(blocks=blocks))})
        row.append(Stage(layers=layers, channels=channels, stride=4 * 2**number))
        given = channels
    return row


def answer(variant: str, classes: int) -> Layers:
    """(B, C, H, W) -> (B, N)."""
    check_classes("repvit", classes)
    head = Classifier(_variant(variant).channels[-1], classes)
    return OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), head=head)


def original(name: str) -> str:
    """timm's name: `replaced.stage1.blocks.0.se.fc1.bias` is `stages.1.blocks.0.se.fc1.bias`."""
    return inside(name).replace("stage", "stages.", 1)


class Mixer(nn.Conv2d):
    """x_BCHW -> x_BCHW, depthwise 3 x 3; in training that one, a 1 x 1 and a skip, and a batch norm of their sum."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def fold(self, published: Published) -> dict[str, Tensor]:
        shape = self.weight.shape
        point = layer(published.below("conv1"), (shape[0], 1, 1, 1))
        kernel = normed(published.below("conv"), shape, NAMES).plus(point).plus(skip(shape))
        return kernel.then(batch_norm(published.below("bn"), shape[0])).named()


class FeedForward(nn.Module):
    """x_BCHW -> x_BCHW: two pointwise convolutions, the inner channels twice as many, and a skip around them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = BiasedConv(channels, EXPAND * channels, 1, names=NAMES)
        self.act = nn.GELU()
        self.conv2 = BiasedConv(EXPAND * channels, channels, 1, names=NAMES)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.conv2(self.act(self.conv1(x_BCHW)))
        return x_BCHW + y_BCHW


class Block(nn.Sequential):
    """x_BCHW -> x_BCHW."""

    def __init__(self, channels: int, *, squeeze: bool) -> None:
        parts: Layers = OrderedDict(token_mixer=Mixer(channels))
        if squeeze:
            parts["se"] = SqueezeExcite(channels, scaled(channels, SQUEEZE))
        super().__init__(parts | OrderedDict(channel_mixer=FeedForward(channels)))


class Classifier(nn.Linear):
    """x_BC -> logits_BN; in training two, the other taught by a teacher, with a batch norm before each. Their mean is
    the answer.
    """

    def fold(self, published: Published) -> dict[str, Tensor]:
        kernel = self._one(published.below("head"))
        if "head_dist.l.weight" in published:
            other = self._one(published.below("head_dist"))
            kernel = Kernel((kernel.weight_OIKK + other.weight_OIKK) / 2, (kernel.bias_O + other.bias_O) / 2)
        return kernel.named()

    def _one(self, published: Published) -> Kernel:
        linear = layer(published.below("l"), self.weight.shape)
        return linear.after(batch_norm(published.below("bn"), self.in_features))


def _downsample(in_channels: int, out_channels: int) -> nn.Sequential:
    """(B, in, H, W) -> (B, out, H / 2, W / 2)."""
    parts: Layers = OrderedDict(
        pre_block=Block(in_channels, squeeze=False),
        spatial_downsample=BiasedConv(in_channels, in_channels, 3, stride=2, groups=in_channels, names=NAMES),
        channel_downsample=BiasedConv(in_channels, out_channels, 1, names=NAMES),
        ffn=FeedForward(out_channels),
    )
    return nn.Sequential(parts)


def _variant(variant: str) -> Variant:
    if variant not in VARIANTS:
        raise ConfigError(f"repvit.variant must be one of {', '.join(VARIANTS)}, got {variant!r}")
    return VARIANTS[variant]
