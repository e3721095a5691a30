"""The real Prometheus under the committed configuration, beside a live server and two devices: every panel has data."""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from test_security import papers_in  # noqa: E402

from splitrt.config import ServerConfig  # noqa: E402
from splitrt.device.client import AsyncClient  # noqa: E402
from splitrt.device.connect import connect_async  # noqa: E402
from splitrt.device.language import LanguageClient, connect_language  # noqa: E402
from splitrt.errors import Unauthenticated  # noqa: E402
from splitrt.server.serve import serve  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "deploy/grafana"))
from panels import DASHBOARDS  # noqa: E402

WITHIN_S = 20.0
TOKEN = "only-for-this-test"
Found = list[dict[str, Any]]


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@contextmanager
def prometheus(folder: Path, **targets: list[str]) -> Iterator[str]:
    """Under deploy/prometheus, but every second; gives its address. Ends the process that it started, no other."""
    shutil.copytree(ROOT / "deploy/prometheus", folder / "etc")
    config = folder / "etc/prometheus.yml"
    config.write_text(config.read_text().replace("interval: 15s", "interval: 1s"))
    for name, addresses in targets.items():
        (folder / f"etc/targets/{name}.yml").write_text(json.dumps([{"targets": addresses}]))
    address = free_address()
    words = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
    words += [f"--web.listen-address={address}", "--enable-feature=exemplar-storage", "--log.level=error"]
    process = subprocess.Popen(words, env={**os.environ, "GOMAXPROCS": "1"})
    try:
        yield address
    finally:
        process.terminate()
        process.wait()


async def ask(address: str, path: str, **arguments: str) -> Found:
    url = f"http://{address}/api/v1/{path}?{urllib.parse.urlencode(arguments)}"

    def read() -> Any:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return json.load(answer)["data"]

    data = await asyncio.to_thread(read)
    found: Found = data["result"] if isinstance(data, dict) else data
    return found


async def without_data(address: str) -> list[str]:
    """Panels of which some query finds nothing, or nothing but NaN."""
    missing = []
    for name, panels in DASHBOARDS.items():
        for panel in panels:
            for legend, query in panel.queries.items():
                asked = query.replace("$__rate_interval", "10s").replace("$bundle", ".*")
                found = await ask(address, "query", query=asked)
                if not any(math.isfinite(float(one["value"][1])) for one in found):
                    missing.append(f"{name}: {panel.title}: {legend}")
    return missing


async def traffic(client: AsyncClient, texts: LanguageClient) -> None:
    draws = np.random.default_rng(0)
    for number in range(1 << 20):
        frame_HWC = draws.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        await client.infer(frame_HWC)
        if number % 5 == 0:
            async for _ in texts.generate("ROMEO:", max_tokens=12, mode="split", draft_tokens=3):
                pass
        await asyncio.sleep(0.05)


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="needs prometheus (Debian: apt-get install prometheus)")
@pytest.mark.usefixtures("one_thread")
async def test_every_panel_has_data_of_live_frames(tmp_path: Path) -> None:
    papers = papers_in(tmp_path / "tls")
    addresses = {"servers": free_address(), "devices": free_address(), "texts": free_address()}
    scraped = {"servers": [addresses["servers"]], "devices": [addresses["devices"], addresses["texts"]]}
    config = ServerConfig(
        listen="127.0.0.1:0", bundles=("photos", "shakespeare"), tokens={"camera": TOKEN}, drain_grace_s=0.1,
        metrics=addresses["servers"], tls_cert=papers.server_cert, tls_key=papers.server_key,
    )  # fmt: skip
    common: dict[str, Any] = {"tls_ca": papers.ca}
    async with AsyncExitStack() as stack:
        queries = stack.enter_context(prometheus(tmp_path, **scraped))
        server = await stack.enter_async_context(serve(config))
        with pytest.raises(Unauthenticated):
            await stack.enter_async_context(connect_async(server.address, token="another", **common))
        common["token"] = TOKEN
        client = await stack.enter_async_context(
            connect_async(server.address, metrics=addresses["devices"], audit_share=1.0, deadline_ms=2_000, **common)
        )
        texts = await stack.enter_async_context(
            connect_language(server.address, bundle="shakespeare", metrics=addresses["texts"], **common)
        )
        running = asyncio.create_task(traffic(client, texts))
        try:
            async with asyncio.timeout(WITHIN_S):
                await asyncio.sleep(6)  # Prometheus takes 5 to look for its targets; a rate needs two scrapes more
                while missing := await without_data(queries):
                    print("without data:", missing)  # what is shown where time runs out
                    await asyncio.sleep(0.5)
                exemplars = await ask(
                    queries, "query_exemplars", query="splitrt_frame_duration_seconds_bucket", start="0", end="4e9"
                )
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    traces = {one["labels"]["trace_id"] for series in exemplars for one in series["exemplars"]}
    assert traces
    assert all(trace.startswith(f"{client.stream_id:016x}") for trace in traces)
