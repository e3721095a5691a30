"""A generation on a terminal: committed text plain, provisional dimmed, and a line that says how drafting goes.

Where the output is no terminal, committed text alone is printed, as it is committed.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from splitrt.device.events import Confirm, Done, Event, Link, Retract, Token


class Typewriter:
    def __init__(self, prompt: str, *, quiet: bool = False) -> None:
        """quiet: standard output is somebody else's, the text goes to standard error."""
        self._console = Console(stderr=quiet, soft_wrap=True)
        self._live = Live(console=self._console, refresh_per_second=12) if self._console.is_terminal else None
        self._file = sys.stderr if quiet else sys.stdout
        self._prompt = prompt
        self._pieces: list[Token] = []  # not retracted
        self._sure = 0  # of the pieces
        self._link = "up"

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        else:
            self._print(self._prompt)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        else:
            self._print("\n")

    def hear(self, event: Event) -> None:
        match event:
            case Token(provisional=True):
                self._pieces.append(event)
            case Token():
                self._pieces.append(event)
                self._confirm(1)
            case Confirm(tokens=tokens):
                self._confirm(tokens)
            case Retract():
                del self._pieces[self._sure :]
            case Link(state=state):
                self._link = state
            case Done():
                self._finish(event)
        if self._live is not None and not isinstance(event, Done):
            self._live.update(self._screen(f"[{self._sure} tokens, link {self._link}]"))

    def _confirm(self, tokens: int) -> None:
        if self._live is None:
            self._print("".join(piece.text for piece in self._pieces[self._sure : self._sure + tokens]))
        self._sure += tokens

    def _finish(self, done: Done) -> None:
        statistics = done.statistics
        words = (
            f"{statistics.tokens} tokens in {statistics.seconds:.2f} s, {statistics.rounds} rounds, "
            f"{statistics.accepted} of {statistics.drafted} drafted accepted, {statistics.retracted} retracted"
        )
        if self._live is not None:
            self._live.update(self._screen(f"[{words}]"))

    def _screen(self, status: str) -> Text:
        sure = "".join(piece.text for piece in self._pieces[: self._sure])
        rest = "".join(piece.text for piece in self._pieces[self._sure :])
        return Text.assemble((self._prompt, "bold"), sure, (rest, "dim"), "\n", (status, "cyan"))

    def _print(self, text: str) -> None:
        print(text, end="", file=self._file, flush=True)
