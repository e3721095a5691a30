"""Figures of a stream, on made rows."""

from __future__ import annotations

import numpy as np

from splitrt.bench.frames import pan
from splitrt.bench.log import FrameLog, summary
from splitrt.device.result import Classes, Result, Source


def result(seq: int, source: Source, latency_ms: float, link_bytes: int = 0) -> Result:
    output = None if source == "skipped" else Classes(scores=np.array([0.2, 0.8], np.float32), labels=("a", "b"))
    return Result(
        seq=seq, source=source, output=output, model="m", version="1", latency_ms=latency_ms, link_bytes=link_bytes
    )


def test_skipped_frames_are_neither_answered_nor_lost_and_missing_ones_are_lost() -> None:
    log = FrameLog()
    sources: tuple[Source, ...] = ("exit", "remote", "fallback", "skipped")
    for seq, source in enumerate(sources):
        log.add(result(seq, source, 10.0))
    figures = summary(log, deadline_ms=100, submitted=5)
    assert (figures["answered"], figures["skipped"], figures["lost"]) == (3, 1, 1)


def test_late_means_after_the_deadline_and_its_grace() -> None:
    log = FrameLog()
    for seq, latency_ms in enumerate((100.0, 149.0, 151.0)):
        log.add(result(seq, "remote", latency_ms))
    assert summary(log, deadline_ms=100)["late"] == 1


def test_panned_frames_have_the_wanted_size_and_differ() -> None:
    image = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
    frames = list(pan(image, 64, 64, 5))
    assert {frame.shape for frame in frames} == {(64, 64, 3)}
    assert len({frame.tobytes() for frame in frames}) == 5


def test_a_log_of_the_last_frames_does_not_grow() -> None:
    log = FrameLog(last=10)
    for seq in range(1_000):
        log.add(result(seq, "remote", 1.0))
        assert [row["seq"] for row in log.rows][-10:] == list(range(max(0, seq - 9), seq + 1))
        assert len(log.rows) <= 20
