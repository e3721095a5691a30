"""Claim `frame`: what the frame path costs beyond its networks and the wire itself.

overhead = end to end - head - tail - a raw TCP echo of the same bytes, in rounds of blocks in one interleaved
run, everything on loopback with the server in a process of its own. `ratio_http` compares the way from
payload to outputs (the same worker behind both) with FastAPI and httpx: the median of the rounds' ratios;
plain http.client is shown beside it, and `ratio_http_whole_client`, which counts the client's own work too.
Pipeline efficiency uses stages of at least 10 ms each. Payloads are packed or zstd: what the range coder takes and
saves is the claim `codec`. `metrics_cpu_share`: what metrics take of a frame's CPU time, see splitrt.bench.metering.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.made import make_in_process
from splitrt.bench.metering import metrics_cpu_share
from splitrt.bench.peers import HEADER, EchoClient, peer_process
from splitrt.bench.process import server_process
from splitrt.bench.report import Asked, Claim
from splitrt.bundle import load_bundle
from splitrt.device.client import AsyncClient
from splitrt.device.connect import connect_async
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice, Encoded
from splitrt.device.result import Result
from splitrt.device.strategy import Fixed
from splitrt.errors import ConfigError
from splitrt.rpc.frames import Frame, tables_prefix

DEADLINE_MS = 5_000.0
BLOCK = 40  # frames of one kind in a row
PAYLOAD_CHANNELS = 40  # x 16 x 16 at 8 bits: about 4 KB after zstd
STAGE_MS = 10.0

UInt8 = npt.NDArray[np.uint8]


def measure(asked: Asked) -> Claim:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        small = make_in_process(
            folder / "small", widths=(8, PAYLOAD_CHANNELS), width=0.5, resolution=128, decoder_hidden=16
        )
        heavy = make_in_process(folder / "heavy", widths=(4, 8), width=6.0, resolution=160, decoder_hidden=256)
        rows = asyncio.run(_rounds(small, 8 if asked.quick else 40))
        pipeline = asyncio.run(_pipeline(heavy, 60 if asked.quick else 300))
        memory = _steady(small, 1_000 if asked.quick else 10_000)
        metering = asyncio.run(metrics_cpu_share(small, PAYLOAD_CHANNELS, 200 if asked.quick else 1_000))
    overheads = [overhead for row in rows for overhead in row.pop("overheads_ms")]
    ratios = [row["request_ms"] / row["httpx_ms"] for row in rows]
    summary = {
        "overhead_ms_p50": float(np.percentile(overheads, 50)),
        "overhead_ms_p99": float(np.percentile(overheads, 99)),
        "floor_ms_p50": float(np.median([row["floor_ms"] for row in rows])),
        "ratio_http": float(np.median(ratios)),
        # The same with the client's own work around the link (submit, policy, head's lane, result) on our side.
        "ratio_http_whole_client": float(
            np.median([(row["latency_ms"] - row["head_ms"] - row["encode_ms"]) / row["httpx_ms"] for row in rows])
        ),
        "ratio_http_quartiles": [float(np.percentile(ratios, 25)), float(np.percentile(ratios, 75))],
        "ratio_http_client": float(np.median([row["request_ms"] / row["http_client_ms"] for row in rows])),
        "payload_bytes": float(np.median([row["payload_bytes"] for row in rows])),
        **pipeline,
        "rounds": len(rows),
        "lost": sum(row["lost"] for row in rows) + pipeline["lost"] + memory["lost"],
        "help_s": _help_s(),
        **metering,
        **{key: value for key, value in memory.items() if key != "lost"},
    }
    return Claim(summary=summary, rows=rows, draw=lambda file: _draw(rows, file))


async def _rounds(folder: Path, count: int) -> list[dict[str, Any]]:
    """Rounds of a block of frames our way, then the same bytes over the echo, our link alone, httpx and http.client."""
    try:
        import httpx
    except ImportError:
        raise ConfigError("bench frame compares with httpx and FastAPI: pip install 'splitrt[dev]'") from None
    bundle = load_bundle(folder)
    device = BottleneckDevice(bundle, OnnxHead(bundle))
    frame_HWC = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    encoded = device.encode(device.look(frame_HWC), PAYLOAD_CHANNELS, 8)
    rows: list[dict[str, Any]] = []
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(server_process([str(folder)]))
        http_port = await stack.enter_async_context(peer_process("http", str(folder)))
        echo = EchoClient(await stack.enter_async_context(peer_process("echo")))
        stack.callback(echo.close)
        client = await stack.enter_async_context(_client(server, folder, PAYLOAD_CHANNELS))
        session = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{http_port}"))
        plain = http.client.HTTPConnection("127.0.0.1", http_port)
        stack.callback(plain.close)
        payload = encoded.payloads[0]
        body = HEADER.pack(len(payload), encoded.width, encoded.bits, encoded.codec) + payload
        for number in range(count + 1):
            results = [await client.infer(frame_HWC) for _ in range(BLOCK)]
            request_ms = [await _request_ms(client, encoded, BLOCK * number + i) for i in range(BLOCK)]
            alone = {
                "echo_ms": [echo.round_trip_s(payload) * 1e3 for _ in range(BLOCK)],
                "request_ms": request_ms,
                "httpx_ms": [_timed_ms(lambda: session.post("/infer", content=body).content) for _ in range(BLOCK)],
                "http_client_ms": [_timed_ms(lambda: _post(plain, body)) for _ in range(BLOCK)],
            }
            if number:  # the first round warms up
                rows.append(_row(results, {name: float(np.median(times)) for name, times in alone.items()}))
    return rows


def _row(results: list[Result], alone: dict[str, float]) -> dict[str, Any]:
    """A round: medians, and the overhead of each of its frames."""

    def median(of: Callable[[Result], float]) -> float:
        return float(np.median([of(result) for result in results]))

    floors_ms = [result.timings.head + result.timings.tail + alone["echo_ms"] for result in results]
    overheads_ms = [result.latency_ms - floor for result, floor in zip(results, floors_ms, strict=True)]
    return {
        **alone,
        "latency_ms": median(lambda result: result.latency_ms),
        "floor_ms": float(np.median(floors_ms)),
        "overhead_ms": float(np.median(overheads_ms)),
        "overheads_ms": overheads_ms,
        **{f"{stage}_ms": median(partial(_stage_ms, stage)) for stage in ("head", "encode", "queue", "decode", "tail")},
        "payload_bytes": median(lambda result: result.payload_bytes),
        "lost": sum(result.source != "remote" for result in results),
    }


def _stage_ms(stage: str, result: Result) -> float:
    return float(getattr(result.timings, stage))


async def _request_ms(client: AsyncClient, encoded: Encoded, number: int) -> float:
    """A payload over our link, to the outputs: what the HTTP clients do, without head and policy."""
    started = time.perf_counter()
    frame = Frame(
        seq=(1 << 20) + number,
        width=encoded.width,
        bits=encoded.bits,
        codec=encoded.codec,
        deadline_ms=0,
        tables=tables_prefix(client.bundle.tables.digest()),
        payloads=encoded.payloads,
    )
    reply = await client.link.send(frame, asyncio.get_running_loop().time() + DEADLINE_MS / 1e3).reply
    if reply.error is not None:
        raise reply.error
    return (time.perf_counter() - started) * 1e3


def _timed_ms(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


def _post(connection: http.client.HTTPConnection, body: bytes) -> bytes:
    connection.request("POST", "/infer", body)
    return connection.getresponse().read()


async def _pipeline(folder: Path, count: int) -> dict[str, Any]:
    """Frames as fast as the head takes them, tails meanwhile: frames per second x the slowest stage."""
    bundle = load_bundle(folder)
    wanted = bundle.manifest.photograph
    frame_HWC = np.random.default_rng(0).integers(0, 256, (wanted.height, wanted.width, 3), dtype=np.uint8)
    results: list[Result] = []
    one_at_a_time = folder / "../one.toml"  # a batch's time is no stage's time
    one_at_a_time.write_text("[server]\nmax_batch = 1\n")
    serving = server_process([str(folder)], "--config", str(one_at_a_time))
    async with serving as server, _client(server, folder, 8, max_waiting=4) as client:
        await client.infer(frame_HWC)
        running: set[asyncio.Future[Result]] = set()
        started = time.perf_counter()
        for _ in range(count):
            running.add(client.submit(frame_HWC))
            if len(running) == 4:  # one in each stage, one waiting for each
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                results += [future.result() for future in done]
        results += await asyncio.gather(*running)
        seconds = time.perf_counter() - started
    # Means: throughput is made of them, a median would leave out the slow frames that it has to carry.
    head_ms = float(np.mean([result.timings.head + result.timings.encode for result in results]))
    tail_ms = float(np.mean([result.timings.decode + result.timings.tail for result in results]))
    return {
        "pipeline_efficiency": len(results) / seconds * max(head_ms, tail_ms) / 1e3,
        "pipeline_fps": len(results) / seconds,
        "pipeline_head_ms": head_ms,
        "pipeline_tail_ms": tail_ms,
        "lost": sum(result.source != "remote" for result in results),
    }


def _steady(folder: Path, count: int) -> dict[str, Any]:
    """In a process of its own, whose memory nothing else here has touched."""
    words = [sys.executable, "-m", "splitrt.bench.steady", str(folder), str(count)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def _client(server: str, folder: Path, width: int, **settings: Any) -> Any:
    return connect_async(
        server, bundle=str(folder), deadline_ms=DEADLINE_MS, strategy=lambda _: Fixed(width, 8), **settings
    )


def _help_s() -> float:
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "splitrt", "--help"], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return float(np.median(seconds))


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 3.5)
    names = ("overhead_ms", "request_ms", "httpx_ms", "http_client_ms", "echo_ms")
    labels = ("overhead", "payload to outputs:\nsplitrt", "the same:\nhttpx", "the same:\nhttp.client", "raw TCP echo")
    axes[0, 0].boxplot([[row[name] for row in rows] for name in names], tick_labels=labels, whis=(1, 99), sym="")
    axes[0, 0].set_ylabel("ms, medians of rounds")
    save(drawing, file)
