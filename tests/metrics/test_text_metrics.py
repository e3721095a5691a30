from __future__ import annotations

from splitrt.device.events import Statistics
from splitrt.metrics import TextMetrics
from splitrt.metrics.text import DEEPEST


def test_texts_add_up_and_depths_beyond_the_deepest_are_counted_with_it() -> None:
    metrics = TextMetrics("tiny")
    told = Statistics(
        tokens=30, answered=12, provisional=5, retracted=2, connections=3, rounds_by_mode={"split": 10},
        drafted_by_depth=[9] * (DEEPEST + 2), accepted_by_depth=[4] * (DEEPEST + 2),
    )  # fmt: skip
    metrics.ended(told, "length")
    metrics.ended(told, "cancelled")
    read = metrics.registry.get_sample_value
    labels = {"bundle": "tiny"}
    assert read("splitrt_device_tokens_total", {**labels, "fate": "committed"}) == 60
    assert read("splitrt_device_tokens_total", {**labels, "fate": "retracted"}) == 4
    assert read("splitrt_device_calls_total", labels) == 24
    assert read("splitrt_device_rounds_total", {**labels, "mode": "split"}) == 20
    assert read("splitrt_device_text_reconnects_total", labels) == 4
    assert read("splitrt_device_accepted_total", {**labels, "depth": "1"}) == 8
    assert read("splitrt_device_accepted_total", {**labels, "depth": str(DEEPEST)}) == 24
    assert read("splitrt_device_drafted_total", {**labels, "depth": str(DEEPEST + 1)}) is None
    assert read("splitrt_device_texts_total", {**labels, "reason": "cancelled"}) == 1
