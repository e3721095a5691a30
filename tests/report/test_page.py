"""Pages as a browser sees them, and runs that were made to break them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from chromium import Browser, browser, chromium
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from splitrt.cli import app
from splitrt.errors import ConfigError, InvalidInput
from splitrt.report.chart import MOST_POINTS, Plot, spoken, thinned
from splitrt.report.page import charts_of, page
from splitrt.report.run import MOST_BYTES, Run, number, read_run
from splitrt.report.svg import ticks

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "docs/results").glob("*.json"))
EVIL = [
    "<script>document.title='owned'</script>", "\"><img src=http://192.0.2.1/x onerror=alert(1)>", "</style><b>",
    "<svg onload=alert(1)>", "javascript:alert(1)", "\x00\x1b[2J", "\ud800", "&lt;", "é" * 5000,
]  # fmt: skip


def written(folder: Path, content: Any, name: str = "run.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(content))
    return path


def evil_run() -> dict[str, Any]:
    """Everything that a stranger may write, wherever a run has text."""
    rows = [
        {word: number, "how": word, "stream": word, "link_bytes": number, "score": number, "curve": [[1, 2]] * 9}
        for number, word in enumerate(EVIL)
    ]
    frames = [{"source": word, "latency_ms": 1, "stream": word, "label": word} for word in EVIL]
    names = dict.fromkeys(EVIL, EVIL[0])
    return {
        "summary": {**names, "deep": {word: names for word in EVIL}},
        "rows": [*rows, *frames],
        "environment": names,
    }


# ── in a browser ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = chromium()
    if program is None:
        pytest.skip("needs chromium, to look at pages: apt-get install chromium")
    with browser(program, tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.mark.parametrize("name", ["demo", "rate", "speculate"])
def test_every_plot_is_on_the_page_with_its_size_nothing_is_asked_for_and_nothing_complains(
    opened: Browser, tmp_path: Path, name: str
) -> None:
    run = read_run(ROOT / f"docs/results/{name}.json")
    file = tmp_path / f"{name}.html"
    file.write_text(page(run))
    seen = opened.see(file)
    assert len(seen.svgs) == len(charts_of(run)) > 2
    for svg in seen.svgs:
        assert svg["width"] > 250
        assert svg["height"] > 20
        assert svg["shapes"] > 0
    assert seen.requests == [file.as_uri()]
    assert seen.complaints == []
    assert "Summary" in seen.body


def test_a_run_that_is_an_attack_is_a_page_that_asks_for_nothing_and_runs_nothing(
    opened: Browser, tmp_path: Path
) -> None:
    file = tmp_path / "evil.html"
    file.write_bytes(page(read_run(written(tmp_path, evil_run()))).encode(errors="replace"))
    seen = opened.see(file)
    assert seen.requests == [file.as_uri()]
    assert seen.complaints == []
    assert "<script>document.title='owned'</script>" in seen.body  # as text
    assert "run" in opened.ask("Runtime.evaluate", expression="document.title")["result"]["value"]


# ── without one ─────────────────────────────────────────────────────────────────────────────────────


class Elements(HTMLParser):
    """Tags and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


TAGS = {
    "html", "head", "meta", "title", "style", "body", "header", "h1", "h2", "p", "main", "section", "div", "table",
    "caption", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "ul", "li", "i", "svg", "g", "path",
    "circle", "rect", "line", "text",
}  # fmt: skip

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(EVIL)
value = st.recursive(plain, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.text(max_size=9), deeper))
keys = st.text(max_size=9) | st.sampled_from(
    [
        "source",
        "latency_ms",
        "at_s",
        "width",
        "rate_mbit",
        "rate_low_mbit",
        "rate_high_mbit",
        "link_bytes",
        "score",
        "how",
    ]
)
mapping = st.dictionaries(keys, value, max_size=6)


