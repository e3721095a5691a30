"""What the link costs, as a threshold: below it a frame is worth sending.

A frame that the device is sure of to p gains  P (q_w(p) - p)  by being sent at point w, where P is the chance of a
reply in time and q_w(p) that of a right reply for a frame of this confidence: hard inputs are hard for the server too,
so its marginal accuracy would send too many. It costs bytes, time and energy. It stays where the gain is not worth
the cost; as the gain falls with p, that is a threshold. A slower or dearer link lowers it, a link that is gone to 0.
It comes on top of the certified floor: what stays is never less sure than that.

Shape letters: K bins of confidence, rising.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.policy.guarantee import NEVER

Float64 = npt.NDArray[np.float64]

TIE = 1e-3  # accuracy: less is not worth a byte


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What an operator would give up for it, in right answers: 0.5 a second is a point of accuracy for 20 ms."""

    second: float = 0.0
    kilobyte: float = 0.0
    joule: float = 0.0
    radio_w: float = 1.0  # while sending

    def of(self, seconds: float, link_bytes: float, sending_s: float) -> float:
        """seconds: until the reply; sending_s: of them, with the radio on."""
        return self.second * seconds + self.kilobyte * link_bytes / 1024 + self.joule * self.radio_w * sending_s

    def of_byte(self, byte_s: float) -> float:
        """byte_s: seconds that it takes, with the radio on."""
        return self.kilobyte / 1024 + self.joule * self.radio_w * byte_s


FREE = Prices()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gains:
    """Of a point: how often the device's own answer, and the server's, is right in each bin of confidence."""

    edge_K: Float64  # the lower edge of each bin
    own_K: Float64
    remote_K: Float64

    def threshold(self, in_time: float, cost: float) -> float:
        """The confidence from which no frame's gain is worth the cost; NEVER where all are worth it."""
        stays_K = in_time * (self.remote_K - self.own_K) <= cost + TIE
        worth = np.flatnonzero(~stays_K)
        if not len(worth):
            return 0.0
        last = int(worth[-1])
        return NEVER if last == len(stays_K) - 1 else float(self.edge_K[last + 1])


def binned(confidence_S: Float64, right_S: npt.NDArray[np.bool_], edge_K: Float64) -> Float64:
    """How often it is right in each bin, rising with confidence: means, and those that fall pooled until none does
    (isotonic regression by pool adjacent violators). A bin without samples says what the one below it does.
    """
    bin_S = np.clip(np.searchsorted(edge_K, confidence_S, side="right") - 1, 0, len(edge_K) - 1)
    blocks: list[list[float]] = []  # right, samples, bins
    for place in range(len(edge_K)):
        here_S = bin_S == place
        blocks.append([float(right_S[here_S].sum()), float(here_S.sum()), 1])
        while len(blocks) > 1 and blocks[-2][0] * blocks[-1][1] >= blocks[-1][0] * blocks[-2][1]:
            last = blocks.pop()
            blocks[-1] = [one + other for one, other in zip(blocks[-1], last, strict=True)]
    means = [np.full(int(bins), right / max(samples, 1)) for right, samples, bins in blocks]
    return np.concatenate(means)


def edges(confidence_S: Float64, bins: int) -> Float64:
    """Lower edges of bins with about as many samples each; the lowest is 0."""
    inner = np.quantile(confidence_S, np.arange(1, bins) / bins)
    return np.unique(np.concatenate([[0.0], inner]))
