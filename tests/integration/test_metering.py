"""Frames over real gRPC, and what both sides count of them."""

from __future__ import annotations

import asyncio
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from cryptography import x509
from loopback import frame_messages, raw_stream, serving, until
from test_security import papers_in

from splitrt.bundle import Bundle
from splitrt.device.connect import connect_async
from splitrt.device.strategy import Fixed
from splitrt.errors import DeadlineExceeded, EngineError

UInt8 = npt.NDArray[np.uint8]


async def test_a_degrading_frame_that_is_answered_twice_is_counted_once(photos: Bundle) -> None:
    async with serving() as server, raw_stream(server.address, photos, greeted=False) as stream:
        await stream.greet(degrades=True)
        first, *others = frame_messages(photos, 1, width=8, chunked=True, deadline_ms=2_000)
        await stream.say(first)
        answers = 0
        while not answers:
            answers += (await stream.hear()).WhichOneof("body") == "result"
        await stream.say(*others)
        answered, labels = server.metrics.registry.get_sample_value, {"bundle": "photos", "version": "3"}
        await until(lambda: bool(answered("splitrt_frames_total", {**labels, "outcome": "ok"})))
        passes = answered("splitrt_frame_duration_seconds_count", {"bundle": "photos", "stage": "tail"})
        assert passes is not None
        assert passes >= 2
        assert answered("splitrt_frames_total", {**labels, "outcome": "ok"}) == 1
        assert answered("splitrt_width_selected_total", {"bundle": "photos", "width": "8"}) == 1
        assert answered("splitrt_inflight_frames", labels) == 0


async def test_both_sides_count_the_same_frames(photos: Bundle, frame_HWC: UInt8) -> None:
    async with serving() as server:
        async with connect_async(server.address, strategy=lambda _: Fixed(8, 4), deadline_ms=10_000) as client:
            results = [await client.infer(frame_HWC) for _ in range(5)]
            device, gateway = client.metrics.registry.get_sample_value, server.metrics.registry.get_sample_value
            assert device("splitrt_device_frames_total", {"bundle": "photos", "outcome": "remote"}) == 5
            labels = {"bundle": "photos", "version": "3", "outcome": "ok"}
            await until(lambda: gateway("splitrt_frames_total", labels) == 5)
            assert device("splitrt_device_width_selected_total", {"bundle": "photos", "width": "8"}) == 5
            assert gateway("splitrt_width_selected_total", {"bundle": "photos", "width": "8"}) == 5
            payloads = sum(
                sample.value
                for metric in server.metrics.wire_bytes.collect()
                for sample in metric.samples
                if sample.name.endswith("_total") and sample.labels["direction"] == "up"
            )
            assert payloads == sum(result.payload_bytes for result in results)
            assert device("splitrt_device_bytes_total", {"direction": "up"}) == sum(one.link_bytes for one in results)
            down = device("splitrt_device_bytes_total", {"direction": "down"})
            assert down is not None
            assert down > 5 * 4 * 6  # six logits
            seconds = device("splitrt_device_frame_duration_seconds_sum", {"bundle": "photos", "stage": "tail"})
            assert seconds == pytest.approx(sum(one.timings.tail for one in results) / 1e3)
            server.gateway.drain()
            await until(lambda: device("splitrt_reconnects_total", {"cause": "drained"}) == 1)
            assert device("splitrt_link_up", {}) == 0


async def test_a_frame_whose_deadline_comes_first_is_counted_where_it_was(photos: Bundle, frame_HWC: UInt8) -> None:
    async with serving() as server:
        async with connect_async(server.address, strategy=lambda _: Fixed(8, 4)) as client:
            await client.infer(frame_HWC, deadline_ms=10_000)
            with suppress(DeadlineExceeded):  # where its head had not run
                assert (await client.infer(frame_HWC, deadline_ms=0.01)).source == "fallback"
            late = [client.metrics.registry.get_sample_value("splitrt_device_late_frames_total", {"stage": stage})
                    for stage in ("head", "uplink", "tail")]  # fmt: skip
            assert sorted(one or 0.0 for one in late) == [0, 0, 1]


async def test_the_endpoint_gives_text_and_openmetrics_and_a_busy_port_is_refused(photos: Bundle) -> None:
    async with serving(metrics="127.0.0.1:0") as server:
        assert server.scraped_at is not None
        plain = await scrape(server.scraped_at, "text/plain")
        assert "splitrt_ready 1.0" in plain
        assert "_created" not in plain
        async with raw_stream(server.address, photos, greeted=False) as stream:
            await stream.greet(stream=0xABC)
            await stream.answers(seq=7)
        rich = await scrape(server.scraped_at, "application/openmetrics-text; version=1.0.0")
        assert f'trace_id="{0xABC:016x}{7:016x}"' in rich
        with pytest.raises(EngineError, match=r"server.metrics must be a free HOST:PORT"):
            async with serving(metrics=server.scraped_at):
                pass


async def scrape(address: str, accepted: str) -> str:
    request = urllib.request.Request(f"http://{address}/metrics", headers={"Accept": accepted})

    def read() -> str:
        with urllib.request.urlopen(request, timeout=5) as answer:
            text: str = answer.read().decode()
            return text

    return await asyncio.to_thread(read)


async def test_the_end_of_certificates_is_known(tmp_path: Path) -> None:
    papers = papers_in(tmp_path / "tls")
    async with serving(**papers.server, client_ca=papers.ca) as server:
        for use, file in (("server", papers.server_cert), ("client_ca", papers.ca)):
            ends = x509.load_pem_x509_certificate(file.read_bytes()).not_valid_after_utc.timestamp()
            value = server.metrics.registry.get_sample_value("splitrt_cert_expiry_timestamp_seconds", {"use": use})
            assert value == ends
