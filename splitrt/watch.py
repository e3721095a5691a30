"""Who is told how long work goes on: a terminal, a log, nobody."""

from __future__ import annotations

from typing import Protocol


class Watch(Protocol):
    def line(self, text: str) -> None:
        """A sentence to keep."""

    def step(self, phase: str, done: int, total: int) -> None:
        """Progress within a phase."""
