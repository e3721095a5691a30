"""`splitrt top` against a real endpoint, and against none."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from prometheus_client import start_http_server
from typer.testing import CliRunner

from splitrt.cli import app
from splitrt.errors import ConfigError
from splitrt.metrics import ServerMetrics
from splitrt.top.page import NoAnswer


@pytest.fixture
def address() -> Iterator[str]:
    metrics = ServerMetrics()
    metrics.streams.set(3)
    httpd, thread = start_http_server(0, "127.0.0.1", metrics.registry)
    yield f"127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_once_prints_one_view_and_ends(address: str) -> None:
    shown = CliRunner().invoke(app, ["top", address, "--once", "--every-s", "0.1"])
    assert shown.exit_code == 0, shown.output
    assert "streams" in shown.stdout


def test_once_as_json_has_the_blocks(address: str) -> None:
    shown = CliRunner().invoke(app, ["top", address, "--once", "--every-s", "0.1", "--json", "-"])
    view = json.loads(shown.stdout)
    assert view["interval_s"] >= 0.1
    assert {"title": "streams", "level": 3.0} in [
        {"title": block["title"], "level": block["lines"][0]["level"]} for block in view["blocks"]
    ]


def test_no_answer_is_a_failed_run_and_a_bad_address_bad_usage() -> None:
    assert isinstance(CliRunner().invoke(app, ["top", "127.0.0.1:1"]).exception, NoAnswer)
    assert isinstance(CliRunner().invoke(app, ["top", "nonsense"]).exception, ConfigError)
    assert isinstance(CliRunner().invoke(app, ["top", "127.0.0.1:1", "--json", "-"]).exception, ConfigError)
