"""Two looks at a page: rates, quantiles and levels, whatever the page says."""

from __future__ import annotations

import math
from bisect import bisect_left
from contextlib import suppress
from io import StringIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from rich.console import Console

from splitrt.metrics import DeviceMetrics, ServerMetrics
from splitrt.top.page import NoAnswer
from splitrt.top.rows import ROWS
from splitrt.top.sample import read_sample
from splitrt.top.screen import amount, draw
from splitrt.top.view import MOST_LINES, Block, View, compare, quantile

EDGES = (0.001, 0.01, 0.1, 1.0, 10.0)
times = st.lists(st.floats(1e-4, 9.9), max_size=60)


def block(view: View, title: str) -> Block:
    return next(one for one in view.blocks if one.title == title)


def drawn(view: View) -> str:
    out = StringIO()
    Console(file=out, width=120, force_terminal=False).print(draw(view, "edge:9090"))
    return out.getvalue()


@settings(max_examples=40, deadline=None)
@given(early=st.dictionaries(st.sampled_from("abc"), st.integers(0, 1000)), late=st.integers(0, 1000))
def test_rates_are_what_was_counted_between_the_looks_and_shares_add_up(early: dict[str, int], late: int) -> None:
    registry = CollectorRegistry()
    frames = Counter("splitrt_frames", "", ["bundle", "outcome"], registry=registry)
    for outcome, count in early.items():
        frames.labels("photos", outcome).inc(count)
    before = read_sample(generate_latest(registry).decode(), 10.0)
    for outcome in "ab":
        frames.labels("photos", outcome).inc(late)
    lines = block(compare(before, read_sample(generate_latest(registry).decode(), 12.0)), "frames").lines
    assert {line.labels: line.per_s for line in lines} == {
        f"photos {one}": late / 2 if one in "ab" else 0.0 for one in {*early, "a", "b"}
    }
    assert sum(line.share or 0 for line in lines) == pytest.approx(1 if late else 0)


@settings(max_examples=60, deadline=None)
@given(early=times, late=times)
def test_a_quantile_lies_in_the_bucket_of_the_true_one_of_what_came_between(
    early: list[float], late: list[float]
) -> None:
    registry = CollectorRegistry()
    stages = Histogram(
        "splitrt_frame_duration_seconds", "", ["bundle", "stage"], buckets=EDGES, registry=registry
    ).labels("photos", "tail")
    for one in early:
        stages.observe(one)
    before = read_sample(generate_latest(registry).decode(), 0.0)
    for one in late:
        stages.observe(one)
    line = block(compare(before, read_sample(generate_latest(registry).decode(), 1.0)), "stages").lines[0]
    assert line.per_s == len(late)
    for q, found in ((0.5, line.p50), (0.95, line.p95)):
        if not late:
            assert found is None
            continue
        true = float(np.quantile(late, q, method="inverted_cdf"))
        edge = bisect_left(EDGES, true)
        assert found is not None
        assert (EDGES[edge - 1] if edge else 0.0) - 1e-12 <= found <= EDGES[edge] + 1e-12


@given(st.dictionaries(st.floats(), st.floats()), st.floats(0, 1))
def test_whatever_the_buckets_say_a_quantile_is_none_or_within_their_edges(
    buckets: dict[float, float], q: float
) -> None:
    found = quantile(buckets, q)
    if found is not None:
        edges = [edge for edge in buckets if not math.isnan(edge)]
        assert min(0.0, *edges) <= found <= max(edges)


def test_a_server_that_was_restarted_counts_from_its_start() -> None:
    before = read_sample('splitrt_frames_total{outcome="ok"} 1000\n', 0.0)
    after = compare(before, read_sample('splitrt_frames_total{outcome="ok"} 30\n', 2.0))
    assert block(after, "frames").lines[0].per_s == 15


def test_the_first_look_has_totals_and_no_rates() -> None:
    view = compare(None, read_sample("splitrt_frames_total 8\nsplitrt_streams_open 2\n", 0.0))
    assert (block(view, "frames").lines[0].total, block(view, "frames").lines[0].per_s) == (8, None)
    assert block(view, "streams").lines[0].level == 2


def test_metrics_that_a_page_lacks_have_no_rows() -> None:
    view = compare(None, read_sample("splitrt_streams_open 2\nprocess_open_fds 9\n", 0.0))
    assert [one.title for one in view.blocks] == ["streams"]
    assert "no metric of splitrt" in drawn(compare(None, read_sample("process_open_fds 9\n", 0.0)))


def test_what_servers_and_devices_count_is_shown() -> None:
    named = {row.metric for row in ROWS}
    for registry in (ServerMetrics().registry, DeviceMetrics().registry):
        text = generate_latest(registry).decode()
        known = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
        assert len(named & set(known)) > 8


hostile = st.one_of(
    st.text(max_size=200),
    st.builds(
        lambda name, label, value: f'{name}{{outcome="{label}"}} {value}\n',
        st.sampled_from([row.metric + end for row in ROWS for end in ("", "_bucket", "_count")]),
        st.text(max_size=80),
        st.sampled_from(["NaN", "+Inf", "-Inf", "-1", "1e308", "1e999", "0x1", "1"]),
    ),
)


@settings(max_examples=150, deadline=None)
@given(pages=st.lists(st.lists(hostile, max_size=6).map("".join), min_size=2, max_size=2))
def test_no_page_breaks_the_view_or_reaches_the_terminals_controls(pages: list[str]) -> None:
    with suppress(NoAnswer):
        before, now = (read_sample(text, float(at)) for at, text in enumerate(pages))
        shown = drawn(compare(before, now))
        assert all(letter.isprintable() or letter == "\n" for letter in shown)


def test_an_escape_sequence_in_a_label_is_shown_as_question_marks() -> None:
    shown = drawn(compare(None, read_sample('splitrt_frames_total{outcome="\x1b[2J[red]x"} 1\n', 0.0)))
    assert "?[2J[red]x" in shown


def test_a_page_of_endless_labels_is_cut_and_says_so() -> None:
    text = "".join(f'splitrt_frames_total{{outcome="{number}"}} 1\n' for number in range(MOST_LINES + 7))
    view = compare(None, read_sample(text, 0.0))
    assert len(block(view, "frames").lines) == MOST_LINES
    assert "and 7 more" in drawn(view)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [(0.0123, "s", "12.3 ms"), (2.5, "s", "2.5 s"), (4e-6, "s", "4 µs"), (0.0, "s", "0 s"), (1500, "B", "1.5 kB"),
     (3, "", "3"), (None, "s", "-"), (math.inf, "", "-"), (2.5e6, "B/s", "2.5 MB/s")],
)  # fmt: skip
def test_amounts_are_said_in_their_own_steps(value: float | None, unit: str, text: str) -> None:
    assert amount(value, unit) == text
