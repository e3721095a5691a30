"""What a generation tells its caller, in order.

The text at any moment is the pieces of all `Token`s so far, less what `Retract`s took back. A provisional token is
the drafter's word, said while the server could not be asked; it is confirmed, kept or retracted later.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from splitrt.language.text import Reason


@dataclass(frozen=True, slots=True)
class Token:
    id: int
    text: str  # what it adds to the text; may be nothing, where a character is not whole yet
    provisional: bool = False


@dataclass(frozen=True, slots=True)
class Confirm:
    """The oldest provisional tokens stand: the target says the same, or (`kept`) was not asked."""

    tokens: int
    kept: bool = False


@dataclass(frozen=True, slots=True)
class Retract:
    """All provisional tokens that are left are taken back, and so many characters of the text."""

    tokens: int
    characters: int


@dataclass(frozen=True, slots=True)
class Link:
    """`alone`: the server does not answer in time, the device goes on; `up`: it answers again."""

    state: Literal["up", "alone"]


@dataclass(slots=True)
class Statistics:
    tokens: int = 0  # committed
    rounds: int = 0  # verdicts asked for
    answered: int = 0  # verdicts that came, with those of a server that goes on alone: calls of the target
    drafted: int = 0  # nodes sent
    accepted: int = 0
    provisional: int = 0
    retracted: int = 0
    kept: int = 0
    connections: int = 0
    strays: int = 0  # verdicts of no round that waits: late, repeated, or of a hope that failed
    hopes: int = 0  # rounds sent before the verdict on the one under way; they count as rounds where they are met
    hopes_met: int = 0
    replays: int = 0  # the server had lost the text and was sent it again
    up_bytes: int = 0
    draft_bytes: int = 0  # of up_bytes, rounds without tokens sent again
    down_bytes: int = 0
    state_bytes: int = 0  # of down_bytes, what a drafter that sees states was sent
    server_s: float = 0.0
    stalled_s: float = 0.0  # nothing to say and nothing to do but wait for a verdict
    first_token_s: float | None = None
    seconds: float = 0.0
    accepted_by_depth: list[int] = field(default_factory=list)
    drafted_by_depth: list[int] = field(default_factory=list)
    rounds_by_mode: dict[str, int] = field(default_factory=dict)

    def verified(self, drafted: int, accepted: int) -> None:
        """A draft's verdict."""
        self.accepted += accepted
        for counts, depth in ((self.drafted_by_depth, drafted), (self.accepted_by_depth, accepted)):
            counts.extend([0] * (depth - len(counts)))
            for place in range(depth):
                counts[place] += 1


@dataclass(frozen=True, slots=True)
class Done:
    text: str
    tokens: tuple[int, ...]
    reason: Reason
    statistics: Statistics


Event = Token | Confirm | Retract | Link | Done
