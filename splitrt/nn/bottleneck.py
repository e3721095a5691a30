"""The bottleneck: slimmable encoders of two forms, and the decoder that restores features.

Shape letters: B batch, F feature channels at the cut, Z bottleneck channels, K channels of one link, M channels
carried from link to link, R restored channels, H W space, h w space after the stride.

An encoder is a chain of links; width w runs the first of them, so compute falls with the width:

    nested     link k adds channels of its own: it reads the features and the hidden channels of the links
               before it. A narrow output is a true prefix of the wide one, a frame is decodable from any
               prefix of its groups, and a channel's batch statistics are the same at every width (what
               slimmable networks need separate normalisation for: Yu et al., ICLR 2019, arXiv:1812.08928).
    ensemble   link k is a thin encoder whose output is added to those before it (Assine et al.,
               WoWMoM 2023): all channels at every width, so width is the compute knob and bits the byte knob.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from splitrt.errors import ConfigError
from splitrt.manifest import Manifest
from splitrt.nn.blocks import conv_bn

FORMS = ("nested", "ensemble")


class Group(nn.Module):
    """A nested link: features_BFHW, hidden_BMhw of the links before (None for the first)  ->  z_BKhw in (-1, 1),
    hidden_BMhw with this link's channels appended.
    """

    def __init__(self, features: int, hidden_before: int, hidden: int, channels: int, stride: int) -> None:
        super().__init__()
        self.spread = conv_bn(features, hidden, 3, stride=stride)
        self.mix = conv_bn(hidden_before + hidden, hidden, 3)
        self.project = nn.Conv2d(hidden, channels, 1)

    def forward(self, features_BFHW: Tensor, hidden_BMhw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        own_BMhw = self.spread(features_BFHW)
        all_BMhw = own_BMhw if hidden_BMhw is None else torch.cat([hidden_BMhw, own_BMhw], dim=1)
        return torch.tanh(self.project(self.mix(all_BMhw))), all_BMhw


class Member(nn.Module):
    """An ensemble's link: features_BFHW, sum_BZhw of the members before  ->  z_BZhw in (-1, 1), sum_BZhw with its own.

    Each member's answer for the ensemble up to it has a scale of its own: the sum of more members is larger.
    """

    def __init__(self, features: int, hidden: int, channels: int, stride: int, place: int) -> None:
        super().__init__()
        self.spread = conv_bn(features, hidden, 3, stride=stride)
        self.mix = conv_bn(hidden, hidden, 3)
        self.project = nn.Conv2d(hidden, channels, 1)
        self.scale = nn.Parameter(torch.tensor(place**-0.5))

    def forward(self, features_BFHW: Tensor, sum_BZhw: Tensor | None = None) -> tuple[Tensor, Tensor]:
        own_BZhw = self.project(self.mix(self.spread(features_BFHW)))
        total_BZhw = own_BZhw if sum_BZhw is None else sum_BZhw + own_BZhw
        return torch.tanh(self.scale * total_BZhw), total_BZhw


class SlimEncoder(nn.Module):
    """Features to bottleneck at a width given on every call: (B, F, H, W) -> (B, channels, h, w), values in (-1, 1).

    The width is an argument, not an attribute: two streams may use one encoder at different widths.
    """

    def __init__(self, links: Sequence[nn.Module], widths: Sequence[int], *, is_sum: bool, stride: int) -> None:
        super().__init__()
        self.links = nn.ModuleList(links)
        self.widths = tuple(widths)
        self.is_sum = is_sum
        self.stride = stride

    def forward(self, features_BFHW: Tensor, width: int) -> Tensor:
        carried, outputs = None, []
        for link in self.links[: self.widths.index(width) + 1]:
            z_BKhw, carried = link(features_BFHW, carried)
            outputs.append(z_BKhw)
        return outputs[-1] if self.is_sum else torch.cat(outputs, dim=1)

    def every_width(self, features_BFHW: Tensor) -> list[Tensor]:
        """The outputs at all widths, narrow to wide, for little more than the widest's compute."""
        carried: Tensor | None = None
        outputs: list[Tensor] = []
        for link in self.links:
            z_BKhw, carried = link(features_BFHW, carried)
            is_first_or_sum = self.is_sum or not outputs
            outputs.append(z_BKhw if is_first_or_sum else torch.cat([outputs[-1], z_BKhw], dim=1))
        return outputs


