"""What a caller asks of one text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from splitrt.errors import InvalidInput
from splitrt.language.sampling import Sampling
from splitrt.language.text import Stop
from splitrt.policy.modes import MODES, Mode

Offline = Literal["verify", "keep", "hold"]
OFFLINE = ("verify", "keep", "hold")
WAYS = ("auto", *MODES)
LONGEST_DRAFT = 48
MOST_BRANCHES = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the caller asked for. offline: what becomes of tokens said while the server could not be asked."""

    prompt: tuple[int, ...]
    vocabulary: int
    sampling: Sampling
    stop: Stop
    offline: Offline = "verify"
    mode: Mode | Literal["auto"] = "split"
    draft_tokens: int | None = 4  # None: as long as it pays, by what is measured
    in_flight: int | None = None  # rounds at once, 1 or 2; None: as it pays
    branches: int = 1  # above 1: drafts are trees, so many children a node and as many times the nodes
    patience_s: float | None = None  # None: learnt from the rounds

    def __post_init__(self) -> None:
        if self.offline not in OFFLINE:
            raise InvalidInput(f"offline must be one of {', '.join(OFFLINE)}, got {self.offline!r}")
        if not self.prompt:
            raise InvalidInput("a prompt must be at least one token, got none")
        if odd := [one for one in self.prompt if not 0 <= one < self.vocabulary]:
            raise InvalidInput(f"a prompt's tokens must be from 0 to {self.vocabulary - 1}, got {odd[0]}")
        if self.mode not in WAYS:
            raise InvalidInput(f"mode must be one of {', '.join(WAYS)}, got {self.mode!r}")
        if self.draft_tokens is not None and not 0 <= self.draft_tokens <= LONGEST_DRAFT:
            raise InvalidInput(f"draft_tokens must be 0 to {LONGEST_DRAFT}, got {self.draft_tokens}")
        if self.in_flight not in (None, 1, 2):
            raise InvalidInput(f"in_flight must be 1 or 2, got {self.in_flight}")
        if not 1 <= self.branches <= MOST_BRANCHES:
            raise InvalidInput(f"branches must be 1 to {MOST_BRANCHES}, got {self.branches}")
