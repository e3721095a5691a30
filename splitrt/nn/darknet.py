"""Tiny Darknet: runs of 3x3 and 1x1 convolutions with a max-pool after each but the last.

Shape letters: B batch, C channels, H W space, N classes.
Redmon, 2016, https://pjreddie.com/darknet/tiny-darknet; squeezing 1x1 layers as in YOLO9000 (CVPR 2017,
arXiv:1612.08242). A layer keeps the number that it has in the usual checkpoints, where all stand in one row.

    run 1   run 2   run 3             run 4             run 5
    16  M   32  M   16 128 16 128 M   32 256 32 256 M   64 512 64 512 128 N  mean
"""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn

from splitrt.errors import ConfigError

Layers = OrderedDict[str, nn.Module]

RUNS: tuple[tuple[tuple[int, int], ...], ...] = (  # (channels, kernel) of each convolution
    ((16, 3),),
    ((32, 3),),
    ((16, 1), (128, 3), (16, 1), (128, 3)),
    ((32, 1), (256, 3), (32, 1), (256, 3)),
    ((64, 1), (512, 3), (64, 1), (512, 3), (128, 1)),
)
POOLS = len(RUNS) - 1
EPSILON = 1e-3  # of the batch norms: Darknet's


def check(cut: int, resolution: int, keep: int = 0) -> None:
    """Raises ConfigError naming the nearest cut that leaves a run to replace and one for the body."""
    last = POOLS - 1
    if cut not in range(1, last + 1):
        nearest = min(last, max(1, cut))
        raise ConfigError(f"darknet.cut must be 1 to {last} (max-pools before it), got {cut}; the nearest is {nearest}")
    if not 0 <= keep <= len(RUNS[cut]):
        raise ConfigError(f"darknet.keep must be 0 to {len(RUNS[cut])}, the convolutions of run {cut + 1}, got {keep}")
    if resolution % 2**POOLS or not 64 <= resolution <= 512:
        raise ConfigError(f"darknet.resolution must be a multiple of {2**POOLS} from 64 to 512, got {resolution}")


def channels_after(number: int) -> int:
    """Channels that run `number` gives, from 1."""
    return RUNS[number - 1][-1][0]


def run(number: int) -> Layers:
    """Run 1 to 4 with its max-pool: (B, C, H, W) -> (B, channels_after(number), H / 2, W / 2)."""
    layers = _convolutions(number)
    layers[str(_first(number) + len(layers))] = nn.MaxPool2d(2)
    return layers


def kept_and_replaced(cut: int, keep: int) -> tuple[Layers, Layers]:
    """The run after the cut in two: its first `keep` convolutions, and what a bottleneck may stand for."""
    layers, stop = list(run(cut + 1).items()), 3 * keep
    return OrderedDict(layers[:stop]), OrderedDict(layers[stop:])


def channels_kept(cut: int, keep: int) -> int:
    """Channels where the device ends."""
    return RUNS[cut][keep - 1][0] if keep else channels_after(cut)


def last_run(classes: int) -> Layers:
    """Run 5 to the logits: (B, 256, H, W) -> (B, N)."""
    number = len(RUNS)
    layers = _convolutions(number)
    layers[str(_first(number) + len(layers))] = nn.Conv2d(channels_after(number), classes, 1)
    layers["mean"] = Mean()
    return layers


def original(name: str) -> str:
    """The checkpoint's name of a weight: `body.0.21.weight` is `features.21.weight`."""
    number, what = name.split(".")[-2:]
    return f"features.{number}.{what}"


class Mean(nn.Module):
    def forward(self, x_BNHW: Tensor) -> Tensor:
        return x_BNHW.mean((2, 3))


def _convolutions(number: int) -> Layers:
    layers: Layers = OrderedDict()
    given = channels_after(number - 1) if number > 1 else 3
    for channels, kernel in RUNS[number - 1]:
        for layer in (
            nn.Conv2d(given, channels, kernel, padding=kernel // 2, bias=False),
            nn.BatchNorm2d(channels, eps=EPSILON),
            nn.LeakyReLU(0.1, inplace=True),
        ):
            layers[str(_first(number) + len(layers))] = layer
        given = channels
    return layers


def _first(number: int) -> int:
    """The number of a run's first layer: three layers a convolution before it, and a pool a run."""
    return sum(3 * len(convolutions) + 1 for convolutions in RUNS[: number - 1])
