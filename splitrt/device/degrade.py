"""Frames in chunks, for a bundle whose widths are nested: the ladder that a stream climbs, and the strategy that does.

Every frame is encoded at the widest width that is worth it; how much of it goes is decided piece by piece, by the
queue (`splitrt.device.chunk_queue`), and late chunks cost width, not the frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from splitrt.bundle import Bundle
from splitrt.calibration import Point
from splitrt.config import ClientConfig
from splitrt.device.chunk_queue import ChunkQueue
from splitrt.device.local import BottleneckDevice, Device, Encoded, Looked
from splitrt.device.strategy import HEADER_BYTES, Adaptive
from splitrt.errors import ConfigError
from splitrt.policy.commit import Commits
from splitrt.policy.decision import Choice
from splitrt.policy.degrading import Degrading
from splitrt.policy.link import LinkEstimate
from splitrt.policy.price import FREE, Prices
from splitrt.policy.queue import InFlight


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """The rungs that a frame climbs: so many of its chunks, one a width, what they weigh on the link and are worth.

    On frames that no exit is sure of: those are sent. A width that is no better than what comes before it, or than the
    device's own answer, is climbed past.
    """

    width: int  # with all chunks
    bits: int
    chunks: tuple[int, ...]
    link_bytes: tuple[float, ...]
    accuracy: tuple[float, ...]
    local_accuracy: float

    @classmethod
    def of(cls, bundle: Bundle) -> Ladder:
        """At the bit depth of the best accuracy. Raises ConfigError where widths are not nested or none is worth it."""
        name, seam, curve = bundle.manifest.name, bundle.manifest.seam, bundle.calibration.exit
        if seam.tensors or seam.sum_channels:
            raise ConfigError(f"frames degrade where a bundle's widths are nested, those of {name} are not")
        local = curve.unsure if curve else 0.0
        every = bundle.calibration.points_when_unsure()
        bits = max(every, key=lambda point: (point.accuracy, -point.payload_bytes_mean)).bits
        points = sorted((one for one in every if one.bits == bits), key=lambda one: one.width)
        rungs: list[tuple[int, Point]] = []
        for chunks, point in enumerate(points, 1):
            if point.accuracy > (rungs[-1][1].accuracy if rungs else local):
                rungs.append((chunks, point))
        if not rungs:
            raise ConfigError(
                f"frames degrade where a width beats the device's own answer ({local:.3f}), {name} has none"
            )
        return cls(
            width=rungs[-1][1].width,
            bits=bits,
            chunks=tuple(chunks for chunks, _ in rungs),
            link_bytes=tuple(point.payload_bytes_mean + HEADER_BYTES for _, point in rungs),
            accuracy=tuple(point.accuracy for _, point in rungs),
            local_accuracy=local,
        )


class Degrade(Adaptive):
    """Exit when sure; else all that is worth it, in chunks."""

    def __init__(self, bundle: Bundle, config: ClientConfig | None = None) -> None:
        super().__init__(bundle, config)
        ladder = Ladder.of(bundle)
        self._choice = Choice(
            width=ladder.width,
            bits=ladder.bits,
            link_bytes=ladder.link_bytes[-1],
            accuracy=ladder.accuracy[-1],
            least_chunks=ladder.chunks[0],
        )

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return self._choice

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        assert isinstance(device, BottleneckDevice)
        return device.encode_chunks(looked, choice.width, choice.bits)


def chunk_queue(
    ladder: Ladder, estimate: LinkEstimate, clock: Callable[[], float], prices: Prices = FREE
) -> ChunkQueue:
    """The queue of a stream of such frames."""
    commits = Commits(ladder.link_bytes, ladder.accuracy, ladder.local_accuracy, prices)
    return ChunkQueue(Degrading(estimate, commits), ladder.chunks, clock)
