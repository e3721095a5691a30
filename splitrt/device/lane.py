"""The head's lane: frames pass the head one at a time, on a thread of its own or, where that pays, right here.

A change of thread costs tenths of a millisecond on a small machine. A head that takes hardly longer holds up
the event loop instead; one that takes longer gets the thread, and timers fire on time meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from splitrt.device.local import Device, Encoded, Looked
from splitrt.device.strategy import Strategy
from splitrt.policy.decision import Choice

HEAD_GAIN = 0.2  # weight of the newest frame in the time that heads take
SHORT_S = 0.002  # heads up to here are run on the event loop

Looking = asyncio.Future[tuple[Looked, Encoded | None]]


class Lane:
    """One frame enters when the one before has left, whether or not anyone still waits for that one."""

    def __init__(self, device: Device, strategy: Strategy, on_free: Callable[[], None]) -> None:
        self.is_free = True
        self._looking: Looking | None = None  # the newest
        self.expected_s = 0.0  # what head and encoder take of a frame's time; 0 until measured
        self._device, self._strategy, self._on_free = device, strategy, on_free
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="head")

    def enter(self, frame: Any, choice: Choice | None, threshold: float | None = None) -> Looking:
        """Look at a frame, and encode it for `choice` where its answer is not final. The lane must be free.

        threshold: the confidence that makes an answer a sure one; none: the certified one.
        """
        self.is_free = False
        if 0 < self.expected_s < SHORT_S:
            looking: Looking = self._loop.create_future()
            self._loop.call_soon(self._work_here, looking, frame, choice, threshold)
        else:
            looking = self._loop.run_in_executor(self._thread, self._work, frame, choice, threshold)
        self._looking = looking
        looking.add_done_callback(self._left)
        return looking

    @property
    def is_working(self) -> bool:
        """On a frame that is not done; one that is may not have left yet."""
        return self._looking is not None and not self._looking.done()

    async def encode(self, frame: Any, looked: Looked, choice: Choice) -> Encoded:
        """A frame that has been looked at already, for another attempt."""
        return await self._loop.run_in_executor(
            self._thread, self._strategy.encode, self._device, frame, looked, choice
        )

    def close(self) -> None:
        """Nothing enters any more; what is in the head runs out by itself."""
        self.is_free = False
        self._on_free = lambda: None
        self._thread.shutdown(wait=False, cancel_futures=True)

    def _work(self, frame: Any, choice: Choice | None, threshold: float | None) -> tuple[Looked, Encoded | None]:
        looked = self._device.look(frame, threshold)
        if looked.is_stopped:
            return looked, None
        looked = replace(looked, is_final=self._strategy.is_final(looked, choice))
        if choice is None or looked.is_final:
            return looked, None
        return looked, self._strategy.encode(self._device, frame, looked, choice)

    def _work_here(self, looking: Looking, frame: Any, choice: Choice | None, threshold: float | None) -> None:
        try:
            looking.set_result(self._work(frame, choice, threshold))
        except Exception as error:  # as the thread's future would: whoever awaits it sees it
            looking.set_exception(error)

    def _left(self, looking: Looking) -> None:
        self.is_free = True
        if not looking.cancelled() and looking.exception() is None:
            looked, encoded = looking.result()
            took_s = looked.head_s + (encoded.head_s + encoded.encode_s if encoded else 0.0)
            self.expected_s += (HEAD_GAIN if self.expected_s else 1.0) * (took_s - self.expected_s)
        self._on_free()
