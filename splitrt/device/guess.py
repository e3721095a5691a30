"""What the drafter says comes next, token by token, and how sure it was."""

from __future__ import annotations


class Guess:
    def __init__(self) -> None:
        self.ids: list[int] = []
        self.confidences: list[float] = []

    def __len__(self) -> int:
        return len(self.ids)

    def append(self, token: int, confidence: float) -> None:
        self.ids.append(token)
        self.confidences.append(confidence)

    def meets(self, token: int) -> bool:
        """The target's next token: the guess lives on behind it where it began with it, and ends where not."""
        agrees = bool(self.ids) and self.ids[0] == token
        keep = slice(1, None) if agrees else slice(0)
        self.ids, self.confidences = self.ids[keep], self.confidences[keep]
        return agrees

    def take(self, tokens: int) -> list[int]:
        """Its first tokens, which are no guess any more."""
        taken, self.ids, self.confidences = self.ids[:tokens], self.ids[tokens:], self.confidences[tokens:]
        return taken
