"""How a client treats its frames: ours, and the baselines that the demo and the benchmarks run beside it.

A strategy answers two questions: is the device's own answer final, and what is sent at which point; and it is
told what became of what it sent. Strategies are values passed to a client, not modes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from splitrt.bundle import Bundle
from splitrt.device.local import Device, Encoded, Looked
from splitrt.policy.decision import Choice, WholeFrames
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight

HEADER_BYTES = 46  # ours around a payload: 32 of the message, 14 of HTTP/2 and gRPC


class Strategy(Protocol):
    def is_final(self, looked: Looked) -> bool:
        """The device's own answer is sent to nobody: it is the result."""

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        """Where to send it; None: stay on the device."""

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        """The bytes to send. Runs on the head's thread."""

    def ended(self, choice: Choice, is_hit: bool) -> None:
        """A frame sent at this choice was answered in time, or was not."""


class Adaptive:
    """Exit when sure; else the point of the best expected accuracy at the deadline, a miss covered by the exit."""

    def __init__(self, bundle: Bundle) -> None:
        exit_curve = bundle.calibration.exit
        has_exit = bundle.manifest.exit is not None and exit_curve is not None
        self._frames = WholeFrames(choices_of(bundle), exit_curve.accuracy if exit_curve and has_exit else None)

    def is_final(self, looked: Looked) -> bool:
        return looked.is_sure

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        decided = self._frames.choose(link.outlook(in_flight), in_flight.at + left_s)
        return None if decided is None else replace(decided.choice, in_time=decided.raw)

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        return device.encode(looked, choice.width, choice.bits)

    def ended(self, choice: Choice, is_hit: bool) -> None:
        if choice.in_time is not None:
            self._frames.recalibration.learn(choice.in_time, is_hit)


class Fixed:
    """Every frame at one point, whatever the link does."""

    def __init__(self, width: int, bits: int) -> None:
        self._choice = Choice(width=width, bits=bits, link_bytes=0, accuracy=1)

    def is_final(self, looked: Looked) -> bool:
        return False

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return self._choice

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        return device.encode(looked, choice.width, choice.bits)

    def ended(self, choice: Choice, is_hit: bool) -> None:
        """Nothing to learn."""


class Photographs(Fixed):
    """Every frame as JPEG to the whole model on the server."""

    def __init__(self, quality: int) -> None:
        super().__init__(0, 0)
        self._quality = quality

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        return device.photograph(frame, self._quality)


class Alone:
    """The last exit answers every frame; nothing is sent."""

    def is_final(self, looked: Looked) -> bool:
        return True

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return None

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        raise AssertionError("a frame that stays on the device is not encoded")

    def ended(self, choice: Choice, is_hit: bool) -> None:
        """Nothing is sent."""


def choices_of(bundle: Bundle) -> Sequence[Choice]:
    """The bundle's calibrated points worth choosing from, cheapest first, with our header's bytes."""
    return [
        Choice(
            width=point.width,
            bits=point.bits,
            link_bytes=point.payload_bytes_mean + HEADER_BYTES,
            accuracy=point.accuracy,
        )
        for point in bundle.calibration.front()
    ]
