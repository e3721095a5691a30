"""How a device's metrics get out: a file that is whole, a push that may fail, a port that must be free."""

from __future__ import annotations

import socket
import threading
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from pydantic import ValidationError

from splitrt.config import ClientConfig
from splitrt.device.exposure import exposed
from splitrt.errors import ConfigError, EngineError
from splitrt.metrics import DeviceMetrics

NEVER_S = 3_600.0


@pytest.fixture
def metrics() -> DeviceMetrics:
    return DeviceMetrics("photos")


@pytest.fixture
def pushed() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A gateway's address, and the paths and texts that came to it."""
    came: list[tuple[str, str]] = []

    class Gateway(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            came.append((self.path, self.rfile.read(int(self.headers["Content-Length"])).decode()))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Gateway)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", came
    server.shutdown()
    server.server_close()
    thread.join()


async def test_the_file_is_there_from_the_start_and_has_the_last_word(metrics: DeviceMetrics, tmp_path: Path) -> None:
    file = tmp_path / "splitrt.prom"
    async with exposed(ClientConfig(metrics_file=file, metrics_every_s=NEVER_S), metrics.registry):
        assert 'outcome="exit"} 0.0' in file.read_text()
        metrics.ended("exit")
        assert 'outcome="exit"} 0.0' in file.read_text()
    assert 'outcome="exit"} 1.0' in file.read_text()
    assert list(tmp_path.iterdir()) == [file]  # nothing half written is left beside it


async def test_a_file_that_cannot_be_written_is_refused_at_the_start(metrics: DeviceMetrics, tmp_path: Path) -> None:
    config = ClientConfig(metrics_file=tmp_path / "absent/splitrt.prom")
    with pytest.raises(ConfigError, match=r"client\.metrics_file must be a file in a folder that can be written"):
        async with exposed(config, metrics.registry):
            pass


def test_a_file_that_the_collector_would_not_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"must end in \.prom"):
        ClientConfig(metrics_file=tmp_path / "splitrt.txt")


async def test_a_push_is_under_the_devices_name(
    metrics: DeviceMetrics, pushed: tuple[str, list[tuple[str, str]]]
) -> None:
    url, came = pushed
    config = ClientConfig(metrics_push=url, metrics_instance="camera/7", metrics_every_s=NEVER_S)
    async with exposed(config, metrics.registry):
        metrics.ended("remote")
    [(path, text)] = came
    assert path.startswith("/metrics/job/splitrt_device/instance@base64/")
    assert 'outcome="remote"} 1.0' in text


async def test_a_gateway_that_is_not_there_is_logged_and_nothing_more(
    metrics: DeviceMetrics, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        async with exposed(ClientConfig(metrics_push=url, metrics_every_s=NEVER_S), metrics.registry):
            pass
    assert "metrics could not be told" in caplog.text


async def test_the_port_serves_what_the_snapshot_says(metrics: DeviceMetrics) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    metrics.ended("gate")
    async with exposed(ClientConfig(metrics=address), metrics.registry):
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as answer:
            assert answer.read().decode() == metrics.snapshot()
        with pytest.raises(EngineError, match=r"client\.metrics must be a free HOST:PORT"):
            async with exposed(ClientConfig(metrics=address), metrics.registry):
                pass
