"""The server's side of texts: tokens and cache of each, by who asks and which text; a cache that may forget.

Nothing here is the truth: a device whose session was forgotten sends its tokens again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from splitrt.language.prefix import common

if TYPE_CHECKING:
    from splitrt.language.context import Context
    from splitrt.language.draft import ModelDrafter

WORTH_A_COPY = 32  # tokens in common
Key = tuple[str, bytes]  # principal, session: nobody reaches another's


@dataclass(slots=True, eq=False)
class LanguageSession:
    context: Context
    drafter: ModelDrafter | None = None  # for speculation on the server alone
    tokens: list[int] = field(default_factory=list)  # committed, as far as known here


class Sessions:
    """At most `most` of them, each until nobody asked for it in `ttl_s`; the longest unused goes first."""

    def __init__(
        self, make: Callable[[], LanguageSession], most: int, ttl_s: float, clock: Callable[[], float]
    ) -> None:
        self._make, self._most, self._ttl_s, self._clock = make, most, ttl_s, clock
        self._held: OrderedDict[Key, tuple[float, LanguageSession]] = OrderedDict()  # longest unused first

    def __len__(self) -> int:
        return len(self._held)

    def alike(self, key: Key, tokens: Sequence[int]) -> Context | None:
        """Of the other sessions of the same principal the one whose text begins most like this, where that is worth a
        copy. Nobody learns by the time of an answer what others have asked.
        """
        mine = [session.context for other, (_, session) in self._held.items() if other[0] == key[0] and other != key]
        best = max(mine, key=lambda context: common(context.tokens, tokens), default=None)
        return best if best is not None and common(best.tokens, tokens) >= WORTH_A_COPY else None

    def take(self, key: Key) -> LanguageSession:
        """The session of that key, a new one where it is not held (any more)."""
        now = self._clock()
        while self._held and next(iter(self._held.values()))[0] <= now - self._ttl_s:
            self._held.popitem(last=False)
        _, session = self._held.pop(key, (0.0, None))
        self._held[key] = (now, session or self._make())
        while len(self._held) > self._most:
            self._held.popitem(last=False)
        return self._held[key][1]
