"""What device and server say of a text to one another: an opening, rounds, verdicts; our own values, not the wire's."""

from __future__ import annotations

from dataclasses import dataclass

from splitrt.errors import InvalidInput, SplitError
from splitrt.language.sampling import Sampling

PROTOCOL = 1
SESSION_BYTES = 16
MOST_NODES = 255  # a parent's distance is one byte
MOST_ENDS = 64
MOST_DRAFTED = 16  # tokens of a draft of the server's own


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """How a stream begins: which bundle, whose tokens, which text, how its tokens are chosen."""

    bundle: str
    version: str
    bundle_digest: bytes
    tokenizer_digest: bytes
    vocabulary: int
    session: bytes
    sampling: Sampling
    ends: tuple[int, ...] = ()
    states: bool = False  # verdicts are to carry the states of newly verified tokens
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    context: int
    max_nodes: int
    held: int = 0
    held_hash: int = 0
    protocol: int = PROTOCOL


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """A draft to verify behind `base` committed tokens."""

    round: int
    base: int
    base_hash: int
    start: int  # `from` on the wire: where `prefix` begins among the committed tokens
    prefix: tuple[int, ...] = ()
    ids: tuple[int, ...] = ()
    parents: tuple[int, ...] = ()
    more: int = 0
    drafted: int = 0  # tokens of the drafts that the server then makes itself
    stated: int = 0  # first tokens whose states the device holds

    @property
    def depth(self) -> int:
        """Of the draft: 0 where it is empty."""
        depths: list[int] = []
        for parent in self.parents:
            depths.append(1 + (depths[parent] if parent >= 0 else 0))
        return max(depths, default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    round: int
    base: int
    path: tuple[int, ...] = ()
    tokens: tuple[int, ...] = ()
    queue_s: float = 0.0
    verify_s: float = 0.0
    need_prefix: bool = False
    error: SplitError | None = None
    states: bytes = b""  # of the last verified tokens; the last of them is the accepted path's end

    @property
    def verified(self) -> int:
        """Tokens that the target has read: the last it said is not among them."""
        return self.base + len(self.path)


def check_verdict(verdict: Verdict, one: Round, vocabulary: int) -> None:
    """Raises InvalidInput on a verdict that cannot be of this round: its path is no path of the draft."""
    before = -1
    for node in verdict.path:
        if node >= len(one.ids) or one.parents[node] != before:
            raise InvalidInput(f"a verdict's path must be one of the draft's, got {list(verdict.path)}")
        before = node
    if verdict.need_prefix or verdict.error is not None:
        return
    if not verdict.tokens or any(token >= vocabulary for token in verdict.tokens):
        raise InvalidInput(f"a verdict must say tokens below {vocabulary}, got {list(verdict.tokens)[:8]}")
