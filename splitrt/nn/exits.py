"""Early exits: branches in a chain after the stem, cheap first, each with logits of its own.

Shape letters: B batch, F feature channels at the cut, C channels that a branch carries on, N classes, H W h w space.

    features ── branch 1 ──┬── carried ── branch 2 ──┬── ..
                           └── logits                └── logits

A branch is a row of inverted residuals, which halve the map while it is large, and a classifier. What one branch has
computed the next reads, so that asking a deeper one costs only the difference (BranchyNet: Teerapittayanon et al.,
ICPR 2016, arXiv:1709.01686, with every branch on features of its own). Any family's features will do.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from splitrt.manifest import Branch as Sizes
from splitrt.nn.blocks import classifier
from splitrt.nn.inverted import inverted
from splitrt.nn.split import FeatureShape

LARGE_SIDE = 8  # a map above it is halved by every block


class Branch(nn.Module):
    """x_BFHW -> logits_BN, carried_BChw."""

    def __init__(self, given: FeatureShape, sizes: Sizes, classes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential()
        self.carried = given
        for _ in range(sizes.blocks):
            before = self.carried
            stride = 2 if min(before.height, before.width) > LARGE_SIDE else 1
            hidden = before.channels * sizes.expand
            self.blocks.append(inverted(before.channels, sizes.channels, hidden=hidden, stride=stride))
            self.carried = FeatureShape(sizes.channels, -(-before.height // stride), -(-before.width // stride))
        self.answer = classifier(sizes.channels, 2 * sizes.channels, classes)

    def forward(self, x_BFHW: Tensor) -> tuple[Tensor, Tensor]:
        carried_BChw = self.blocks(x_BFHW)
        return self.answer(carried_BChw), carried_BChw


class Exits(nn.ModuleList):
    """features_BFHW -> logits_BN of every exit, cheap first."""

    def __init__(self, features: FeatureShape, chain: Sequence[Sizes], classes: int) -> None:
        branches: list[Branch] = []
        for sizes in chain:
            branches.append(Branch(branches[-1].carried if branches else features, sizes, classes))
        super().__init__(branches)

    def forward(self, features_BFHW: Tensor) -> list[Tensor]:
        carried, logits = features_BFHW, []
        for branch in self:
            logits_BN, carried = branch(carried)
            logits.append(logits_BN)
        return logits
