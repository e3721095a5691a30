"""Is the promise kept in service? A few of the frames that exit are sent all the same, and the answers compared.

Each would-be exit is drawn for audit with probability `share`, whatever it shows. If exits that the server answers
otherwise are at most a share m of all frames, audited ones turn up at a rate of at most m * share, and betting against
that gains nothing on average: the wealth

    W(m) = mean over bets b of (1 - b m)^(frames - found) (1 + b (1 / share - m))^found

is a supermartingale, so it ever reaches 1 / delta with probability delta at most, however long one looks (Ville;
Waudby-Smith and Ramdas, 2020, arXiv:2010.09686). The m at which it just does not is a lower bound of the true share,
valid at every moment. Above the bound that calibration found, an alarm: the device asks for more confidence from then
on, and each further alarm for more again, until a bundle calibrated anew takes its place.

Seeded and without a clock: the same frames give the same draws.
"""

from __future__ import annotations

import math
import random

from splitrt.errors import ConfigError

BETS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)  # over the share: each is best against one excess
TIGHTER = math.log(3.0)  # of the odds at the threshold, an alarm
LEAST = 1e-6  # a threshold of 0 has no odds
STEPS = 40  # of the bisection for the lower bound


class Audit:
    """bound: most of all frames that may exit and be answered otherwise; share: of would-be exits that are sent."""

    def __init__(self, bound: float, delta: float, share: float, seed: int = 0) -> None:
        if not 0 <= share <= 1:
            raise ConfigError(f"audit_share must be from 0 to 1, got {share}")
        self.bound, self.delta, self.share = bound, delta, share
        self.frames = self.exits = self.audited = self.answered = self.found = 0
        self.alarms = 0
        self._since = (0, 0)  # frames and found at the last alarm
        self._draws = random.Random(seed)

    def draw(self, is_exit: bool, can_send: bool = True) -> bool:
        """A frame was looked at, and may exit: is it sent all the same?"""
        self.frames += 1
        if not is_exit:
            return False
        self.exits += 1
        is_drawn = self._draws.random() < self.share and can_send
        self.audited += is_drawn
        return is_drawn

    def observe(self, is_other: bool) -> bool:
        """The server's answer to an audited frame: is it another? True where that raises an alarm."""
        self.answered += 1
        self.found += is_other
        if self._wealth(self.bound) < 1 / self.delta:
            return False
        self.alarms += 1
        self._since = (self.frames, self.found)
        return True

    @property
    def risk(self) -> float:
        """Estimated share of all frames that exit and would be answered otherwise."""
        return self.found / self.answered * self.exits / self.frames if self.answered else 0.0

    @property
    def risk_low(self) -> float:
        """Its lower bound since the last alarm, at confidence 1 - delta at all moments together."""
        if self._wealth(0.0) < 1 / self.delta:
            return 0.0
        low, high = 0.0, 1.0
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if self._wealth(middle) >= 1 / self.delta else (low, middle)
        return low

    def tightened(self, threshold: float) -> float:
        """The threshold in force after the alarms so far."""
        if not self.alarms or threshold >= 1:
            return threshold
        sound = max(threshold, LEAST)
        return 1 / (1 + math.exp(-math.log(sound / (1 - sound)) - TIGHTER * self.alarms))

    def _wealth(self, share: float) -> float:
        frames, found = self.frames - self._since[0], self.found - self._since[1]
        if not self.share:
            return 0.0
        logs = []
        for bet in (min(1.0, self.share * size) for size in BETS):
            logs.append((frames - found) * math.log1p(-bet * share) if bet * share < 1 else -math.inf)
            logs[-1] += found * math.log1p(bet * (1 / self.share - share))
        highest = max(logs)
        if highest > 700:
            return math.inf
        return sum(math.exp(one) for one in logs) / len(logs)
