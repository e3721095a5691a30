"""Where heads run: on a thread as soon as one is known to take long, else on the event loop."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from splitrt.device.lane import SHORT_S, Lane
from splitrt.device.local import Looked
from splitrt.device.strategy import Alone


class Device:
    """Says what its heads took, and remembers where they ran."""

    def __init__(self, head_s: float) -> None:
        self.head_s = head_s
        self.threads: list[threading.Thread] = []

    def look(self, frame: Any, threshold: float | None = None) -> Looked:
        self.threads.append(threading.current_thread())
        return Looked(features=None, answer=None, is_sure=False, head_s=self.head_s)


async def threads_of(head_s: float) -> list[bool]:
    """Of a few frames in a row: was each on the event loop?"""
    device = Device(head_s)
    lane = Lane(device, Alone(), lambda: None)  # type: ignore[arg-type]
    for _ in range(3):
        await lane.enter(None, None)
        await asyncio.sleep(0)
    lane.close()
    return [thread is threading.current_thread() for thread in device.threads]


async def test_a_head_that_takes_long_never_holds_up_the_event_loop() -> None:
    assert await threads_of(4 * SHORT_S) == [False, False, False]


async def test_a_short_head_is_spared_the_change_of_thread_once_it_is_known_to_be_one() -> None:
    assert await threads_of(SHORT_S / 2) == [False, True, True]
