"""The frame loop without a network: every frame ends once, on time, whatever the script of the link says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from splitrt import errors
from splitrt.bundle import Bundle
from splitrt.config import ClientConfig
from splitrt.device.client import AsyncClient
from splitrt.device.head import OnnxHead
from splitrt.device.link import ScriptedLink
from splitrt.device.local import BottleneckDevice, Encoded
from splitrt.device.result import Classes, Result
from splitrt.device.strategy import Alone, Fixed, Strategy
from splitrt.errors import ClientClosed, DeadlineExceeded, InvalidInput, SplitError
from splitrt.policy.decision import Choice
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight
from splitrt.rpc.frames import Frame, Reply

UInt8 = npt.NDArray[np.uint8]
Float32 = npt.NDArray[np.float32]
Script = Callable[[Frame], tuple[float, Reply | None]]

OUTPUTS = np.array([0, 0, 9, 0, 0, 0], np.float32)
SLACK_MS = 50 + 250  # the promise, and what a busy machine may add


def good(frame: Frame) -> tuple[float, Reply | None]:
    return 0.0, Reply(seq=frame.seq, outputs=(OUTPUTS,))


def silent(frame: Frame) -> tuple[float, Reply | None]:
    return 0.0, None


def failing(error: SplitError) -> Script:
    return lambda frame: (0.0, Reply(seq=frame.seq, error=error))


class GatedHead(OnnxHead):
    """Runs no frame while its gate is closed. Slow enough for a thread of its own: the event loop is never shut."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()

    def stem(self, x_CHW: Float32) -> Float32:
        self.entered.set()
        threading.Event().wait(0.02)
        assert self.gate.wait(10)
        return super().stem(x_CHW)


@asynccontextmanager
async def client_of(
    bundle: Bundle,
    script: Script,
    *,
    head: OnnxHead | None = None,
    strategy: Strategy | None = None,
    is_up: bool = True,
    **settings: Any,
) -> AsyncIterator[tuple[AsyncClient, ScriptedLink]]:
    config = ClientConfig(**({"deadline_ms": 5_000} | settings))
    async with ScriptedLink(script, is_up=is_up) as link:
        device = BottleneckDevice(bundle, head or OnnxHead(bundle))
        client = AsyncClient(device, link, LinkEstimate(), config=config, strategy=strategy or Fixed(8, 4))
        try:
            yield client, link
        finally:
            if isinstance(head, GatedHead):
                head.gate.set()
            await client.aclose()


@pytest.fixture
def head(photos: Bundle) -> Iterator[GatedHead]:
    gated = GatedHead(photos)
    yield gated
    gated.gate.set()


def without_exit(bundle: Bundle) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"exits": None}))


def sure_at(bundle: Bundle, threshold: float) -> Bundle:
    assert bundle.manifest.exits is not None
    rule = bundle.manifest.exits.model_copy(update={"threshold": threshold})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"exits": rule}))


def check_fallback(result: Result) -> None:
    assert result.source == "fallback"
    assert result.degraded
    assert isinstance(result.output, Classes)


# ── the server answers ──────────────────────────────────────────────────────────────────────────────


async def test_a_reply_in_time_is_the_result(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos, good) as (client, link):
        result = await client.infer(frame_HWC)
    assert (result.source, result.label, result.degraded) == ("remote", photos.manifest.output.labels[2], False)
    assert (result.width, result.bits, result.model) == (8, 4, "photos")
    assert [frame.seq for frame in link.sent] == [result.seq]


async def test_a_late_reply_makes_a_fallback_on_time_and_is_still_learnt_from(photos: Bundle, frame_HWC: UInt8) -> None:
    def late(frame: Frame) -> tuple[float, Reply | None]:
        return 0.3, good(frame)[1]

    async with client_of(photos, late, deadline_ms=100) as (client, _):
        learnt = asyncio.Event()
        original = client.estimate.replied

        def replied(*arguments: Any) -> None:
            original(*arguments)
            learnt.set()

        client.estimate.replied = replied  # type: ignore[method-assign, assignment]
        result = await client.infer(frame_HWC)
        check_fallback(result)
        assert 100 <= result.latency_ms <= 100 + SLACK_MS
        assert not learnt.is_set()
        async with asyncio.timeout(5):
            await learnt.wait()


