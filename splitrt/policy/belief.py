"""What the device believes of the link's rate: a Bayes filter over its logarithm, and a state of outage.

Between replies the belief spreads as heat does along the grid (a random walk of the log-rate that reflects at both
ends), and now and then the link is another one: mass moves towards what this link usually is. A reply weighs every
rate by how well it explains the time seen. A reply that only an outage explains says that the link is back, at some
rate that is usual. Silence weighs too, but only for a decision: it is never committed, the reply will say it better.

Close to Sprout (Winstein et al., NSDI 2013), with one sample a frame in place of one a packet.
Shape letters: N states, the outage first; R rates.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

Float64 = npt.NDArray[np.float64]

RATES = 56
SLOWEST, FASTEST = 1_500.0, 12.5e6  # bytes per second: 12 kbit/s to 100 Mbit/s
WALK = 0.9  # octaves, standard deviation after a second
RENEWAL = 0.25  # a second: how often the link is another one
FIRST_RATE, FIRST_SPREAD = 125_000.0, 2.5  # bytes per second: 1 Mbit/s; octaves, standard deviation
FIRST_OUTAGE = 0.15
LEAST_OUTAGE = 0.003
OUTAGE_S = 1.0  # mean length
USUAL_S = 20.0  # memory of what is usual
BROAD_SHARE = 0.2  # of the first prior that never leaves what is usual
FLOOR = 1e-7

RATES_R: Float64 = np.geomspace(SLOWEST, FASTEST, RATES)
BYTE_S_R: Float64 = 1 / RATES_R
OCTAVES = math.log2(FASTEST / SLOWEST) / (RATES - 1)  # from one rate to the next
PLACES_R: Float64 = np.arange(RATES, dtype=np.float64) + 0.5  # up to where each rate's share of the grid reaches


def _heat() -> tuple[Float64, Float64]:
    """Eigenvectors (R, R) and decay (R,) of the walk on the grid's path: spreading for a, then b, is for a + b."""
    steps_R = np.arange(RATES)
    basis_RR = np.cos(np.pi * np.outer(steps_R + 0.5, steps_R) / RATES)
    basis_RR /= np.linalg.norm(basis_RR, axis=0)
    decay_R = (WALK / OCTAVES) ** 2 * (1 - np.cos(np.pi * steps_R / RATES))
    return basis_RR, decay_R


BASIS_RR, DECAY_R = _heat()
BASIS_T_RR: Float64 = np.ascontiguousarray(BASIS_RR.T)


def broad() -> Float64:
    """The first prior, (N,)."""
    away_R = np.log2(RATES_R / FIRST_RATE) / FIRST_SPREAD
    shape_R = np.exp(-0.5 * away_R**2)
    return np.concatenate([[FIRST_OUTAGE], (1 - FIRST_OUTAGE) * shape_R / shape_R.sum()])


class Belief:
    """Probabilities of the states, (N,), at the time of the last reply."""

    def __init__(self) -> None:
        self.mass_N = broad()
        self.usual_N = broad()
        self._at: float | None = None

    @property
    def outage(self) -> float:
        return float(self.mass_N[0])

    def rate(self, share: float = 0.5) -> float:
        """Bytes per second: the median of the rates, or another quantile, whatever the outage; between the grid's."""
        through_R = np.cumsum(self.mass_N[1:])
        place = float(np.interp(through_R[-1] * share, through_R, PLACES_R))
        return float(SLOWEST * 2.0 ** (OCTAVES * min(max(place, 0.0), RATES - 1.0)))

    def ahead(self, at: float) -> Float64:
        """The belief at a later time, nothing heard since; changes nothing."""
        since_s = 0.0 if self._at is None else max(0.0, at - self._at)
        if since_s == 0.0:
            return self.mass_N
        spread_R = BASIS_RR @ (np.exp(-since_s * DECAY_R) * (BASIS_T_RR @ self.mass_N[1:]))
        renewed = -math.expm1(-RENEWAL * since_s)
        mass_N = renewed * self.usual_N
        mass_N[0] += (1 - renewed) * self.mass_N[0]
        mass_N[1:] += (1 - renewed) * np.maximum(spread_R, 0.0)
        return mass_N

    def hear(self, at: float, density_R: Float64, service_s: float) -> None:
        """A reply whose service time has this density at each rate; `at` may not count on rising."""
        mass_N = self.ahead(at)
        since_s = 0.0 if self._at is None else max(0.0, at - self._at)
        self._at = at if self._at is None else max(self._at, at)
        weighed_R = mass_N[1:] * density_R
        # An outage that ends with this reply: the link is back, at a rate that is usual.
        ended = mass_N[0] * math.exp(-max(0.0, min(service_s, 1e3)) / OUTAGE_S) / OUTAGE_S
        weighed_R += ended * self.usual_N[1:] / self.usual_N[1:].sum()
        total = float(weighed_R.sum())
        if not 0 < total < math.inf:
            return
        fresh_N = np.empty_like(mass_N)
        fresh_N[0] = LEAST_OUTAGE
        np.maximum(weighed_R / total, FLOOR, out=fresh_N[1:])
        self.mass_N = fresh_N / fresh_N.sum()
        share = -math.expm1(-since_s / USUAL_S)
        self.usual_N = self.usual_N + share * ((1 - BROAD_SHARE) * self.mass_N + BROAD_SHARE * BROAD_N - self.usual_N)

    def doubt(self) -> None:
        """Another connection: perhaps another network."""
        self.mass_N = 0.5 * self.mass_N + 0.5 * BROAD_N


BROAD_N: Float64 = broad()
