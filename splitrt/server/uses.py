"""How many streams each bundle version has, so that one that is no longer offered ends when its last has."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class Uses:
    def __init__(self) -> None:
        self._open: Counter[str] = Counter()  # by the bundle's name and version
        self._fell = asyncio.Event()

    def __len__(self) -> int:
        return self._open.total()

    @contextmanager
    def of(self, bundle: str) -> Iterator[None]:
        """A stream, for as long as the block runs."""
        self._open[bundle] += 1
        try:
            yield
        finally:
            self._open[bundle] -= 1
            self._fell.set()

    async def ended(self, bundle: str) -> None:
        """Wait until it has none."""
        while self._open[bundle]:
            self._fell.clear()
            await self._fell.wait()
