"""Where a text ends, and what of it may be shown: end of text, length, stop strings, characters not whole yet.

Fed with one token at a time, so that a token stops the text at the same place however many came at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from splitrt.errors import InvalidInput
from splitrt.language.tokens import Tokenizer

Reason = Literal["end", "length", "stop"]
PARTIAL = "\ufffd"
MOST_STOPS, MOST_STOP_CHARS = 16, 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    max_tokens: int = 256
    ends: frozenset[int] = frozenset()  # tokens that end the text; not part of it
    strings: tuple[str, ...] = ()  # the text ends before the first of them

    def __post_init__(self) -> None:
        if self.max_tokens < 1:
            raise InvalidInput(f"max_tokens must be at least 1, got {self.max_tokens}")
        if len(self.strings) > MOST_STOPS or not all(1 <= len(one) <= MOST_STOP_CHARS for one in self.strings):
            raise InvalidInput(
                f"stop strings must be at most {MOST_STOPS} of 1 to {MOST_STOP_CHARS} characters, got "
                f"{[len(one) for one in self.strings]}"
            )


class Text:
    """The text behind a prompt, token by token. `shown` only ever grows, but by `retract`."""

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int], stop: Stop) -> None:
        self._tokenizer, self._prompt, self._stop = tokenizer, list(prompt), stop
        self._before = len(tokenizer.decode(prompt).rstrip(PARTIAL))
        self.tokens: list[int] = []
        self.shown = ""
        self.reason: Reason | None = None

    def push(self, token: int) -> str:
        """What this token adds to what is shown: nothing where its last character is not whole, or where a stop
        string may have begun. No token may follow one that gave a `reason`.
        """
        assert self.reason is None, "the text has ended"
        self.tokens.append(token)
        if token in self._stop.ends:
            self.reason = "end"
        elif len(self.tokens) >= self._stop.max_tokens:
            self.reason = "length"
        whole = self._whole()
        stops = [place for one in self._stop.strings if (place := whole.find(one)) >= 0]
        if stops:
            self.reason = "stop"
            visible = whole[: min(stops)]
        elif self.reason is None:
            visible = whole.rstrip(PARTIAL)
            visible = visible[: len(visible) - self._begun(visible)]
        else:
            visible = whole
        added = visible[len(self.shown) :]
        self.shown += added
        return added

    def retract(self, tokens: int) -> int:
        """Take back all but the first `tokens`; how many characters of what was shown go with them."""
        again = Text(self._tokenizer, self._prompt, self._stop)
        for token in self.tokens[:tokens]:
            again.push(token)
        gone = len(self.shown) - len(again.shown)
        self.tokens, self.shown, self.reason = again.tokens, again.shown, again.reason
        return gone

    def _whole(self) -> str:
        kept = self.tokens[:-1] if self.reason == "end" else self.tokens
        return self._tokenizer.decode([*self._prompt, *kept])[self._before :]

    def _begun(self, visible: str) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(one) for one in self._stop.strings), default=1) - 1
        for length in range(min(longest, len(visible)), 0, -1):
            if any(one.startswith(visible[-length:]) for one in self._stop.strings):
                return length
        return 0
