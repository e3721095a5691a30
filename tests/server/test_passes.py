from __future__ import annotations

import asyncio
import threading
from functools import partial

import pytest

torch = pytest.importorskip("torch", reason="needs the torch extra")

from language_pairs import TARGET, random_model  # noqa: E402
from torch import Tensor  # noqa: E402

from splitrt.errors import InvalidInput  # noqa: E402
from splitrt.language.context import PIECE, Context  # noqa: E402
from splitrt.server.passes import Passes, Ready, Work  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
MODEL = random_model()


def look(
    context: Context, tokens: list[int], ids: tuple[int, ...] = (), after: list[str] | None = None
) -> Work[Tensor]:
    def finish(logits_TV: Tensor) -> Tensor:
        if after is not None:
            after.append(str(len(tokens)))
        return logits_TV

    return Work(context, tokens, ids, tuple(range(-1, len(ids) - 1)), finish)


async def gathered(passes: Passes, works: list[Work[Tensor]]) -> list[Tensor]:
    """All handed over before the thread takes the first."""
    gate = threading.Event()

    def wait() -> Ready[None]:
        gate.wait()
        return Ready(None)

    held = asyncio.create_task(passes.run(wait))
    running = [asyncio.create_task(passes.run(partial(same, work))) for work in works]
    await asyncio.sleep(0.05)
    gate.set()
    await held
    return [await one for one in running]


def same(work: Work[Tensor]) -> Work[Tensor]:
    return work


async def test_sessions_share_a_pass_and_each_gets_what_it_would_get_alone() -> None:
    texts = [[1, 5 + number, 7, *range(20, 20 + 9 * number)] for number in range(6)]
    drafts = [tuple(range(30, 30 + number)) for number in range(6)]
    passes = Passes(MODEL)
    passes.start()
    try:
        found = await gathered(passes, [look(Context(MODEL), *each) for each in zip(texts, drafts, strict=True)])
    finally:
        passes.stop()
    assert passes.passes == 1
    assert passes.jobs == 6
    for text, draft, logits_TV in zip(texts, drafts, found, strict=True):
        assert torch.equal(logits_TV, Context(MODEL).look(text, draft, range(-1, len(draft) - 1)))


async def test_a_long_text_does_not_stall_a_short_one_and_comes_to_the_same() -> None:
    long, short = [3] * (PIECE + 20), [1, 2]
    assert len(long) < TARGET.context
    order: list[str] = []
    passes = Passes(MODEL)
    passes.start()
    try:
        found = await gathered(
            passes, [look(Context(MODEL), long, after=order), look(Context(MODEL), short, after=order)]
        )
    finally:
        passes.stop()
    assert order == [str(len(short)), str(len(long))]
    assert torch.equal(found[0][0], MODEL.read(long, MODEL.cache())[-1])


async def test_jobs_of_one_session_come_one_after_the_other() -> None:
    context = Context(MODEL)
    passes = Passes(MODEL)
    passes.start()
    try:
        found = await gathered(passes, [look(context, [1, 2, 3]), look(context, [1, 2, 9, 4])])
    finally:
        passes.stop()
    assert passes.passes == 2
    assert torch.equal(found[1][0], MODEL.read([1, 2, 9, 4], MODEL.cache())[-1])


async def test_an_error_is_its_jobs_alone_and_the_thread_goes_on() -> None:
    passes = Passes(MODEL)
    passes.start()

    def broken() -> Ready[None]:
        raise InvalidInput("this cannot be")

    def cannot_finish(logits_TV: Tensor) -> None:
        raise InvalidInput("nor this")

    try:
        with pytest.raises(InvalidInput, match="this cannot be"):
            await passes.run(broken)
        with pytest.raises(InvalidInput, match="nor this"):
            await passes.run(lambda: Work(Context(MODEL), [1], (), (), cannot_finish))
        context = Context(MODEL)
        with pytest.raises(InvalidInput, match="at most 160"):
            await passes.run(lambda: look(context, [1] * 100, tuple([1] * 80)))
        logits_TV = await passes.run(lambda: look(context, [1, 2]))
        assert torch.equal(logits_TV[0], MODEL.read([1, 2], MODEL.cache())[-1])
    finally:
        passes.stop()


async def test_a_job_whose_caller_has_gone_does_not_stop_the_thread() -> None:
    passes = Passes(MODEL)
    passes.start()
    started, gate = threading.Event(), threading.Event()

    def slow() -> Ready[None]:
        started.set()
        gate.wait()
        return Ready(None)

    try:
        first = asyncio.create_task(passes.run(slow))
        waiting = asyncio.create_task(passes.run(lambda: look(Context(MODEL), [1])))
        await asyncio.to_thread(started.wait)
        for task in (first, waiting):
            task.cancel()
        await asyncio.gather(first, waiting, return_exceptions=True)
        gate.set()
        assert (await passes.run(lambda: look(Context(MODEL), [1, 2]))).shape[0] == 1
    finally:
        passes.stop()
