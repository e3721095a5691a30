"""A text's link to its verifier as a generation sees it, and the in-process twin for tests and benchmarks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from types import TracebackType
from typing import Protocol, Self, TypeVar

from splitrt.errors import SplitError
from splitrt.rpc.rounds import Opened, Round, Verdict
from splitrt.rpc.speculation import link_bytes, round_to_wire, verdict_to_wire

T = TypeVar("T")


class VerifierLink(Protocol):
    """An async context manager: the link is kept up inside it."""

    up_bytes: int
    down_bytes: int

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    @property
    def connections(self) -> int:
        """Made so far: another one has forgotten the rounds of those before."""
        ...

    @property
    def last_error(self) -> SplitError | None: ...

    @property
    def opened(self) -> Opened | None:
        """What the server said of itself; None while no connection is up."""
        ...

    @property
    def refusal(self) -> SplitError | None:
        """Why no server will have us, once all have said so."""
        ...

    @property
    def is_stirred(self) -> bool:
        """A verdict came, or the link went up or down, since `settle`."""
        ...

    def settle(self) -> None: ...

    def send(self, one: Round) -> int:
        """Hand a round to the connection that is up; the bytes that it takes on the link."""
        ...

    def take(self) -> Verdict | None:
        """The oldest verdict that arrived and was not taken."""
        ...

    async def wait(self, most_s: float | None) -> None:
        """Until stirred, or the time is over."""
        ...


class ScriptedVerifierLink:
    """Rounds answered by a function, and by chance lost, answered twice, late, in another order; no time passes.

    answer: the server's; go_on: what it says alone, behind so many tokens; restart: forget what it holds.
    faults: the chance, a step, that something goes wrong; slow: steps that a round, and a verdict, take longer.
    """

    def __init__(
        self,
        answer: Callable[[Round], Verdict],
        opened: Opened,
        *,
        go_on: Callable[[Round, int], Verdict | None] = lambda one, base: None,
        restart: Callable[[], None] = lambda: None,
        faults: float = 0.0,
        slow: int = 0,
        seed: int = 0,
    ) -> None:
        self._answer, self._go_on, self._welcome, self._restart = answer, go_on, opened, restart
        self._alone: tuple[Round, int, int] | None = None  # what the server says alone: for whom, from where, how many
        self._faults, self._draw = faults, random.Random(seed)
        self._slow, self._settled = slow, 0
        self._rounds: list[Round] = []  # on their way to the server
        self._verdicts: list[Verdict] = []  # on their way back
        self._arrived: list[Verdict] = []
        self._stirred = False
        self.opened: Opened | None = opened
        self.refusal: SplitError | None = None
        self.last_error: SplitError | None = None
        self.connections = 1
        self.up_bytes = self.down_bytes = 0

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    @property
    def is_stirred(self) -> bool:
        return self._stirred

    def settle(self) -> None:
        self._stirred, self._settled = False, self._settled + 1
        if self._settled % (self._slow + 1):
            return
        if not self._faults or self._draw.random() < 0.5:
            self._step()

    def send(self, one: Round) -> int:
        self._rounds.append(one)
        sent = link_bytes(round_to_wire(one))
        self.up_bytes += sent
        return sent

    def take(self) -> Verdict | None:
        return self._arrived.pop(0) if self._arrived else None

    async def wait(self, most_s: float | None) -> None:
        self._step()
        await asyncio.sleep(0)

    def _step(self) -> None:
        if self._draw.random() < self._faults:
            self._fault(self._draw.choice(("cut", "cut", "restart", "repeat")))
        if self.opened is None:
            if self._draw.random() < 0.3:
                self.opened, self.connections = self._welcome, self.connections + 1
                self._stirred = True
            return
        if self._rounds:
            one = self._any(self._rounds)
            self._alone = self._said(one, self._answer(one), one.more)
        elif self._alone is not None:
            one, base, left = self._alone
            verdict = self._go_on(one, base)
            self._alone = self._said(one, verdict, left - len(verdict.tokens)) if verdict is not None else None
        if self._verdicts:
            verdict = self._any(self._verdicts)
            self.down_bytes += link_bytes(verdict_to_wire(verdict))
            self._arrived.append(verdict)
            self._stirred = True

    def _said(self, one: Round, verdict: Verdict, left: int) -> tuple[Round, int, int] | None:
        self._verdicts.append(verdict)
        if left <= 0 or verdict.need_prefix or verdict.error is not None:
            return None
        return one, verdict.base + len(verdict.path) + len(verdict.tokens), left

    def _fault(self, kind: str) -> None:
        match kind:
            case "cut":
                self.opened = self._alone = None
                if self._draw.random() < 0.5:  # rounds that had arrived are worked on, for nobody
                    for one in self._rounds:
                        self._answer(one)
                self._rounds.clear()
                if self._draw.random() < 0.5:  # else a verdict may still come, over the next connection
                    self._verdicts.clear()
                self._stirred = True
            case "restart":
                self._restart()
            case "repeat":
                self._rounds += self._rounds[-1:]
                self._verdicts += self._verdicts[-1:]

    def _any(self, queue: list[T]) -> T:
        return queue.pop(self._draw.randrange(len(queue)) if self._faults else 0)
