"""The synchronous client: a thin shell on the asyncio one, its loop on a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AsyncExitStack, suppress
from types import AsyncGeneratorType, TracebackType
from typing import Any, Self, TypeVar, cast

from splitrt.bundle import Bundle
from splitrt.device.client import AsyncClient
from splitrt.device.connect import connect_async
from splitrt.device.result import Result
from splitrt.errors import ClientClosed, InvalidInput
from splitrt.metrics import DeviceMetrics

T = TypeVar("T")
Results = AsyncGeneratorType[Result, None]

LAST_WORDS_S = 0.1  # of calls under way when the client closes; one that waits for a camera has none


class Client:
    """The verbs of AsyncClient for callers without an event loop. Any thread may call them."""

    def __init__(self, *servers: Any, **settings: Any) -> None:
        """Arguments are those of `connect_async`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="splitrt", daemon=True)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._is_open = True
        self._gate = threading.Lock()  # nobody may begin between the last look at `_is_open` and the loop's end
        try:
            self._client: AsyncClient = self._call(self._stack.enter_async_context(connect_async(*servers, **settings)))
        except BaseException:
            self.close()
            raise

    @property
    def bundle(self) -> Bundle:
        return self._client.bundle

    @property
    def metrics(self) -> DeviceMetrics:
        return self._client.metrics

    def infer(self, image: Any, deadline_ms: float | None = None) -> Result:
        """One frame's result, or its typed error."""
        return self._call(self._client.infer(image, deadline_ms))

    def submit(self, image: Any, deadline_ms: float | None = None) -> Future[Result]:
        """A frame's future result; errors of the frame's form are in the future too. The frame is copied before this
        returns: a camera may write into the same buffer again.
        """
        try:
            frame = self._client.take(image)
        except InvalidInput as error:
            refused: Future[Result] = Future()
            refused.set_exception(error)
            return refused
        return self._start(self._client.infer_taken(frame, deadline_ms))

    def stream(self, source: Iterable[Any], fps: float | None = None) -> Iterator[Result]:
        """Results in order of capture; see AsyncClient.stream."""
        results = cast("Results", self._client.stream(source, fps))
        try:
            while True:
                try:
                    yield self._call(_next(results))
                except StopAsyncIteration:
                    return
        finally:
            with suppress(ClientClosed):
                self._call(_close(results))

    def close(self) -> None:
        """End what is under way with ClientClosed, then the link and the thread. Twice is once."""
        with self._gate:
            if not self._is_open:
                return
            self._is_open = False
            ending = asyncio.run_coroutine_threadsafe(self._end(), self._loop)
        try:
            ending.result()
        finally:
            self._stop_loop()

    async def _end(self) -> None:
        """Close client and link, then let every caller who waits here see it."""
        await self._stack.aclose()
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        if waiting:
            await asyncio.wait(waiting, timeout=LAST_WORDS_S)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await self._loop.shutdown_asyncgens()

    def _stop_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        with self._gate:
            if self._is_open:
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        work.close()
        raise ClientClosed("the client is closed")

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        future = self._start(work)
        try:
            return future.result()
        except CancelledError:
            raise ClientClosed("the client was closed meanwhile") from None
        finally:
            future.cancel()  # of use where the caller was interrupted: nobody waits for it any more


async def _next(results: Results) -> Result:
    return await anext(results)


async def _close(results: Results) -> None:
    while results.ag_running:  # one whose reader was interrupted is still on its way out
        await asyncio.sleep(0.001)
    await results.aclose()


def connect(
    servers: str | Iterable[str] | None = None,
    *,
    bundle: str | None = None,
    strategy: Callable[[Bundle], Any] | None = None,
    **settings: Any,
) -> Client:
    """A client for a server and a bundle, as a context manager; see `connect_async` for arguments and errors."""
    return Client(servers, bundle=bundle, strategy=strategy, **settings)
