"""Convolutions with bias that were trained as more than one layer; here they are what remains of them.

Shape letters: B batch, C channels, H W space.
The block is MobileOne's: Vasu et al., CVPR 2023, arXiv:2206.04040. splitrt.nn.kernel folds the branches.
"""

from __future__ import annotations

from itertools import count

from torch import Tensor, nn

from splitrt.nn.kernel import Kernel, batch_norm, normed, skip
from splitrt.nn.pretrained import Published
from splitrt.nn.squeeze import SqueezeExcite


class BiasedConv(nn.Conv2d):
    """(B, in, H, W) -> (B, out, ceil(H / stride), ceil(W / stride)); in training without bias, a batch norm after it.

    names: the checkpoint's for the two.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        names: tuple[str, str] = ("conv", "bn"),
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)
        self.names = names

    def fold(self, published: Published) -> dict[str, Tensor]:
        return normed(published, self.weight.shape, self.names).named()


class Branched(nn.Module):
    """A convolution, a squeeze-excite if asked for, an activation: (B, in, H, W) -> (B, out, H / stride, W / stride).

    In training the convolution is the sum of one or more of its kind (`conv_kxk`), of a pointwise one (`conv_scale`)
    where the kernel is larger than that, and of a skip (`identity`) where the shapes allow one, each with a batch norm.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        act: nn.Module,
        *,
        stride: int = 1,
        groups: int = 1,
        squeezed: int | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups)
        self.se = SqueezeExcite(out_channels, squeezed) if squeezed else nn.Identity()
        self.act = act

    def forward(self, x_BCHW: Tensor) -> Tensor:
        y_BCHW: Tensor = self.act(self.se(self.conv(x_BCHW)))
        return y_BCHW

    def fold(self, published: Published) -> dict[str, Tensor]:
        return branches(published, self.conv).named("conv")


def branches(published: Published, conv: nn.Conv2d) -> Kernel:
    """The sum of the branches that `conv` stands for; how many are of its own kind is the checkpoint's choice."""
    shape = conv.weight.shape
    kernel = normed(published.below("conv_kxk.0"), shape)
    for number in count(1):
        if f"conv_kxk.{number}.conv.weight" not in published:
            break
        kernel = kernel.plus(normed(published.below(f"conv_kxk.{number}"), shape))
    if conv.kernel_size[0] > 1:
        kernel = kernel.plus(normed(published.below("conv_scale"), (*shape[:2], 1, 1)))
    if conv.in_channels == conv.out_channels and conv.stride[0] == 1:
        kernel = kernel.plus(normed_skip(published.below("identity"), conv))
    return kernel


def normed_skip(published: Published, conv: nn.Conv2d) -> Kernel:
    """A skip with a batch norm."""
    return skip(conv.weight.shape).then(batch_norm(published, conv.out_channels))
