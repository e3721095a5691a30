"""Frames that degrade: whether the next piece of a frame goes to the network now, waits, or never goes.

With nested channels the width needs no prediction: a frame is worth what arrived of it in time. Only the commit
does, because bytes in a network queue cannot be taken back and stand before the base of the next frame.

    worth now   gain of the chunk, a piece's share  *  P(all of it in time)  *  P(nobody waits when it gets there)
    price       what a piece of the next frame would bring  *  P(the link is still busy with ours when that is ready)
                + what its bytes cost the operator

A piece goes where it is worth more than its price. With nothing on its way a base always goes: only an answer tells
of the link. Shape letters: C candidates, R rates.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.policy.link import Outlook
from splitrt.policy.price import FREE, Prices

Float64 = npt.NDArray[np.float64]

STEP_S = 0.003  # how soon the question is asked again
SURE = 0.9  # that the link is idle by then: from here on waiting gains nothing
LEVEL = 1.4  # of the price
BASE_WORTH = 2.0  # of what a base adds by itself: without it the chunks behind it are worth nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """What would go next of a frame: the next piece of its first chunk that is not all sent."""

    link_bytes: float
    rest_bytes: float  # of its chunk, this piece too
    gain: float  # accuracy that the chunk adds
    deadline_at: float
    is_base: bool = False  # the first of its frame


class Commits:
    """One stream's commits over one ladder of chunks."""

    def __init__(
        self, bytes_K: Sequence[float], accuracy_K: Sequence[float], local_accuracy: float, prices: Prices = FREE
    ) -> None:
        """bytes_K: of all chunks up to each, rising, on the link; accuracy_K: with these; local_accuracy: with none."""
        self._prices = prices
        self.gains = [b - a for a, b in zip([local_accuracy, *accuracy_K], accuracy_K, strict=False)]
        self._middles, self.slopes = _envelope([0.0, *bytes_K], [local_accuracy, *accuracy_K])

    def choose(self, outlook: Outlook, pieces: Sequence[Piece], next_at: float, span_s: float) -> int | None:
        """Which piece goes; None: none does, now.

        next_at: when the next frame's base will be ready; span_s: for how long the link can work for that frame.
        """
        if not pieces:
            return None
        now, byte_s_R, noise = outlook.at, outlook.byte_s_R, outlook.noise
        likely_C = outlook.in_time(
            np.array([piece.rest_bytes for piece in pieces]),
            np.full(len(pieces), now),
            np.array([piece.deadline_at for piece in pieces]),
        )
        worth_C = likely_C * [
            (BASE_WORTH if piece.is_base else 1.0) * piece.gain * piece.link_bytes / piece.rest_bytes
            for piece in pieces
        ]
        best = int(worth_C.argmax())
        cost = pieces[best].link_bytes * self._prices.of_byte(outlook.mean_byte_s)
        if outlook.is_idle and pieces[best].is_base:
            return best if worth_C[best] > cost else None
        mass_R, ahead_R = outlook.mass_N[1:], np.maximum(outlook.free_R - now, 0.0)
        idle_R = np.where(ahead_R > 0, noise.within(ahead_R, STEP_S, byte_s_R), 1.0)
        idle = float(mass_R @ idle_R)
        own_R = ahead_R + pieces[best].link_bytes * byte_s_R
        busy_R = 1 - noise.within(own_R, next_at - now, byte_s_R)
        price_R = LEVEL * pieces[best].link_bytes * np.interp(np.log(span_s / byte_s_R), self._middles, self.slopes)
        price = float(mass_R @ (price_R * busy_R)) + cost
        return best if min(1.0, idle / SURE) * worth_C[best] > price else None


def _envelope(bytes_K: Sequence[float], accuracy_K: Sequence[float]) -> tuple[Float64, Float64]:
    """Concave from above: where its segments have their middles (log of bytes), and their slopes (a byte)."""
    corners = [0]
    while corners[-1] < len(bytes_K) - 1:
        last = corners[-1]
        rises = [
            (accuracy_K[k] - accuracy_K[last]) / (bytes_K[k] - bytes_K[last]) for k in range(last + 1, len(bytes_K))
        ]
        steepest = max(rises)
        if steepest <= 0:
            break
        corners.append(last + 1 + max(place for place, rise in enumerate(rises) if rise == steepest))
    starts, stops = corners[:-1], corners[1:]
    middles = np.log([(bytes_K[a] + bytes_K[b]) / 2 for a, b in zip(starts, stops, strict=True)])
    slopes = np.array(
        [(accuracy_K[b] - accuracy_K[a]) / (bytes_K[b] - bytes_K[a]) for a, b in zip(starts, stops, strict=True)]
    )
    return middles, slopes
