"""What a server counts: bounded whatever clients send and however many come, once a frame, and cheap."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from splitrt.bundle import Bundle
from splitrt.codec.payload import Codec
from splitrt.config import ServerConfig
from splitrt.device.result import Timings
from splitrt.errors import Overloaded, RemoteFailure, SplitError
from splitrt.metrics import DeviceMetrics, ServerMetrics
from splitrt.metrics.frames import FULL, LATE
from splitrt.metrics.registry import SECONDS
from splitrt.rpc.frames import FrameStart, Hello, Reply
from splitrt.server.gateway import Gateway
from splitrt.server.serve import serve

CLIENTS, WARM = 10_000, 500
BUDGET = 500  # series of a process with five bundles
LETTERS = 'a"\\\n{}=,é\x00☀$Z'


def series(registry: CollectorRegistry) -> int:
    return sum(len(metric.samples) for metric in registry.collect())


def told(bundle: Bundle, draw: random.Random) -> Hello:
    """What a client of ours says; half of the time with a name, a version or a protocol of its own making."""
    honest = Hello(
        bundle=bundle.manifest.name,
        version=bundle.manifest.version,
        bundle_digest=bundle.digest,
        tables_digest=bundle.tables.digest(),
        session_epoch=draw.getrandbits(63),
        stream=draw.getrandbits(64),
        degrades=draw.random() < 0.3,
    )
    name = "".join(draw.choices(LETTERS, k=12))
    changes: list[dict[str, Any]] = [
        {},
        {},
        {},
        {"bundle": name},
        {"version": name},
        {"protocol": draw.getrandbits(31)},
    ]
    return replace(honest, **draw.choice(changes))


def some_frame(draw: random.Random) -> FrameStart:
    return FrameStart(
        seq=draw.getrandbits(32),
        width=draw.choice([8, draw.getrandbits(31)]),
        bits=draw.choice([4, draw.getrandbits(31)]),
        codec=draw.choice([1, 2, 3, draw.getrandbits(31)]),
        deadline_ms=draw.choice([0, 100, draw.getrandbits(31)]),
        tables=draw.getrandbits(32),
        crc32c=draw.getrandbits(32),
        payload=draw.randbytes(draw.choice([0, 64])),
        chunks=draw.choice([1, 2, draw.getrandbits(31)]),
    )


async def come_and_go(gateway: Gateway, bundle: Bundle, draw: random.Random, number: int) -> None:
    async def nothing(_: Reply | int) -> None:
        return

    try:
        session = gateway.open(told(bundle, draw), f"principal {number} {LETTERS}", nothing, nothing)
    except SplitError as error:
        gateway.metrics.refused_streams.labels(error.code).inc()  # as the servicer does
        return
    await session.start_frame(some_frame(draw))
    gateway.close(session)


async def test_ten_thousand_clients_with_names_of_their_own_add_no_series(photos: Bundle) -> None:
    bundle, draw = photos, random.Random(5)
    async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=0.1, max_streams=CLIENTS)) as server:
        for number in range(WARM):
            await come_and_go(server.gateway, bundle, draw, number)
        before = series(server.metrics.registry)
        for number in range(WARM, CLIENTS):
            await come_and_go(server.gateway, bundle, draw, number)
        assert series(server.metrics.registry) == before
        assert LETTERS[:3] not in server.metrics.registry.text()


def test_five_bundles_that_have_seen_everything_stay_within_the_budget() -> None:
    metrics = ServerMetrics()
    for name in "abcde":
        frames = metrics.of(name, "1")
        for codec in Codec:
            frames.came(codec.name.lower(), 100, 200, is_whole=True)
        for width in (8, 16, 24, 32):
            frames.ended(None, width, 0.02, "t")
        frames.ran(1e-3, 1e-3, 1e-3)
        frames.ended(RemoteFailure("failed"), 8, 0.02, "t")
    assert series(metrics.registry) < BUDGET


def test_a_frame_that_ends_badly_is_counted_by_what_was_wrong() -> None:
    metrics = ServerMetrics()
    frames = metrics.of("photos", "3")
    frames.refused(Overloaded("full", reason="queue"), 100)
    frames.cancelled()
    read = metrics.registry.get_sample_value
    labels = {"bundle": "photos", "version": "3"}
    assert read("splitrt_frames_total", {**labels, "outcome": "overloaded"}) == 1
    assert read("splitrt_frames_total", {**labels, "outcome": "cancelled"}) == 1
    assert read("splitrt_admission_refused_total", {"reason": "queue"}) == 1
    assert read("splitrt_wire_bytes_total", {"direction": "up", "codec": "refused"}) == 100
    assert read("splitrt_frame_duration_seconds_count", {"bundle": "photos", "stage": "total"}) == 0


def test_what_rules_ask_for_is_there_before_the_first_error() -> None:
    metrics = ServerMetrics()
    metrics.of("photos", "3")
    read = metrics.registry.get_sample_value
    for outcome in ("ok", "overloaded", "expired", "remote_failure"):
        assert read("splitrt_frames_total", {"bundle": "photos", "version": "3", "outcome": outcome}) == 0
    assert all(read("splitrt_deadline_expired_total", {"stage": stage}) == 0 for stage in LATE)
    assert all(read("splitrt_admission_refused_total", {"reason": reason}) == 0 for reason in FULL)


@pytest.mark.parametrize("hertz", [10, 20, 30])
def test_a_control_budget_is_an_edge(hertz: int) -> None:
    assert any(abs(edge - 1 / hertz) < 5e-4 for edge in SECONDS)


def test_a_device_shows_only_stages_that_frames_passed() -> None:
    metrics = DeviceMetrics("photos")
    metrics.answered(9.0, Timings(head=3.0), 0)
    read = metrics.registry.get_sample_value
    name = "splitrt_device_frame_duration_seconds_count"
    assert read(name, {"bundle": "photos", "stage": "head"}) == read(name, {"bundle": "photos", "stage": "total"}) == 1
    assert read(name, {"bundle": "photos", "stage": "uplink"}) == 0