class PlainEncoder(nn.Module):
    """No bottleneck: the features themselves are sent, at their one width. For splitting without training."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.links = nn.ModuleList([PlainLink()])
        self.widths = (features,)
        self.stride = 1

    def forward(self, features_BFHW: Tensor, width: int) -> Tensor:
        return features_BFHW

    def every_width(self, features_BFHW: Tensor) -> list[Tensor]:
        return [features_BFHW]


class PlainLink(nn.Module):
    def forward(self, features_BFHW: Tensor) -> tuple[Tensor, Tensor]:
        # A second output for the chain's sake, and no alias of the first: some exporters drop one of two.
        return features_BFHW + 0.0, features_BFHW.mean((2, 3), keepdim=True)


class WidthNorm(nn.Module):
    """Batch normalisation with statistics and scale of its own for each of `count` widths (switchable normalisation:
    Yu et al., ICLR 2019, arXiv:1812.08928). Outside training it is one affine, gathered frame by frame.

    x_BCHW, place_B (each frame's width as a place in the list of widths)  ->  (B, C, H, W)
    """

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        # A slow average: each bit depth drawn in training has statistics of its own around the mixture's.
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels, momentum=0.02) for _ in range(count))

    def forward(self, x_BCHW: Tensor, place_B: Tensor) -> Tensor:
        if self.training:
            places, counts = torch.unique_consecutive(place_B, return_counts=True)
            parts = torch.split(x_BCHW, counts.tolist())
            return torch.cat([self.norms[k](part) for k, part in zip(places.tolist(), parts, strict=True)])
        scale_KC, shift_KC = self.folded()
        return x_BCHW * scale_KC[place_B][:, :, None, None] + shift_KC[place_B][:, :, None, None]

    def folded(self) -> tuple[Tensor, Tensor]:
        """Scale and shift of every width."""
        scales, shifts = [], []
        for norm in self.norms:
            assert isinstance(norm, nn.BatchNorm2d)
            scale_C = norm.weight / torch.sqrt(norm.get_buffer("running_var") + norm.eps)
            scales.append(scale_C)
            shifts.append(norm.bias - norm.get_buffer("running_mean") * scale_C)
        return torch.stack(scales), torch.stack(shifts)


class Decoder(nn.Module):
    """Bottleneck to restored features: z_BZhw, place_B of each frame's width  ->  (B, R, h, w).

    Channels that were not sent are zero, the middle of the range. Convolutions are shared by all widths and each
    has normalisation of its own, so one decoder takes every width and a batch may mix them.
    """

    def __init__(self, bottleneck: int, restored: int, hidden: int, widths: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(bottleneck, hidden, 3, padding=1, bias=False)
        self.first_norm = WidthNorm(hidden, widths)
        self.second = nn.Conv2d(hidden, hidden, 3, padding=1, bias=False)
        self.second_norm = WidthNorm(hidden, widths)
        self.restore = nn.Conv2d(hidden, restored, 1)

    def forward(self, z_BZhw: Tensor, place_B: Tensor) -> Tensor:
        hidden = F.relu(self.first_norm(self.first(z_BZhw), place_B))
        restored_BRhw: Tensor = self.restore(F.relu(self.second_norm(self.second(hidden), place_B)))
        return restored_BRhw


class PlainDecoder(nn.Module):
    """No bottleneck: the stage that one would replace reads what was sent."""

    def __init__(self, replaced: nn.Module) -> None:
        super().__init__()
        self.replaced = replaced

    def forward(self, features_BFHW: Tensor, place_B: Tensor) -> Tensor:
        restored_BRhw: Tensor = self.replaced(features_BFHW)
        return restored_BRhw


@dataclass(frozen=True, kw_only=True, slots=True)
class Bottleneck:
    """What decides a bottleneck's modules.

    widths: nested, rising channel counts, e.g. (1, 2, 4, 8); ensemble, member counts (1, 2, .., n).
    channels: of an ensemble; a nested one has those of its widest. hidden: channels a link computes with.
    """

    widths: tuple[int, ...]
    form: str = "nested"
    channels: int = 0
    hidden: int = 16
    decoder_hidden: int = 96

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"bottleneck.form must be one of {', '.join(FORMS)}, got {self.form!r}")
        if not self.widths or list(self.widths) != sorted(set(self.widths)) or self.widths[0] < 1:
            raise ConfigError(f"widths must be above 0 and rise strictly, got {list(self.widths)}")
        if self.is_sum and (self.channels < 1 or self.widths != tuple(range(1, len(self.widths) + 1))):
            raise ConfigError(
                f"an ensemble needs channels above 0 and widths 1, 2, .. n (its members), "
                f"got {self.channels} channels and widths {list(self.widths)}"
            )

    @property
    def is_sum(self) -> bool:
        return self.form == "ensemble"

    @property
    def sent(self) -> int:
        """Bottleneck channels at the widest."""
        return self.channels if self.is_sum else self.widths[-1]

    def encoder(self, features: int, stride: int) -> SlimEncoder:
        links: list[nn.Module]
        if self.is_sum:
            links = [Member(features, self.hidden, self.channels, stride, place) for place in self.widths]
        else:
            sizes = [after - before for before, after in pairwise((0, *self.widths))]
            links = [Group(features, k * self.hidden, self.hidden, size, stride) for k, size in enumerate(sizes)]
        return SlimEncoder(links, self.widths, is_sum=self.is_sum, stride=stride)

    def decoder(self, restored: int) -> Decoder:
        return Decoder(self.sent, restored, self.decoder_hidden, len(self.widths))


def widen(z_BCHW: Tensor, channels: int) -> Tensor:
    """Append zero channels: what a tail sees of a narrow frame. (B, C, H, W) -> (B, channels, H, W)."""
    return F.pad(z_BCHW, (0, 0, 0, 0, 0, channels - z_BCHW.shape[1]))


def bottleneck_of(manifest: Manifest) -> Bottleneck | None:
    """The bottleneck that a bundle's weights belong to."""
    seam = manifest.seam
    if manifest.bottleneck is None:
        return None
    form, channels = ("ensemble", seam.sum_channels) if seam.sum_channels else ("nested", 0)
    return Bottleneck(form=form, widths=seam.widths, channels=channels, **manifest.bottleneck)
