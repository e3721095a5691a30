"""How a client treats its frames: ours, and the baselines that the demo and the benchmarks run beside it.

A strategy answers two questions: what is sent at which point, and is the device's own answer final; and it is
told what became of what it sent. Strategies are values passed to a client, not modes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from splitrt.bundle import Bundle
from splitrt.calibration import ExitCurve
from splitrt.config import ClientConfig
from splitrt.device.local import Device, Encoded, Looked
from splitrt.device.result import Classes
from splitrt.policy.audit import Audit
from splitrt.policy.decision import Choice, Decided, WholeFrames
from splitrt.policy.link import LinkEstimate
from splitrt.policy.price import Gains, Prices
from splitrt.policy.queue import InFlight

log = logging.getLogger(__name__)

HEADER_BYTES = 46  # ours around a payload: 32 of the message, 14 of HTTP/2 and gRPC


class Strategy(Protocol):
    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        """Where to send it; None: stay on the device."""

    def recheck(self, link: LinkEstimate, choice: Choice, left_s: float, in_flight: InFlight) -> Choice | None:
        """The frame is ready to be handed over, and another is still on its way: as it is, cheaper, or None."""

    def threshold(self, link: LinkEstimate, choice: Choice | None) -> float | None:
        """The confidence that makes an answer of the device's own a sure one; None: the bundle's certified one."""

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        """The device's own answer is sent to nobody: it is the result. Asked once a frame, on the head's thread."""

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        """The bytes to send. Runs on the head's thread."""

    def ended(self, choice: Choice, is_hit: bool) -> None:
        """A frame sent at this choice was answered in time, or was not."""

    def answered(self, looked: Looked, output: Any) -> None:
        """What the server said of a frame that the device had an answer of its own to."""


class Adaptive:
    """Exit when sure; else the point of the best expected accuracy at the deadline, a miss covered by the exit.

    Sure: at or above the certified threshold, and above what the link asks for the frame. No network makes an answer
    below the former a voluntary one: what is given then is a fallback, counted apart.
    """

    def __init__(self, bundle: Bundle, config: ClientConfig | None = None) -> None:
        config = config or ClientConfig()
        self._rule = bundle.manifest.exits
        curve = bundle.calibration.exit if self._rule is not None else None
        local = curve.unsure if curve else None
        self._prices = prices_of(config)
        self._frames = WholeFrames(choices_of(bundle), local, most_misses=config.most_misses, prices=self._prices)
        self._gains = gains_of(curve) if curve else {}
        self.audit = Audit(curve.differing, curve.delta, config.audit_share, config.audit_seed) if curve else None

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        decided = self._frames.choose(link.outlook(in_flight), in_flight.at + left_s)
        return _chosen(decided)

    def recheck(self, link: LinkEstimate, choice: Choice, left_s: float, in_flight: InFlight) -> Choice | None:
        if choice.is_probe or choice.in_time is None:
            return choice
        places = [(one.width, one.bits) for one in self._frames.choices]
        index = places.index((choice.width, choice.bits))
        decided = self._frames.recheck(link.outlook(in_flight), in_flight.at + left_s, index)
        return choice if decided is not None and decided.index == index else _chosen(decided)

    def threshold(self, link: LinkEstimate, choice: Choice | None) -> float | None:
        if self._rule is None or self.audit is None:
            return None
        floor = self.audit.tightened(self._rule.threshold)
        gains = self._gains.get((choice.width, choice.bits)) if choice else None
        if choice is None or choice.in_time is None or gains is None:
            return floor
        in_time = float(self._frames.recalibration.apply(np.array([choice.in_time]))[0])
        sending_s = choice.link_bytes / link.rate
        cost = self._prices.of(link.round_trip_s + link.server_s + sending_s, choice.link_bytes, sending_s)
        return max(floor, gains.threshold(in_time, cost))

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        if self.audit is None:
            return looked.is_sure
        is_drawn = self.audit.draw(looked.is_sure, can_send=choice is not None)
        return looked.is_sure and not is_drawn

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        return device.encode(looked, choice.width, choice.bits)

    def ended(self, choice: Choice, is_hit: bool) -> None:
        if choice.in_time is not None:
            self._frames.ended(choice.in_time, choice.is_probe, is_hit)

    def answered(self, looked: Looked, output: Any) -> None:
        if self.audit is None or not (looked.is_sure and isinstance(looked.answer, Classes)):
            return
        if self.audit.observe(not isinstance(output, Classes) or output.label != looked.answer.label):
            log.warning(
                "exits are answered otherwise by the server more often than calibration found (%.3f of all frames, at "
                "most %.3f): they need more confidence from here on, and the bundle to be calibrated anew",
                self.audit.risk,
                self.audit.bound,
            )


