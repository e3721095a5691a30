"""A text as its caller is told it: what the target said, and behind that what is shown of the device's own guess."""

from __future__ import annotations

from collections.abc import Iterator

from splitrt.device.events import Confirm, Event, Retract, Statistics, Token
from splitrt.device.thinking import Thinking
from splitrt.device.wish import Wish
from splitrt.language.text import Text


class Said:
    def __init__(self, text: Text, wish: Wish, context: int, thinking: Thinking, statistics: Statistics) -> None:
        self.text = text
        self.committed = list(wish.prompt)
        self.shown = 0  # of the guess: provisional
        self._wish, self._context, self._thinking, self._statistics = wish, context, thinking, statistics

    def is_over(self, *, alone: bool) -> bool:
        if self._wish.offline == "keep" and alone and self.text.reason is not None:
            return True
        return self.shown == 0 and self._has_ended

    @property
    def _has_ended(self) -> bool:
        return self.text.reason is not None or len(self.committed) >= self._context

    def commit(self, said: list[int]) -> Iterator[Event]:
        """The target's own tokens, against what the device has said alone."""
        confirmed = 0
        for token in said:
            if self.shown == 0 and self._has_ended:
                break
            agrees = self._thinking.meets(token)
            if self.shown and agrees:
                self.shown -= 1
                confirmed += 1
            elif self.shown:
                if confirmed:
                    yield Confirm(confirmed)
                    confirmed = 0
                yield self._retract()
            self.committed.append(token)
            self._statistics.tokens += 1
            if len(self.text.tokens) < len(self.committed) - len(self._wish.prompt):
                yield Token(token, self.text.push(token))
        if confirmed:
            yield Confirm(confirmed)

    def _retract(self) -> Retract:
        kept = len(self.committed) - len(self._wish.prompt)
        tokens, self.shown = self.shown, 0
        self._statistics.retracted += tokens
        return Retract(tokens, self.text.retract(kept))

    def show(self) -> Iterator[Event]:
        """Show of the guess what is not shown yet."""
        if self._wish.offline == "hold":
            return
        guess = self._thinking.guess
        while self.shown < len(guess) and self.text.reason is None:
            token = guess.ids[self.shown]
            self.shown += 1
            self._statistics.provisional += 1
            yield Token(token, self.text.push(token), provisional=True)

    def keep(self) -> Iterator[Event]:
        """Under `keep`, what was said alone becomes the text's own."""
        if self._wish.offline != "keep" or not self.shown:
            return
        kept, self.shown = self._thinking.guess.take(self.shown), 0
        self.committed += kept
        self._statistics.kept += len(kept)
        self._statistics.tokens += len(kept)
        yield Confirm(len(kept), kept=True)
