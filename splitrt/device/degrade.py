"""Frames in chunks, for a bundle whose widths are nested: the ladder that a stream climbs, and the strategy that does.

Every frame is encoded at the widest width that is worth it; how much of it goes is decided piece by piece, by the
queue (`splitrt.device.chunk_queue`), and late chunks cost width, not the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from splitrt.bundle import Bundle
from splitrt.config import ClientConfig
from splitrt.device.chunk_queue import ChunkQueue
from splitrt.device.local import BottleneckDevice, Device, Encoded, Looked
from splitrt.device.strategy import HEADER_BYTES, Adaptive
from splitrt.errors import ConfigError
from splitrt.policy.commit import Commits
from splitrt.policy.decision import Choice
from splitrt.policy.degrading import Degrading
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What a frame is worth with its first chunks, one a width, and what they weigh on the link together."""

    widths: tuple[int, ...]
    bits: int
    link_bytes: tuple[float, ...]
    accuracy: tuple[float, ...]
    local_accuracy: float
    least_chunks: int  # whose answer beats the device's own

    @classmethod
    def of(cls, bundle: Bundle) -> Ladder:
        """At the bit depth of the best accuracy. Raises ConfigError where widths are not nested."""
        seam, curve = bundle.manifest.seam, bundle.calibration.exit
        if seam.tensors or seam.sum_channels:
            raise ConfigError(
                f"frames degrade where the widths of a bundle are nested, those of {bundle.manifest.name} are not"
            )
        local = curve.accuracy if curve else 0.0
        bits = max(bundle.calibration.points, key=lambda point: (point.accuracy, -point.payload_bytes_mean)).bits
        points = sorted((one for one in bundle.calibration.points if one.bits == bits), key=lambda one: one.width)
        # A width that is no better than a narrower one is climbed past: its gain is that of the next that is.
        corners = [(0.0, local)]
        for point in points:
            if point.accuracy > corners[-1][1]:
                corners.append((point.payload_bytes_mean + HEADER_BYTES, point.accuracy))
        if len(corners) == 1:
            raise ConfigError(f"no width of {bundle.manifest.name} beats the device's own answer, {local:.3f}")
        useful = [one for one in points if one.payload_bytes_mean + HEADER_BYTES <= corners[-1][0]]
        sizes = [one.payload_bytes_mean + HEADER_BYTES for one in useful]
        accuracy = np.interp(sizes, [size for size, _ in corners], [right for _, right in corners])
        return cls(
            widths=tuple(one.width for one in useful),
            bits=bits,
            link_bytes=tuple(sizes),
            accuracy=tuple(accuracy.tolist()),
            local_accuracy=local,
            least_chunks=1 + next(k for k, one in enumerate(useful) if one.accuracy > local),
        )


class Degrade(Adaptive):
    """Exit when sure; else all that is worth it, in chunks."""

    def __init__(self, bundle: Bundle, config: ClientConfig | None = None) -> None:
        super().__init__(bundle)
        ladder = Ladder.of(bundle)
        self._choice = Choice(
            width=ladder.widths[-1],
            bits=ladder.bits,
            link_bytes=ladder.link_bytes[-1],
            accuracy=ladder.accuracy[-1],
            least_chunks=ladder.least_chunks,
        )

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return self._choice

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        assert isinstance(device, BottleneckDevice)
        return device.encode_chunks(looked, choice.width, choice.bits)


def chunk_queue(ladder: Ladder, estimate: LinkEstimate, clock: Callable[[], float]) -> ChunkQueue:
    """The queue of a stream of such frames."""
    commits = Commits(ladder.link_bytes, ladder.accuracy, ladder.local_accuracy)
    return ChunkQueue(Degrading(estimate, commits), clock)
