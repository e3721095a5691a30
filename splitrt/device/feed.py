"""From a source of frames to submitted frames, in order: a camera, a folder, any iterable.

A source that blocks (a camera) is read on a thread of its own, so that the newest frame is always the one
at hand. One that is not live is paced by `fps`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any, TypeVar

from splitrt.errors import InvalidInput

Submitted = TypeVar("Submitted")


async def feed(
    source: Iterable[Any] | AsyncIterable[Any],
    fps: float | None,
    submit: Callable[[Any], Submitted],
    most_unread: int,
) -> AsyncIterator[Submitted]:
    """What `submit` gave, in order of capture; reading stops while `most_unread` wait to be consumed.

    An error of the source, or of a frame that is not one, is raised here.
    """
    if fps is not None and not 0 < fps <= 1000:
        raise InvalidInput(f"fps must be above 0 and at most 1000, got {fps}")
    queue: asyncio.Queue[Submitted | BaseException | None] = asyncio.Queue(most_unread)
    frames = source if isinstance(source, AsyncIterable) else _on_thread(source)
    reading = asyncio.create_task(_read(frames, fps, submit, queue))
    try:
        while (one := await queue.get()) is not None:
            if isinstance(one, BaseException):
                raise one
            yield one
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def _read(
    frames: AsyncIterable[Any],
    fps: float | None,
    submit: Callable[[Any], Submitted],
    queue: asyncio.Queue[Submitted | BaseException | None],
) -> None:
    loop = asyncio.get_running_loop()
    due = loop.time()
    try:
        async for frame in frames:
            await queue.put(submit(frame))
            if fps is not None:
                due = max(due + 1 / fps, loop.time() - 1)  # a stall is not made up for by a burst
                await asyncio.sleep(due - loop.time())
        await queue.put(None)
    except Exception as error:  # whatever a user's source raises is the user's to see
        await queue.put(error)


async def _on_thread(source: Iterable[Any]) -> AsyncIterator[Any]:
    """Items of a blocking iterable, one at a time, from a daemon thread: a camera that hangs holds up nobody's exit."""
    loop = asyncio.get_running_loop()
    items: asyncio.Queue[tuple[Any, BaseException | None, bool]] = asyncio.Queue()
    wanted, stopped = threading.Semaphore(0), threading.Event()

    def give(*item: Any) -> None:
        if not stopped.is_set():
            loop.call_soon_threadsafe(items.put_nowait, item)

    def pull() -> None:
        try:
            iterator = iter(source)
            while wanted.acquire() and not stopped.is_set():
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                give(item, None, False)
            give(None, None, True)
        except Exception as error:  # whatever a user's source raises is the user's to see
            give(None, error, True)

    threading.Thread(target=pull, name="source", daemon=True).start()
    try:
        while True:
            wanted.release()
            item, error, is_end = await items.get()
            if error is not None:
                raise error
            if is_end:
                return
            yield item
    finally:
        stopped.set()
        wanted.release()