class Fixed:
    """Every frame at one point, whatever the link does."""

    def __init__(self, width: int, bits: int) -> None:
        self._choice = Choice(width=width, bits=bits, link_bytes=0, accuracy=1)

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return self._choice

    def recheck(self, link: LinkEstimate, choice: Choice, left_s: float, in_flight: InFlight) -> Choice | None:
        return choice

    def threshold(self, link: LinkEstimate, choice: Choice | None) -> float | None:
        return None

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        return False

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        return device.encode(looked, choice.width, choice.bits)

    def ended(self, choice: Choice, is_hit: bool) -> None:
        """Nothing to learn."""

    def answered(self, looked: Looked, output: Any) -> None:
        """Nothing to learn."""


class Photographs(Fixed):
    """Every frame as JPEG to the whole model on the server."""

    def __init__(self, quality: int) -> None:
        super().__init__(0, 0)
        self._quality = quality

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        return device.photograph(frame, self._quality)


class Alone:
    """The exits answer every frame, the last one where none is sure; nothing is sent."""

    def choose(self, link: LinkEstimate, left_s: float, in_flight: InFlight) -> Choice | None:
        return None

    def recheck(self, link: LinkEstimate, choice: Choice, left_s: float, in_flight: InFlight) -> Choice | None:
        return choice

    def threshold(self, link: LinkEstimate, choice: Choice | None) -> float | None:
        return None

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        return True

    def encode(self, device: Device, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        raise AssertionError("a frame that stays on the device is not encoded")

    def ended(self, choice: Choice, is_hit: bool) -> None:
        """Nothing is sent."""

    def answered(self, looked: Looked, output: Any) -> None:
        """Nothing is sent."""


def _chosen(decided: Decided | None) -> Choice | None:
    return None if decided is None else replace(decided.choice, in_time=decided.raw, is_probe=decided.is_probe)


def prices_of(config: ClientConfig) -> Prices:
    return Prices(
        second=config.price_per_s,
        kilobyte=config.price_per_kb,
        joule=config.price_per_joule,
        radio_w=config.radio_w,
    )


def choices_of(bundle: Bundle) -> Sequence[Choice]:
    """The bundle's calibrated points worth choosing from, cheapest first, with our header's bytes.

    Their accuracy is that on frames that no exit is sure of, where there are exits: hard frames are hard for the server
    too, and one that the device hardly knows gains more by being sent than the average frame.
    """
    calibration = bundle.calibration
    points = calibration.front() if bundle.manifest.exits is None else calibration.front_when_unsure()
    return [
        Choice(
            width=point.width,
            bits=point.bits,
            link_bytes=point.payload_bytes_mean + HEADER_BYTES,
            accuracy=point.accuracy,
        )
        for point in points
    ]


def gains_of(curve: ExitCurve) -> dict[tuple[int, int], Gains]:
    """What sending a frame at each point gains over the device's own answer, by its confidence."""
    edge_K, own_K = np.array(curve.edges), np.array(curve.own)
    return {
        (point.width, point.bits): Gains(edge_K=edge_K, own_K=own_K, remote_K=np.array(point.right))
        for point in curve.remote
    }