class Remembering(Fixed):
    """Is told what became of its choices."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.ends: list[bool] = []

    def ended(self, choice: Choice, is_hit: bool) -> None:
        assert (choice.width, choice.bits) == (8, 4)
        self.ends.append(is_hit)


@pytest.mark.parametrize(("script", "is_hit"), [(good, True), (silent, False)])
async def test_a_strategy_is_told_whether_its_frame_was_in_time(
    photos: Bundle, frame_HWC: UInt8, script: Script, is_hit: bool
) -> None:
    strategy = Remembering()
    async with client_of(photos, script, strategy=strategy, deadline_ms=5_000 if is_hit else 200) as (client, _):
        await client.infer(frame_HWC)
    assert strategy.ends == [is_hit]


async def test_a_frame_whose_caller_has_left_is_taken_back_and_forgotten(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(without_exit(photos), silent) as (client, link):
        left = client.submit(frame_HWC)
        async with asyncio.timeout(5):
            while not link.sent:
                await asyncio.sleep(0.001)
        behind = client.submit(frame_HWC), client.submit(frame_HWC)  # one in the head, one waits for it
        for future in (left, *behind):
            future.cancel()
        async with asyncio.timeout(5):
            while client._running or client._waiting:
                await asyncio.sleep(0.001)
        assert len(link.sent) == 1
        assert 'splitrt_device_frames_total{bundle="photos",outcome="cancelled"} 3.0' in client.metrics.snapshot()


def all_equal(logit: float) -> Script:
    return lambda frame: (0.0, Reply(seq=frame.seq, outputs=(np.full(6, logit, np.float32),)))


@pytest.mark.parametrize("logit", [np.nan, np.inf, -np.inf])
async def test_logits_of_which_no_probabilities_can_be_made_are_no_answer(
    photos: Bundle, frame_HWC: UInt8, logit: float
) -> None:
    async with client_of(photos, all_equal(logit)) as (client, _):
        check_fallback(await client.infer(frame_HWC))


# ── answers of some of a frame's chunks ─────────────────────────────────────────────────────────────


class InChunks(Fixed):
    """Every frame in four chunks, each of which beats the device's own answer."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self._choice = replace(self._choice, least_chunks=1)

    def encode(self, device: Any, frame: Any, looked: Any, choice: Choice) -> Encoded:
        encoded: Encoded = device.encode_chunks(looked, choice.width, choice.bits)
        return encoded


async def at_its_deadline(photos: Bundle, frame_HWC: UInt8, *replies: Reply) -> Result:
    """Of a frame to which the server says all of this, and not a last word."""
    async with client_of(photos, silent, strategy=InChunks(), deadline_ms=200) as (client, link):
        ending = client.submit(frame_HWC)
        async with asyncio.timeout(5):
            while not link._open:
                await asyncio.sleep(0.001)
            for reply in replies:
                link._open[1].replied(reply, asyncio.get_running_loop().time())
            return await ending


async def test_the_widest_answer_so_far_is_given_whatever_came_after_it(photos: Bundle, frame_HWC: UInt8) -> None:
    some = [Reply(seq=1, outputs=(OUTPUTS,), chunks=chunks) for chunks in (2, 3, 1)]
    result = await at_its_deadline(photos, frame_HWC, *some)
    assert (result.source, result.width) == ("remote", photos.manifest.seam.widths[2])


@pytest.mark.parametrize(("outputs", "chunks"), [(np.zeros((3, 3), np.float32), 1), (OUTPUTS, 77)])
async def test_an_answer_of_some_chunks_that_cannot_be_is_the_devices_own_at_the_deadline(
    photos: Bundle, frame_HWC: UInt8, outputs: Float32, chunks: int
) -> None:
    check_fallback(await at_its_deadline(photos, frame_HWC, Reply(seq=1, outputs=(outputs,), chunks=chunks)))


