"""Which side does what for the next tokens: by expected seconds a token, and not at every whim of an estimate.

split   drafted on the device, verified on the server
stream  said by the server alone, a token a pass: the round trip is paid once
server  said by the server, speculating with its own copy of the drafter
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Mode = Literal["split", "stream", "server"]
MODES: tuple[Mode, ...] = ("split", "stream", "server")
MARGIN = 0.03  # a mode must be better by this share
PATIENCE = 2  # decisions in a row


class Router:
    def __init__(self, start: Mode = "server") -> None:
        self.mode: Mode = start
        self._rival: Mode | None = None
        self._times = 0

    def pick(self, token_s: Mapping[Mode, float], switch_s: float = 0.0) -> Mode:
        """token_s: expected seconds a token of each mode that can be had; the present one is among them. switch_s: what
        it takes to leave that now, for each of the tokens that are left.
        """
        best, present_s = min(token_s, key=lambda mode: token_s[mode]), token_s.get(self.mode, float("inf"))
        if best == self.mode or token_s[best] > (1 - MARGIN) * present_s:
            self._rival, self._times = None, 0
            return self.mode
        self._times = self._times + 1 if best == self._rival else 1
        self._rival = best
        if self._times >= PATIENCE and token_s[best] + switch_s < present_s:
            self.mode, self._rival, self._times = best, None, 0
        return self.mode
