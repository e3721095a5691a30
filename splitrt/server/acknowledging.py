"""How many messages have come, told to a device as often as its stream takes it and no oftener."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable


class Acknowledging:
    """One stream's acknowledgements: while one is being written those that follow become one."""

    def __init__(self, write: Callable[[int], Awaitable[None]]) -> None:
        self._write = write
        self._heard = 0
        self._task: asyncio.Task[None] | None = None

    def hear(self) -> None:
        self._heard += 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._tell())

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def _tell(self) -> None:
        told = 0
        while told < self._heard:
            told = self._heard
            await self._write(told)
