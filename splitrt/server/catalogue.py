"""Which bundle versions are offered now: added and retired while the server runs.

New streams get what is offered; a version that is retired runs on until its last stream has ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from splitrt.bundle import Bundle, find_bundle
from splitrt.errors import ConfigError
from splitrt.language.bundle import LanguageBundle, find_language, is_language
from splitrt.metrics import ServerMetrics
from splitrt.server.engine import Engine, Served, Target
from splitrt.server.uses import Uses

log = logging.getLogger(__name__)


class Catalogue:
    """As an async context manager: at its end everything it opened ends too."""

    def __init__(self, engine: Engine, bundles_dir: Path | None) -> None:
        self.served: dict[str, Served] = {}  # by name and version
        self.targets: dict[str, Target] = {}
        self.uses = Uses()
        self._engine, self._bundles_dir = engine, bundles_dir
        self._stacks: dict[str, AsyncExitStack] = {}
        self._retiring: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        for stack in reversed(self._stacks.values()):
            await stack.aclose()

    @property
    def names(self) -> list[str]:
        return [*self.served, *self.targets]

    @property
    def is_ready(self) -> bool:
        """Everything offered has something that runs it."""
        return all(one.ready() for one in self.served.values()) and all(one.ready for one in self.targets.values())

    @property
    def bundles(self) -> list[Bundle | LanguageBundle]:
        return [
            *(one.bundle for one in list(self.served.values())),
            *(one.bundle for one in list(self.targets.values())),
        ]

    def show(self, metrics: ServerMetrics) -> None:
        """What is offered and how much waits for it, whenever the metrics are looked at, from whatever thread."""

        def of_served(number: Callable[[Served], float]) -> Callable[[], dict[tuple[str, ...], float]]:
            return lambda: {_labels(one.bundle): number(one) for one in list(self.served.values())}

        metrics.queued.follow(of_served(lambda one: one.pool.queued()))
        metrics.oldest.follow(of_served(lambda one: one.pool.oldest_s()))
        metrics.tails.follow(of_served(lambda one: one.ready()))
        metrics.model_info.follow(lambda: {(*_labels(one), one.digest.hex()[:16]): 1 for one in self.bundles})
        metrics.sessions.follow(self._sessions)

    def _sessions(self) -> dict[tuple[str, ...], float]:
        """Texts that are kept, by bundle: of all versions of it."""
        kept: Counter[tuple[str, ...]] = Counter()
        for one in list(self.targets.values()):
            kept[one.bundle.manifest.name,] += one.sessions
        return dict(kept)

    async def offer(self, names: Sequence[str]) -> None:
        """These and no others from now on. Raises what opening one raises: then nothing has changed."""
        found = {self._version(name): name for name in names}
        ending = found.keys() & (self._stacks.keys() - set(self.names))
        if ending:
            raise ConfigError(f"{', '.join(sorted(ending))} is still ending: offer it when its last stream has ended")
        new = sorted(found.keys() - self._stacks.keys())
        ends = await asyncio.gather(*(self._open(one, found[one]) for one in new), return_exceptions=True)
        failures = [end for end in ends if isinstance(end, BaseException)]
        if failures:
            for version in self._stacks.keys() & set(new):
                await self._close(version)
            raise failures[0]
        for version, opened in zip(new, ends, strict=True):  # not before: no stream is let in to what may end at once
            if isinstance(opened, Served):
                self.served[version] = opened
            elif not isinstance(opened, BaseException):
                self.targets[version] = opened
        for version in self.names:
            if version not in found:
                self._retire(version)

    def _version(self, name: str) -> str:
        if is_language(name, self._bundles_dir):
            return find_language(name, self._bundles_dir).name
        return find_bundle(name, self._bundles_dir).name

    async def _open(self, version: str, name: str) -> Served | Target:
        async with AsyncExitStack() as stack:
            opened: Served | Target
            if is_language(name, self._bundles_dir):
                opened = await stack.enter_async_context(self._engine.target(name))
            else:
                opened = await stack.enter_async_context(self._engine.tails(name))
            self._stacks[version] = stack.pop_all()
        return opened

    async def _close(self, version: str) -> None:
        self.served.pop(version, None)
        self.targets.pop(version, None)
        await self._stacks.pop(version).aclose()

    def _retire(self, version: str) -> None:
        self.served.pop(version, None)
        self.targets.pop(version, None)
        task = asyncio.create_task(self._end(version), name=f"retiring {version}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _end(self, version: str) -> None:
        log.info("%s is no longer offered; it ends with its last stream", version)
        await self.uses.ended(version)
        await self._close(version)
        log.info("%s has ended", version)


def _labels(bundle: Bundle | LanguageBundle) -> tuple[str, str]:
    return bundle.manifest.name, bundle.manifest.version
