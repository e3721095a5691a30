"""Whole frames: the operating point whose expected accuracy at the deadline is best, or the device's own answer.

    accuracy of w  *  P(w in time)  +  accuracy of a miss  *  (1 - P)  -  price of a byte  *  bytes of w

A frame is hedged where the device's own answer covers a miss: then gambling is free, and the best point is often a
bold one. Without a hedge a miss is worth nothing, and only a sure thing is sent. Bytes cost nothing unless the
operator says so, and are paid whether they are in time or not. Ties go to the cheapest, nothing worth sending stays.
Where nothing is worth sending, now and then the cheapest goes as a probe, always hedged: only a reply says that a
link has come back, and no bytes are wasted on what is no frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.errors import ConfigError
from splitrt.policy.dial import MissDial
from splitrt.policy.link import Outlook
from splitrt.policy.price import FREE, Prices
from splitrt.policy.recalibration import Recalibration

Float64 = npt.NDArray[np.float64]

TIE, TIE_SHARE = 1e-3, 0.005  # accuracy, and of what the best point gains: less is not worth a byte
PROBE_S = 0.25  # without a frame on its way
OUT = 0.5  # believed outage: from here on a probe is always on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One way to send a frame, as the decision sees it."""

    width: int
    bits: int
    link_bytes: float  # of a typical frame, header included
    accuracy: float
    head_s: float = 0.0  # from the decision until the frame is handed over
    least_chunks: int = 0  # an answer from so many of its chunks beats the device's own; 0: only from all of them
    in_time: float | None = None  # of one that was chosen: how likely it was held to be in time, before recalibration
    is_probe: bool = False  # sent for the answer's sake


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """Where a frame goes: `index` among the choices. `raw`, `probability`: in time, as modelled and recalibrated."""

    choice: Choice
    index: int
    raw: float
    probability: float
    is_probe: bool


class WholeFrames:
    """One stream's decisions over a bundle's front."""

    def __init__(
        self,
        choices: Sequence[Choice],
        local_accuracy: float | None,
        *,
        is_hedged: bool = True,
        most_misses: float | None = None,
        prices: Prices = FREE,
    ) -> None:
        """choices: cheapest first, accuracy rising. local_accuracy: of the device's own answer; None where it has none.

        is_hedged: the device's own answer is computed in any case, and a reply in time overrides it. prices: of bytes
        and energy; that of time has no part here, for an answer by the deadline is as good as any.
        """
        bytes_W = [choice.link_bytes for choice in choices]
        if bytes_W != sorted(bytes_W):
            raise ConfigError(f"choices must rise in link_bytes, got {bytes_W[:4]}")
        self.choices = tuple(choices)
        self.recalibration = Recalibration()
        self.dial = None if most_misses is None else MissDial(most_misses)
        self._bytes_W: Float64 = np.array(bytes_W, dtype=np.float64)
        self._head_W: Float64 = np.array([choice.head_s for choice in choices], dtype=np.float64)
        self._accuracy_W: Float64 = np.array([choice.accuracy for choice in choices], dtype=np.float64)
        self._local = local_accuracy or 0.0
        self._missed = self._local if is_hedged else 0.0
        self._prices = prices
        gains = [choice.accuracy - self._local for choice in choices]
        self._tie = min(TIE, TIE_SHARE * max(0.0, max(gains, default=0.0)))
        self._sent_at = float("-inf")

    def choose(self, outlook: Outlook, deadline_at: float, before_s: float = 0.0) -> Decided | None:
        """before_s: from now until the head may begin. None: the frame stays on the device."""
        if not self.choices:
            return None
        now = outlook.at
        raw_W, likely_W, value_W = self._values(outlook, deadline_at, before_s + self._head_W)
        best = self._best(value_W)
        if not np.any(self._accuracy_W - self._cost_W(outlook) > self._local):
            return None  # not on the best of links: nothing is to be learnt, either
        is_probe = bool(value_W[best] <= self._local + self._tie) or (self.dial is not None and self.dial.margin >= 1)
        if is_probe:
            if self.dial is not None:
                self.dial.rest()
            if not outlook.is_idle or (now - self._sent_at < PROBE_S and outlook.mass_N[0] < OUT):
                return None
            best = 0
        self._sent_at = now
        return self._decided(best, raw_W, likely_W, is_probe)

    def recheck(self, outlook: Outlook, deadline_at: float, index: int) -> Decided | None:
        """The head is done and the frame would be handed over: at the point it was made for, at a cheaper one, which
        lies within its bytes, or not at all. What was on its way and is still not answered has spoken since.
        """
        raw_W, likely_W, value_W = self._values(outlook, deadline_at, np.zeros(len(self.choices)))
        best = self._best(value_W[: index + 1])
        if value_W[best] <= self._local:
            return None
        return self._decided(best, raw_W, likely_W)

    def _values(self, outlook: Outlook, deadline_at: float, ready_W: Float64) -> tuple[Float64, Float64, Float64]:
        """In time as modelled and recalibrated, and expected accuracy; ready_W: seconds until it can be handed over."""
        if self.dial is not None:
            deadline_at -= self.dial.margin * max(0.0, deadline_at - outlook.at)
        raw_W = outlook.in_time(self._bytes_W, outlook.at + ready_W, deadline_at)
        likely_W = self.recalibration.apply(raw_W)
        value_W = self._missed + (self._accuracy_W - self._missed) * likely_W - self._cost_W(outlook)
        return raw_W, likely_W, value_W

    def _cost_W(self, outlook: Outlook) -> Float64 | float:
        """In accuracy."""
        if not (self._prices.kilobyte or self._prices.joule):
            return 0.0
        return self._bytes_W * self._prices.of_byte(outlook.mean_byte_s)

    def _best(self, value_W: Float64) -> int:
        return int((value_W >= value_W.max() - self._tie).argmax())

    def _decided(self, index: int, raw_W: Float64, likely_W: Float64, is_probe: bool = False) -> Decided:
        return Decided(
            choice=self.choices[index],
            index=index,
            raw=float(raw_W[index]),
            probability=float(likely_W[index]),
            is_probe=is_probe,
        )

    def ended(self, raw: float, is_probe: bool, is_hit: bool) -> None:
        """What became of a frame that was sent: answered in time, or not. raw: its probability as modelled."""
        self.recalibration.learn(raw, is_hit)
        if self.dial is not None and not is_probe:
            self.dial.learn(is_hit)
