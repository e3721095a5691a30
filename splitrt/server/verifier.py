"""A target at work: rounds of all sessions, in passes that they share, on a thread of its own.

A round is a pure function of the committed tokens, the draft and how tokens are chosen; sessions only spare reading
the tokens again. So a round may be lost, repeated or moved to another server, and gets the same verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Self

from torch import Tensor

from splitrt.errors import BadFrame, BundleError, InvalidInput, ModelNotFound, VersionGone, VersionMismatch
from splitrt.language.bundle import LanguageBundle
from splitrt.language.context import Context
from splitrt.language.draft import ModelDrafter, chain
from splitrt.language.model import row_difference
from splitrt.language.prefix import prefix_hash
from splitrt.language.sampling import Sampling
from splitrt.language.target import verify
from splitrt.rpc.rounds import MOST_DRAFTED, PROTOCOL, Opened, Opening, Round, Verdict
from splitrt.server.passes import Passes, Ready, Work
from splitrt.server.sessions import Key, LanguageSession, Sessions

MAX_NODES = 128


class Verifier:
    """One language bundle's. Use as a context manager."""

    def __init__(
        self,
        bundle: LanguageBundle,
        *,
        device: str = "cpu",
        max_sessions: int = 64,
        ttl_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises BundleError where the target is not here or reads shorter texts than the manifest says."""
        self.bundle = bundle
        self.target = bundle.model("target", device)
        if bundle.manifest.context > self.target.config.context:  # one such text would end every session's pass
            raise BundleError(
                f"{bundle.name} must have a context of at most its target's {self.target.config.context} tokens, got "
                f"{bundle.manifest.context}"
            )
        self.difference = row_difference(self.target)  # 0.0: exact on this machine, whatever is drafted
        self.rounds = self.drafted = self.accepted = self.borrowed = 0
        self._states = bundle.state_maker(self.target)
        self._draft = bundle.model("draft", device) if (bundle.folder / "draft").is_dir() else None
        self._clock = clock
        self._fresh = partial(Sessions, self._session, max_sessions, ttl_s, clock)
        self._sessions = self._fresh()
        self.passes = Passes(self.target)

    def __enter__(self) -> Self:
        self.passes.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.passes.stop()

    @property
    def ready(self) -> int:
        """Targets that take rounds: this one."""
        return 1

    def check(self, opening: Opening) -> None:
        """Raises a SplitError that shows both sides where a stream is not for this bundle."""
        manifest = self.bundle.manifest
        if opening.protocol != PROTOCOL:
            raise VersionMismatch(f"protocol must be {PROTOCOL}, got {opening.protocol}")
        if opening.bundle != manifest.name:
            raise ModelNotFound(f"bundle must be {manifest.name}, got {opening.bundle[:64]!r}")
        if opening.tokenizer_digest != self.bundle.tokenizer_digest:
            wanted, given = self.bundle.tokenizer_digest[:8].hex(), opening.tokenizer_digest[:8].hex()
            raise VersionMismatch(f"tokenizer must have SHA-256 {wanted}.., the device has {given}..")
        if opening.vocabulary != self.target.config.vocabulary:
            raise VersionMismatch(
                f"vocabulary must be {self.target.config.vocabulary} tokens, the device has {opening.vocabulary}"
            )
        if opening.version != manifest.version:
            raise VersionGone(f"version of {manifest.name} must be {manifest.version}, got {opening.version[:20]!r}")
        if opening.bundle_digest != self.bundle.digest:
            wanted, given = self.bundle.digest[:8].hex(), opening.bundle_digest[:8].hex()
            raise VersionMismatch(f"digest of {self.bundle.name} must be {wanted}.., got {given}..")
        if opening.states and self._states is None:
            raise InvalidInput(f"states are asked for, and {self.bundle.name} has no drafter that sees them (moa/)")

    async def open(self, key: Key) -> Opened:
        tokens = await self.passes.run(lambda: Ready(list(self._sessions.take(key).tokens)))
        context = self.bundle.manifest.context
        return Opened(context=context, max_nodes=MAX_NODES, held=len(tokens), held_hash=prefix_hash(tokens))

    async def verify(self, key: Key, one: Round, sampling: Sampling, *, states: bool = False) -> Verdict:
        """states: the verdict carries those of verified tokens that the device lacks, the window's last at most.

        Raises BadFrame or InvalidInput on a round that cannot be; the session stays as it was.
        """
        self._check(one)
        asked_at = self._clock()
        return await self.passes.run(lambda: self._verify(key, one, sampling, asked_at, states=states))

    async def go_on(self, key: Key, one: Round, base: int, sampling: Sampling) -> Verdict | None:
        """The next tokens of the target's own behind `base`; None where the context is full."""
        asked_at = self._clock()
        return await self.passes.run(lambda: self._go_on(key, one, base, sampling, asked_at))

    def answer(self, key: Key, one: Round, sampling: Sampling, *, states: bool = False) -> Verdict:
        """`verify` for a caller without an event loop, on the caller's own thread; not beside the other."""
        self._check(one)
        return self.passes.here(lambda: self._verify(key, one, sampling, self._clock(), states=states))

    def answer_alone(self, key: Key, one: Round, base: int, sampling: Sampling) -> Verdict | None:
        """`go_on`, likewise."""
        return self.passes.here(lambda: self._go_on(key, one, base, sampling, self._clock()))

    @property
    def sessions(self) -> int:
        """Texts whose keys and values are kept."""
        return len(self._sessions)

    def forget(self) -> None:
        """All sessions, as a restart does."""
        self._sessions = self._fresh()

    def _check(self, one: Round) -> None:
        context, vocabulary = self.bundle.manifest.context, self.target.config.vocabulary
        if not 1 <= one.base < context:
            raise InvalidInput(f"a text must be 1 to {context - 1} tokens before a round, got {one.base}")
        if len(one.ids) > MAX_NODES:
            raise BadFrame(f"a draft must be at most {MAX_NODES} nodes, got {len(one.ids)}", reason="tree")
        if any(token >= vocabulary for token in (*one.prefix, *one.ids)):
            raise BadFrame(f"token ids must be below {vocabulary}", reason="token")
        if one.base + one.depth > context:
            raise BadFrame(f"a draft must end within {context} tokens", reason="tree")

    def _verify(
        self, key: Key, one: Round, sampling: Sampling, asked_at: float, *, states: bool
    ) -> Work[Verdict] | Ready[Verdict]:
        session = self._sessions.take(key)
        tokens = [*session.tokens[: one.start], *one.prefix]
        if len(tokens) != one.base or prefix_hash(tokens) != one.base_hash:
            if one.start == 0:
                raise BadFrame("the hash must be of the tokens that were sent", reason="prefix")
            return Ready(Verdict(round=one.round, base=one.base, need_prefix=True))
        if not session.context.tokens and (other := self._sessions.alike(key, tokens)) is not None:
            session.context.borrow(other, tokens)
            self.borrowed += len(session.context.tokens)
        finish = partial(self._finish, session, tokens, one, sampling, asked_at, self._clock(), states=states)
        return Work(session.context, tokens, one.ids, one.parents, finish)

    def _go_on(
        self, key: Key, one: Round, base: int, sampling: Sampling, asked_at: float
    ) -> Work[Verdict | None] | Ready[Verdict | None]:
        session = self._sessions.take(key)
        if base >= self.bundle.manifest.context:
            return Ready(None)
        if len(session.tokens) != base:
            return Ready(Verdict(round=one.round, base=base, need_prefix=True))
        tokens = session.tokens
        most = min(one.drafted, MOST_DRAFTED, self.bundle.manifest.context - base - 1)
        ids = chain(session.drafter, tokens, sampling, most).ids if session.drafter and most > 0 else ()
        alone = replace(one, base=base, ids=ids, parents=tuple(range(-1, len(ids) - 1)))
        started_at = self._clock()

        def finish(logits_TV: Tensor) -> Verdict | None:
            verdict = self._finish(session, tokens, alone, sampling, asked_at, started_at, logits_TV)
            return replace(verdict, path=(), tokens=tuple(session.tokens[base:]))  # the device has not seen the draft

        return Work(session.context, tokens, ids, alone.parents, finish)

    def _finish(
        self,
        session: LanguageSession,
        tokens: list[int],
        one: Round,
        sampling: Sampling,
        asked_at: float,
        started_at: float,
        logits_TV: Tensor,
        *,
        states: bool = False,
    ) -> Verdict:
        verified = verify(session.context, logits_TV, tokens, one.ids, one.parents, sampling)
        session.tokens = [*tokens, *(one.ids[node] for node in verified.path), verified.token]
        self.rounds, self.drafted = self.rounds + 1, self.drafted + len(one.ids)
        self.accepted += len(verified.path)
        newly = self._newly(session, one.stated) if states else b""
        return Verdict(
            round=one.round,
            base=one.base,
            path=verified.path,
            tokens=(verified.token,),
            queue_s=started_at - asked_at,
            verify_s=self._clock() - started_at,
            states=newly,
        )

    def _newly(self, session: LanguageSession, stated: int) -> bytes:
        """States of verified tokens behind the first `stated`."""
        cache = session.context.cache
        if self._states is None or stated >= cache.length:
            return b""
        start = max(stated, cache.length - self._states.config.window)
        return self._states.make(cache, start, cache.length)

    def _session(self) -> LanguageSession:
        return LanguageSession(Context(self.target), ModelDrafter(self._draft) if self._draft else None)
