"""Load and what is made of it, on pure data and against a server in this process; no cluster."""

from __future__ import annotations

import asyncio
import time

import numpy as np
import pytest

from splitrt.bench.kills import recovery_s
from splitrt.bench.load import Answer, Asked, End, answer_of, arrivals_s, closed_loop, open_loop, per_second, tally
from splitrt.bench.loads import ask_of, goodputs, kept_at_most_load
from splitrt.bench.scaling import gain
from splitrt.bench.stream import Payload, streams
from splitrt.bundle import Bundle
from splitrt.config import ServerConfig
from splitrt.errors import DeadlineExceeded, LinkLost, Overloaded, RemoteFailure, SplitError
from splitrt.rpc.frames import Reply
from splitrt.server.serve import serve

OUTPUTS = Answer(End.OUTPUTS)


def asked(latency_s: float, answer: Answer = OUTPUTS, *, client: int = 0, meant_s: float = 0.0) -> Asked:
    return Asked(client=client, meant_s=meant_s, went_s=meant_s, ended_s=meant_s + latency_s, answer=answer)


def test_arrivals_are_as_many_as_the_rate_says_and_as_irregular_as_poissons() -> None:
    times_s = arrivals_s(200.0, 100.0, np.random.default_rng(0))
    gaps_s = np.diff(times_s)
    assert len(times_s) == pytest.approx(20_000, rel=0.03)
    assert 0 <= times_s[0] <= times_s[-1] <= 100.0
    assert float(np.std(gaps_s) / np.mean(gaps_s)) == pytest.approx(1.0, abs=0.05)  # exponential


async def test_a_server_that_stalls_is_charged_for_what_should_have_been_sent_meanwhile() -> None:
    """Coordinated omission: one client that waits for its answers would see a single slow one."""
    stall_s, loop = 0.2, asyncio.get_running_loop()
    stalled_until = loop.time() + stall_s

    async def ask(client: int, left_s: float) -> Answer:
        await asyncio.sleep(max(0.0, stalled_until - loop.time()))
        return OUTPUTS

    done = await open_loop(ask, 1, 200.0, stall_s, 10.0, seed=0)
    late = [one for one in done if one.latency_s > stall_s / 4]
    assert len(late) > 20


async def test_what_the_generator_itself_sends_late_is_counted_from_when_it_was_meant_to_go() -> None:
    async def ask(client: int, left_s: float) -> Answer:
        return OUTPUTS

    async def hog() -> None:
        await asyncio.sleep(0.02)
        time.sleep(0.1)  # the loop stands still

    hogging = asyncio.create_task(hog())
    done = await open_loop(ask, 1, 300.0, 0.2, 10.0, seed=0)
    await hogging
    assert max(one.latency_s for one in done) > 0.05


@pytest.mark.parametrize(
    ("error", "end"),
    [
        (Overloaded("full", retry_after_ms=7), End.REFUSED),
        (DeadlineExceeded("late", stage="queue"), End.EXPIRED),
        (RemoteFailure("gone"), End.FAILED),
    ],
)
def test_an_error_is_what_it_is(error: SplitError, end: End) -> None:
    assert answer_of(Reply(seq=1, error=error)).end is end
    assert answer_of(Reply(seq=1)).end is End.OUTPUTS
    assert answer_of(None).end is End.NONE
    assert answer_of(Reply(seq=1, error=Overloaded("full", retry_after_ms=7))).retry_after_ms == 7


async def test_a_stream_that_ends_under_a_frame_is_no_answer() -> None:
    async def ask(client: int, left_s: float) -> Answer:
        raise LinkLost("gone")

    done = await open_loop(ask, 1, 1_000.0, 0.01, 1.0, seed=0)
    assert {one.answer.end for one in done} == {End.NONE}


def test_goodput_counts_outputs_in_time_and_nothing_else() -> None:
    done = [asked(0.1), asked(0.2), asked(0.201), asked(0.01, Answer(End.REFUSED, 5.0)), asked(0.01, Answer(End.NONE))]
    figures = tally(done, 2.0, 0.2)
    assert figures["goodput"] == 1.0
    assert (figures["sent"], figures["outputs"], figures["refused"], figures["none"]) == (5, 3, 1, 1)
    assert figures["refusal_ms_p99"] == pytest.approx(10.0)
    assert figures["refused_without_time"] == 0
    assert tally([asked(0.01, Answer(End.REFUSED))], 1.0, 0.2)["refused_without_time"] == 1
    assert tally([], 1.0, 0.2)["latency_ms_p50"] is None


def test_a_closed_loops_rate_leaves_out_what_ended_after_its_time() -> None:
    assert per_second([asked(0.5), asked(0.9), asked(1.1)], 1.0) == 2.0
    assert per_second([], 1.0) == 0.0


def test_goodput_kept_is_of_the_highest_load_over_the_best() -> None:
    rows = [
        {"server": "a", "share": share, "goodput": goodput}
        for share, goodput in ((0.5, 10.0), (0.5, 20.0), (1.0, 30.0), (3.0, 24.0))
    ]
    assert goodputs(rows, "a") == {0.5: 15.0, 1.0: 30.0, 3.0: 24.0}
    assert kept_at_most_load(goodputs(rows, "a")) == pytest.approx(0.8)
    assert kept_at_most_load({}) == 0.0


def test_recovery_ends_when_the_last_stream_has_outputs_of_a_frame_sent_after_the_kill() -> None:
    done = [
        asked(5.0, client=0, meant_s=0.5),  # sent before the kill: says nothing
        asked(0.5, client=0, meant_s=2.0),
        asked(0.1, Answer(End.FAILED), client=1, meant_s=1.1),
        asked(0.2, client=1, meant_s=3.0),
    ]
    assert recovery_s(done, 2, 1.0) == pytest.approx(2.2)
    assert recovery_s(done, 3, 1.0) == float("inf")


def test_a_gain_is_the_median_of_the_rounds_ratios() -> None:
    found = gain([[10.0, 20.0], [10.0, 10.0], [20.0, 60.0]], way=1, over=0)
    assert found["gain"] == 2.0
    assert found["frames_per_s"] == [10.0, 20.0]


async def test_both_loops_get_outputs_from_a_real_server_and_nobody_is_answered_twice(photos: Bundle) -> None:
    async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=0.5)) as server:
        payload = Payload.of(photos)
        async with streams(server.address, payload, 5, per_connection=2) as opened:
            done = await open_loop(ask_of(opened), 5, 100.0, 0.5, 5.0, seed=1)
            done += await closed_loop(ask_of(opened), 5, 0.2, 5.0)
            assert {one.answer.end for one in done} == {End.OUTPUTS}
            assert {one.client for one in done} == set(range(5))
            assert [stream.duplicates for stream in opened] == [0] * 5
            assert sum(stream.asked for stream in opened) == len(done)


async def test_a_second_reply_to_a_frame_is_seen(photos: Bundle) -> None:
    async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=0.5)) as server:
        async with streams(server.address, Payload.of(photos), 1) as [stream]:
            await stream.ask(5.0, 5.0)
            stream._hear(Reply(seq=0))
            assert stream.duplicates == 1
