"""A promise about misses: a margin off the deadline that grows with each miss and shrinks with each hit.

`margin += gain * (missed - wanted)`. At the largest margin nothing is sent, at the least one every frame would be in
time; so the mean miss rate over T frames sent stays within (most - least + gain) / (gain * T) of what is wanted, for
any link whatever (adaptive conformal inference: Gibbs and Candès, NeurIPS 2021, arXiv:2106.00170). It holds a
service level; it does not seek accuracy.
"""

from __future__ import annotations

from splitrt.errors import ConfigError

GAIN = 0.1  # of the deadline


class MissDial:
    """`margin` is a share of the deadline; from 1 on everything stays on the device."""

    def __init__(self, most_misses: float) -> None:
        """most_misses: the share of frames sent that may come late."""
        if not 0 < most_misses < 1:
            raise ConfigError(f"most_misses must be in (0, 1), got {most_misses}")
        self.most_misses = most_misses
        self.margin = 0.0

    def learn(self, is_hit: bool) -> None:
        """Of a frame that was sent."""
        self.margin = min(1.0, max(-1.0, self.margin + GAIN * ((not is_hit) - self.most_misses)))

    def rest(self) -> None:
        """Of a frame that the margin kept here: nothing was learnt, and some time something must be tried again."""
        self.margin = min(self.margin, max(0.0, self.margin - GAIN * self.most_misses))
