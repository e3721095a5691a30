"""How long a link takes over some bytes when its rate is known: the shape of what is left to chance.

A link that serves packets as they come (cellular, Wi-Fi) takes over n packets a Gamma-like time, its variance
`burst * packet_time * mean`: burst 1 is a Poisson server, 0 a pipe. Way and host add jitter of their own. Both are
learnt from the same residuals, each by its share of the variance (one step of expectation-maximisation a reply).
In place of the Gamma: its cube root is all but normal (Wilson and Hilferty, 1931), the normal all but logistic; so
density and distribution are one `exp` each, and belong together. A few stalls that no rate explains are mixed in.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

PACKET_BYTES = 1500
LOGISTIC = 1.702  # logistic(1.702 z) is within .01 of the normal distribution
STALL_SHARE = 0.015
STALL_S = 0.08
FIRST_BURST, BURSTS = 1.0, (0.02, 4.0)
FIRST_JITTER_S, JITTERS_S = 0.004, (0.0005, 0.03)
GAIN = 0.03
MOST_SURPRISE = 6.0  # in variances: what lies further out is a change of the link
OFFSET = 3.0  # spreads of way and server by which a time may come out early
LEAST_SHARE, LEAST_K = 0.02, 0.1  # of the mean, and of the shape: below, the cube root means nothing


class ServiceNoise:
    """Distribution of the service time around its mean `bytes / rate`, in seconds; any shapes that broadcast."""

    def __init__(self) -> None:
        self.burst = FIRST_BURST
        self.jitter_s = FIRST_JITTER_S

    def density(self, mean_s: Float64, byte_s: Float64, service_s: float) -> Float64:
        """Of a service time that was seen, per second."""
        k, share, total_s = self._shape(mean_s, mean_s, byte_s, service_s, 0.0)
        below = _logistic(share, k)
        body = LOGISTIC * below * (1 - below) * np.sqrt(k) / (total_s * np.cbrt(share) ** 2)
        late_s = np.maximum(service_s - mean_s, 0.0)
        stall = np.where(service_s > mean_s, np.exp(late_s / -STALL_S) / STALL_S, 0.0)
        mixed: Float64 = (1 - STALL_SHARE) * body + STALL_SHARE * stall
        return mixed

    def within(
        self, mean_s: Float64, slack_s: Float64 | float, byte_s: Float64, *, ahead_s: Float64 | float = 0.0,
        variance_s2: float = 0.0
    ) -> Float64:  # fmt: skip
        """Probability that the link is through after `slack_s`.

        ahead_s: mean time of our own bytes before these, whose chance adds to this frame's; variance_s2: of what
        else is uncertain (the server).
        """
        k, share, _ = self._shape(mean_s, mean_s + ahead_s, byte_s, slack_s, variance_s2)
        late_s = np.maximum(slack_s - mean_s, 0.0)
        body = np.where(share > LEAST_SHARE, _logistic(share, k), 0.0)
        mixed: Float64 = (1 - STALL_SHARE) * body - STALL_SHARE * np.expm1(late_s / -STALL_S)
        return mixed

    def learn(self, mass_R: Float64, mean_R: Float64, byte_s_R: Float64, service_s: float, weight: float = 1.0) -> None:
        """One residual, over the rates (R,) as they are believed once it has been heard; weight: as a share of one."""
        gain = weight * GAIN
        bursts_R, jitters = self.burst * PACKET_BYTES * byte_s_R * mean_R, self.jitter_s**2
        variance_R = bursts_R + jitters
        surprise_R = np.minimum(MOST_SURPRISE, (service_s - mean_R) ** 2 / variance_R) - 1
        share_R, total = bursts_R / variance_R, float(mass_R.sum())
        by_burst = float(mass_R @ (share_R * surprise_R)) / total
        by_jitter = float(mass_R @ ((1 - share_R) * surprise_R)) / total
        self.burst = min(max(self.burst * (1 + gain * by_burst), BURSTS[0]), BURSTS[1])
        self.jitter_s = min(max(self.jitter_s * (1 + gain * by_jitter) ** 0.5, JITTERS_S[0]), JITTERS_S[1])

    def _shape(
        self, mean_s: Float64, work_s: Float64, byte_s: Float64, time_s: Float64 | float, variance_s2: float
    ) -> tuple[Float64, Float64, Float64]:
        """The Gamma's shape, the time as a share of its mean, and that mean, all moved by what jitter may take off."""
        fixed = self.jitter_s**2 + variance_s2
        variance = (self.burst * PACKET_BYTES) * byte_s * work_s + fixed
        offset_s = OFFSET * math.sqrt(fixed)
        total_s = mean_s + offset_s
        share = np.maximum((time_s + offset_s) / total_s, LEAST_SHARE)
        return np.maximum(total_s**2 / variance, LEAST_K), share, total_s


def _logistic(share: Float64, k: Float64) -> Float64:
    """The Gamma of shape k, at `share` of its mean."""
    z = 3 * np.sqrt(k) * (np.cbrt(share) - 1 + 1 / (9 * k))
    below: Float64 = 1 / (1 + np.exp(np.minimum(-LOGISTIC * z, 500.0)))
    return below