@settings(max_examples=20, deadline=None)
@given(summary=mapping, environment=mapping, rows=st.lists(mapping, max_size=8), is_log=st.booleans())
def test_whatever_a_run_holds_the_page_has_our_elements_and_no_other(
    summary: dict[str, Any],
    environment: dict[str, Any],
    rows: list[dict[str, Any]],
    is_log: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    if is_log:
        rows = [{"source": "exit", "latency_ms": 1.0} | row for row in rows]
    content = {"summary": summary, "rows": rows, "environment": environment}
    elements = Elements(page(read_run(written(tmp_path_factory.mktemp("any"), content))))
    assert elements.tags <= TAGS
    assert not {name for name in elements.attributes if name.startswith("on") or name in ("src", "href", "style")}


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_every_committed_result_has_plots_and_no_address_to_go_to(file: Path) -> None:
    run = read_run(file)
    shown = page(run)
    assert len(charts_of(run)) >= 2
    assert not re.search(r"(src|href|url|@import)\s*[=(]", shown)
    assert "nan" not in re.sub(r">[^<]*<", "", shown)  # in no coordinate


def test_a_frame_log_counts_every_frame_once_in_its_outcomes() -> None:
    run = read_run(ROOT / "docs/results/demo.json")
    plot = next(one for one in charts_of(run) if one.title == "splitrt: outcomes so far")
    assert isinstance(plot, Plot)
    assert sum(series.points[-1][1] for series in plot.series) == 300


def test_the_links_estimate_has_its_band_where_the_run_says_it() -> None:
    rows = [
        {"source": "exit", "latency_ms": 1.0, "rate_mbit": 2.0, "rate_low_mbit": 1.0, "rate_high_mbit": 3.0}
        for _ in range(5)
    ]
    titles = {one.title: one for one in charts_of(Run(title="run", summary={}, rows=tuple(rows), environment={}))}
    plot = titles["what is believed of the uplink"]
    assert isinstance(plot, Plot)
    assert plot.band is not None
    assert plot.band.low[0] == (0.0, 1.0)


@given(st.lists(st.tuples(st.floats(), st.floats()), max_size=4000))
@settings(max_examples=20, deadline=None)
def test_a_thinned_series_keeps_its_ends(points: list[tuple[float, float]]) -> None:
    kept = thinned(points)
    assert len(kept) <= MOST_POINTS
    assert kept[:1] == tuple(points[:1])
    assert repr(kept[-1:]) == repr(tuple(points[-1:]))


@given(st.floats(-1e90, 1e90), st.floats(-1e90, 1e90))
def test_ticks_are_few_rise_and_enclose_the_values(one: float, other: float) -> None:
    low, high = sorted((one, other))
    found = ticks(low, high)
    assert 1 <= len(found) <= 9
    assert found == sorted(found)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[1]", "as --json of a command writes it"),
        ('{"summary": {}}', "as --json of a command writes it"),
        ("{", "must be JSON"),
        ("[" * 100_000, "must be JSON"),
        ("1" * 10_000, "must be"),
        ('{"rows": [' + "0," * 200_001 + "0]}", "at most 200000 rows"),
    ],
    ids=["list", "rowless", "torn", "deep", "long", "many"],
)
def test_a_file_that_is_no_run_is_refused(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "run.json"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=said):
        read_run(path)


def test_a_file_that_is_too_large_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    with path.open("wb") as file:
        file.truncate(MOST_BYTES + 1)
    with pytest.raises(InvalidInput, match="at most 32 MiB"):
        read_run(path)


@pytest.mark.parametrize("value", [None, True, "1", float("nan"), float("inf"), 10**400, [1], 1e200])
def test_what_cannot_be_plotted_is_no_number(value: object) -> None:
    assert number(value) is None


@pytest.mark.parametrize(
    ("name", "said"),
    [("latency_ms_p50", "latency p50, ms"), ("link_bytes", "link bytes"), ("speedup", "speedup"), ("ms", "ms")],
)
def test_units_are_said_behind_the_name(name: str, said: str) -> None:
    assert spoken(name) == said


# ── the command ─────────────────────────────────────────────────────────────────────────────────────


def test_the_command_writes_the_page_beside_the_run_and_says_what_is_on_it(tmp_path: Path) -> None:
    file = written(tmp_path, {"summary": {}, "rows": [{"source": "exit", "latency_ms": 2.5, "width": 0}] * 3})
    done = CliRunner().invoke(app, ["report", str(file), "--json", "-"])
    assert json.loads(done.stdout)["plots"] == ["latency by who answered", "outcomes so far"]
    assert (tmp_path / "run.html").read_text().startswith("<!doctype html>")


def test_a_run_that_is_absent_and_a_page_that_cannot_be_written_are_bad_usage(tmp_path: Path) -> None:
    absent = CliRunner().invoke(app, ["report", str(tmp_path / "absent.json")])
    assert isinstance(absent.exception, InvalidInput)
    file = written(tmp_path, {"summary": {}, "rows": []})
    kept = CliRunner().invoke(app, ["report", str(file), "--out", str(tmp_path)])
    assert isinstance(kept.exception, ConfigError)