async def test_no_reply_without_an_exit_is_an_error_that_names_the_stage(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(without_exit(photos), silent, deadline_ms=100) as (client, _):
        with pytest.raises(DeadlineExceeded) as caught:
            await client.infer(frame_HWC)
    assert caught.value.stage == "tail"


FINAL = [
    errors.BadFrame("no"),
    errors.FrameTooLarge("no"),
    errors.WidthUnsupported("no"),
    errors.VersionMismatch("no"),
    errors.ModelNotFound("no"),
    errors.DeadlineExceeded("no", stage="queue"),
]
PASSING = [
    errors.IntegrityError("no"),
    errors.Overloaded("no", retry_after_ms=1.0),
    errors.LinkLost("no"),
    errors.ServerDraining("no"),
    errors.RemoteFailure("no", request_id="a"),
]


@pytest.mark.parametrize("error", FINAL, ids=lambda error: str(error.code))
async def test_an_error_that_will_not_pass_is_not_tried_again(
    photos: Bundle, frame_HWC: UInt8, error: SplitError
) -> None:
    async with client_of(photos, failing(error)) as (client, link):
        check_fallback(await client.infer(frame_HWC))
        assert len(link.sent) == 1


@pytest.mark.parametrize("error", PASSING, ids=lambda error: str(error.code))
async def test_an_error_that_may_pass_is_tried_once_more_and_not_twice(
    photos: Bundle, frame_HWC: UInt8, error: SplitError
) -> None:
    async with client_of(photos, failing(error)) as (client, link):
        result = await client.infer(frame_HWC)
        check_fallback(result)
        assert [frame.seq for frame in link.sent] == [result.seq] * 2


@pytest.mark.parametrize("error", PASSING, ids=lambda error: str(error.code))
async def test_a_second_try_that_works_is_the_result(photos: Bundle, frame_HWC: UInt8, error: SplitError) -> None:
    tries: list[Frame] = []

    def second(frame: Frame) -> tuple[float, Reply | None]:
        tries.append(frame)
        return failing(error)(frame) if len(tries) == 1 else good(frame)

    async with client_of(photos, second) as (client, _):
        assert (await client.infer(frame_HWC)).source == "remote"
    assert len(tries) == 2


async def test_without_an_exit_the_servers_error_is_the_frames(photos: Bundle, frame_HWC: UInt8) -> None:
    error = errors.RemoteFailure("the tail failed", request_id="abc")
    async with client_of(without_exit(photos), failing(error)) as (client, _):
        with pytest.raises(errors.RemoteFailure) as caught:
            await client.infer(frame_HWC)
    assert caught.value.request_id == "abc"


async def test_an_overload_beyond_the_deadline_is_not_waited_for(photos: Bundle, frame_HWC: UInt8) -> None:
    error = errors.Overloaded("no", retry_after_ms=60_000.0)
    async with client_of(photos, failing(error), deadline_ms=100) as (client, link):
        result = await client.infer(frame_HWC)
        check_fallback(result)
        assert result.latency_ms <= 100 + SLACK_MS
        assert len(link.sent) == 1


@pytest.mark.parametrize(
    "outputs",
    [(), (np.zeros(3, np.float32),), (np.zeros((2, 3), np.float32),), (np.zeros((), np.float32),)],
    ids=["none", "too few", "two axes", "a number"],
)
async def test_outputs_that_are_no_answer_of_this_bundle_are_not_given_out(
    photos: Bundle, frame_HWC: UInt8, outputs: tuple[Float32, ...]
) -> None:
    async with client_of(photos, lambda frame: (0.0, Reply(seq=frame.seq, outputs=outputs))) as (client, _):
        check_fallback(await client.infer(frame_HWC))


async def test_a_payload_over_the_servers_cap_is_not_sent(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos, good) as (client, link):
        link.max_payload_bytes = 10
        check_fallback(await client.infer(frame_HWC))
        assert link.sent == []


# ── the device answers ──────────────────────────────────────────────────────────────────────────────


async def test_an_exit_never_sends(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos, good, strategy=Alone()) as (client, link):
        result = await client.infer(frame_HWC)
        assert (result.source, result.degraded, result.payload_bytes) == ("exit", False, 0)
        assert link.sent == []


@pytest.mark.parametrize(("threshold", "source"), [(0.0, "exit"), (1.01, "remote")])
async def test_the_manifests_threshold_decides_who_answers(
    photos: Bundle, frame_HWC: UInt8, threshold: float, source: str
) -> None:
    from splitrt.device.strategy import Adaptive

    bundle = sure_at(photos, threshold)
    async with client_of(bundle, good, strategy=Adaptive(bundle)) as (client, link):
        assert (await client.infer(frame_HWC)).source == source
        assert len(link.sent) == (source == "remote")


async def test_a_link_that_is_down_costs_no_waiting(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos, good, is_up=False, deadline_ms=30_000) as (client, link):
        result = await client.infer(frame_HWC)
        check_fallback(result)
        assert result.latency_ms < 10_000
        assert link.sent == []


async def test_a_head_that_fails_ends_its_frame_and_not_the_next(
    photos: Bundle, frame_HWC: UInt8, head: GatedHead
) -> None:
    async with client_of(photos, good, head=head) as (client, _):
        stem, head.stem = head.stem, lambda x_CHW: 1 / 0  # type: ignore[method-assign, assignment, return-value]
        with pytest.raises(ZeroDivisionError):
            await client.infer(frame_HWC)
        head.stem = stem  # type: ignore[method-assign]
        assert (await client.infer(frame_HWC)).source == "remote"


# ── the waiting room ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("max_waiting", [1, 3])
async def test_the_newest_frames_win_and_the_others_are_counted(
    photos: Bundle, frame_HWC: UInt8, head: GatedHead, max_waiting: int
) -> None:
    async with client_of(photos, good, head=head, max_waiting=max_waiting) as (client, link):
        head.gate.clear()
        futures = [client.submit(frame_HWC) for _ in range(8)]
        head.gate.set()
        results = await asyncio.gather(*futures)
        sources = [result.source for result in results]
        skipped = 8 - 1 - max_waiting
        assert sources == ["remote"] + ["skipped"] * skipped + ["remote"] * max_waiting
        assert [result.seq for result in results] == list(range(1, 9))
        assert len(link.sent) == 1 + max_waiting
        assert all(result.output is None for result in results if result.source == "skipped")


async def test_a_frame_that_waits_for_a_stuck_head_still_ends_on_time(
    photos: Bundle, frame_HWC: UInt8, head: GatedHead
) -> None:
    loop = asyncio.get_running_loop()
    async with client_of(photos, good, head=head, deadline_ms=100, max_waiting=4) as (client, _):
        head.gate.clear()
        started = loop.time()
        ends = await asyncio.wait_for(
            asyncio.gather(*(client.submit(frame_HWC) for _ in range(3)), return_exceptions=True), 5
        )
        assert (loop.time() - started) * 1e3 <= 100 + SLACK_MS
        assert [(type(end), getattr(end, "stage", "")) for end in ends] == [(DeadlineExceeded, "head")] * 3
        head.gate.set()
        assert (await client.infer(frame_HWC, deadline_ms=5_000)).source == "remote"


async def test_a_caller_who_gives_up_harms_nobody(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos, silent, deadline_ms=200) as (client, link):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await client.infer(frame_HWC)
        link._script = good
        assert (await client.infer(frame_HWC, deadline_ms=5_000)).source == "remote"


# ── closing, and what callers get wrong ─────────────────────────────────────────────────────────────


async def test_closing_ends_what_is_under_way_and_what_waits(photos: Bundle, frame_HWC: UInt8, head: GatedHead) -> None:
    async with client_of(photos, silent, head=head, max_waiting=4) as (client, link):
        sent = client.submit(frame_HWC)
        while not link.sent:
            await asyncio.sleep(0.001)
        head.gate.clear()
        rest = [client.submit(frame_HWC) for _ in range(3)]
        await client.aclose()
        await client.aclose()
        for future in (sent, *rest):
            assert isinstance(future.exception(), ClientClosed)
        with pytest.raises(ClientClosed):
            client.submit(frame_HWC)


@pytest.mark.parametrize("deadline_ms", [0, -1, 60_001, float("nan"), float("inf")])
async def test_a_deadline_that_is_none_is_refused(photos: Bundle, frame_HWC: UInt8, deadline_ms: float) -> None:
    async with client_of(photos, good) as (client, _):
        with pytest.raises(InvalidInput, match="deadline_ms must be above 0"):
            await client.infer(frame_HWC, deadline_ms=deadline_ms)


async def test_a_stream_gives_results_in_order_of_capture(photos: Bundle, frame_HWC: UInt8) -> None:
    def the_first_is_slow(frame: Frame) -> tuple[float, Reply | None]:
        return (0.2 if frame.seq == 1 else 0.0), good(frame)[1]

    async with client_of(photos, the_first_is_slow, max_waiting=8) as (client, _):
        results = [result async for result in client.stream([frame_HWC] * 5)]
    assert [result.seq for result in results] == [1, 2, 3, 4, 5]
    assert {result.source for result in results} == {"remote"}


async def test_a_stream_goes_on_after_a_frame_that_nobody_could_answer(photos: Bundle, frame_HWC: UInt8) -> None:
    def odd_ones_fail(frame: Frame) -> tuple[float, Reply | None]:
        return failing(errors.BadFrame("no"))(frame) if frame.seq % 2 else good(frame)

    async with client_of(without_exit(photos), odd_ones_fail, max_waiting=8) as (client, _):
        results = [result async for result in client.stream([frame_HWC] * 4)]
    assert [type(result.error) for result in results] == [errors.BadFrame, type(None)] * 2


async def test_an_error_of_the_source_is_the_callers_and_the_client_lives(photos: Bundle, frame_HWC: UInt8) -> None:
    def camera() -> Iterator[UInt8]:
        yield frame_HWC
        raise RuntimeError("the camera fell off")

    async with client_of(photos, good) as (client, _):
        results: list[Result] = []
        with pytest.raises(RuntimeError, match="fell off"):
            await collect(client.stream(camera()), results)
        assert [result.source for result in results] == ["remote"]
        assert (await client.infer(frame_HWC)).source == "remote"


async def collect(stream: AsyncIterator[Result], into: list[Result]) -> None:
    async for result in stream:
        into.append(result)


async def test_leaving_a_stream_early_stops_its_source(photos: Bundle, frame_HWC: UInt8) -> None:
    ended = threading.Event()

    def camera() -> Iterator[UInt8]:
        try:
            while True:
                yield frame_HWC
        finally:
            ended.set()

    async with client_of(photos, good) as (client, _):
        stream = client.stream(camera(), fps=200)
        assert (await anext(stream)).source == "remote"
        await stream.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(ended.wait, 5)
        assert not any(thread.name == "source" and thread.is_alive() for thread in await threads_after(ended))


async def threads_after(ended: threading.Event) -> list[threading.Thread]:
    """Threads that still run shortly after the source has ended."""
    async with asyncio.timeout(5):
        while any(thread.name == "source" for thread in threading.enumerate()):
            await asyncio.sleep(0.005)
    return threading.enumerate()


# ── looked at again before it goes ──────────────────────────────────────────────────────────────────


class Wavering(Fixed):
    """Has `then` instead when the head is done."""

    def __init__(self, then: Choice | None) -> None:
        super().__init__(8, 4)
        self._then = then

    def recheck(self, link: LinkEstimate, choice: Choice, left_s: float, in_flight: InFlight) -> Choice | None:
        assert in_flight.frames
        return self._then


def silent_at_first(frame: Frame) -> tuple[float, Reply | None]:
    return (0.0, None) if frame.seq == 1 else good(frame)


@pytest.mark.parametrize("then", [None, Choice(width=4, bits=4, link_bytes=0, accuracy=1)])
async def test_while_another_is_on_its_way_a_frame_may_become_narrower_or_stay(
    photos: Bundle, frame_HWC: UInt8, then: Choice | None
) -> None:
    async with client_of(photos, silent_at_first, strategy=Wavering(then), deadline_ms=2_000) as (client, link):
        first = asyncio.create_task(client.infer(frame_HWC))
        while not link.sent:
            await asyncio.sleep(0.001)
        second = await client.infer(frame_HWC)
        assert [frame.width for frame in link.sent] == [8] + ([then.width] if then else [])
        assert second.source == ("remote" if then else "fallback")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
