"""Parts of FastViT's stages: something mixes places, then two pointwise layers mix channels.

Shape letters: B batch, C channels, H W space, N places, S heads, D channels of a head.
Vasu et al., ICCV 2023, arXiv:2303.14189; positions: Chu et al., ICLR 2023, arXiv:2102.10882; large kernels: Ding et
al., CVPR 2022, arXiv:2203.06717. Layer scales are folded into the layer before them, as norms are.
"""

from __future__ import annotations

from torch import Tensor, nn

from splitrt.nn.branched import BiasedConv, branches, normed_skip
from splitrt.nn.kernel import batch_norm, layer, normed, skip, vector
from splitrt.nn.pretrained import Published

HEAD_CHANNELS = 32
SIDE = 7  # of the large kernels
SMALL_SIDE = 3  # of the branch beside one


class LargeKernel(nn.Conv2d):
    """(B, in, H, W) -> (B, out, H / 2, W / 2), 7 x 7, each channel read by out / in of them; a 3 x 3 beside it in
    training.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, SIDE, 2, SIDE // 2, groups=in_channels)

    def fold(self, published: Published) -> dict[str, Tensor]:
        shape = self.weight.shape
        small = normed(published.below("small_conv"), (*shape[:2], SMALL_SIDE, SMALL_SIDE))
        return normed(published.below("large_conv"), shape).plus(small).named()


class Position(nn.Conv2d):
    """x_BCHW -> x_BCHW, depthwise 7 x 7: conditional positions; in training a skip is around it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, SIDE, padding=SIDE // 2, groups=channels)

    def fold(self, published: Published) -> dict[str, Tensor]:
        shape = self.weight.shape
        return layer(published.below("pos_enc"), shape).plus(skip(shape)).named()


class Mixer(nn.Conv2d):
    """x_BCHW -> x_BCHW, depthwise 3 x 3; in training x + scale (mixer(x) - norm(x)), with branches in `mixer`."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 3, padding=1, groups=channels)

    def fold(self, published: Published) -> dict[str, Tensor]:
        scale_O = vector(published, "layer_scale.gamma", self.out_channels, 1, 1)
        change = branches(published.below("mixer"), self).minus(normed_skip(published.below("norm.identity"), self))
        return skip(self.weight.shape).plus(change.scaled(scale_O)).named()


class FeedForward(nn.Module):
    """x_BCHW -> x_BCHW: depthwise 7 x 7, then two pointwise convolutions."""

    def __init__(self, channels: int, expand: int) -> None:
        super().__init__()
        self.conv = BiasedConv(channels, channels, SIDE, groups=channels)
        self.fc1 = nn.Conv2d(channels, expand * channels, 1)
        self.act = nn.GELU()
        self.fc2 = nn.Conv2d(expand * channels, channels, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.fc2(self.act(self.fc1(self.conv(x_BCHW))))
        return y_BCHW


class MixerBlock(nn.Module):
    """x_BCHW -> x_BCHW, without attention."""

    def __init__(self, channels: int, expand: int) -> None:
        super().__init__()
        self.token_mixer = Mixer(channels)
        self.mlp = FeedForward(channels, expand)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = self.token_mixer(x_BCHW)
        y_BCHW: Tensor = self.mlp(x_BCHW)
        return x_BCHW + y_BCHW

    def fold(self, published: Published) -> dict[str, Tensor]:
        return scaled_layer(published, "mlp.fc2", self.mlp.fc2, "layer_scale")


class Attention(nn.Module):
    """x_BCHW -> x_BCHW, every place reads every other one."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(channels, 3 * channels)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        qkv_BN = self.qkv(x_BCHW.flatten(2).transpose(1, 2))
        q_BSND, k_BSND, v_BSND = qkv_BN.unflatten(2, (3, -1, HEAD_CHANNELS)).permute(2, 0, 3, 1, 4).unbind(0)
        share_BSNN = (q_BSND * HEAD_CHANNELS**-0.5 @ k_BSND.transpose(2, 3)).softmax(3)
        y_BNC = self.proj((share_BSNN @ v_BSND).transpose(1, 2).flatten(2))
        y_BCHW: Tensor = y_BNC.transpose(1, 2).reshape_as(x_BCHW)
        return y_BCHW


class AttentionBlock(nn.Module):
    """x_BCHW -> x_BCHW; in training a batch norm is before the attention."""

    def __init__(self, channels: int, expand: int) -> None:
        super().__init__()
        self.token_mixer = Attention(channels)
        self.mlp = FeedForward(channels, expand)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x_BCHW = x_BCHW + self.token_mixer(x_BCHW)
        y_BCHW: Tensor = self.mlp(x_BCHW)
        return x_BCHW + y_BCHW

    def fold(self, published: Published) -> dict[str, Tensor]:
        mixer = self.token_mixer
        norm = batch_norm(published.below("norm"), mixer.qkv.in_features)
        qkv = layer(published.below("token_mixer.qkv"), mixer.qkv.weight.shape, bias=False).after(norm)
        return (
            qkv.named("token_mixer.qkv")
            | scaled_layer(published, "token_mixer.proj", mixer.proj, "layer_scale_1")
            | scaled_layer(published, "mlp.fc2", self.mlp.fc2, "layer_scale_2")
        )


def scaled_layer(published: Published, name: str, own: nn.Conv2d | nn.Linear, scale: str) -> dict[str, Tensor]:
    """The layer `name` and the layer scale after it."""
    shape = own.weight.shape
    scale_O = vector(published, f"{scale}.gamma", shape[0], 1, 1)
    return layer(published.below(name), shape).scaled(scale_O).named(name)
