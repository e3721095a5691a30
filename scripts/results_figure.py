"""What is said of one figure of a benchmark, and of one benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Summary = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One line of a claim's table. `key` is a path of the summary with dots; `bound` and `sense` are its target."""

    key: str
    what: str
    form: str = "{:.3g}"
    sense: str = ""  # at most, at least, exactly; nothing: no target
    bound: float = 0.0
    why: str = ""  # of the bound

    def met(self, value: Any) -> bool:
        """A figure that could not be reached (None) meets nothing."""
        if value is None:
            return False
        held = {"at most": value <= self.bound, "at least": value >= self.bound, "exactly": value == self.bound}
        return bool(held[self.sense])


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """A claim: what it asks, how it was run, its figures, and what must be said beside them."""

    asks: str
    command: str
    figures: tuple[Figure, ...]
    beside: str = ""
