"""The kernel's own TCP over a link of ours: two namespaces, real packets. Skipped where the host has no such links."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from splitrt.bench.process import server_process
from splitrt.bundle import Bundle
from splitrt.device.connect import connect_async
from splitrt.device.strategy import Fixed
from splitrt.errors import ConfigError
from splitrt.netem import Shape
from splitrt.netem.tunnel import OF_A_PROCESS, Tunnel

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

PORT = 7000
ECHO = f"""
import socket, sys
server = socket.create_server((sys.argv[1], {PORT}))
print("up", flush=True)
while True:
    peer, _ = server.accept()
    while piece := peer.recv(65536):
        peer.sendall(piece)
"""


@asynccontextmanager
async def tunnel(shape: Shape) -> AsyncIterator[Tunnel]:
    link = Tunnel(shape)
    try:
        await link.start()
    except ConfigError as error:
        pytest.skip(str(error))
    try:
        yield link
    finally:
        await link.close()


@asynccontextmanager
async def running(link: Tunnel, *command: str) -> AsyncIterator[str]:
    """A command inside, and the first line that it said."""
    process = await asyncio.create_subprocess_exec(
        *link.inside, sys.executable, *command, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield (await asyncio.wait_for(process.stdout.readline(), 60)).decode()
    finally:
        process.terminate()
        await process.wait()


@asynccontextmanager
async def echoing(shape: Shape) -> AsyncIterator[tuple[Tunnel, Streams]]:
    async with tunnel(shape) as link, running(link, "-c", ECHO, link.address):
        streams = await asyncio.wait_for(asyncio.open_connection(link.address, PORT), 10)
        yield link, streams
        streams[1].close()


async def exchange(streams: Streams, payload: bytes) -> float:
    reader, writer = streams
    started_s = time.monotonic()
    writer.write(payload)
    assert await asyncio.wait_for(reader.readexactly(len(payload)), 20) == payload
    return time.monotonic() - started_s


async def test_a_word_and_its_echo_take_the_round_trip() -> None:
    async with echoing(Shape(rtt_ms=100)) as (_, streams):
        assert 0.1 <= await exchange(streams, b"word") < 0.2


async def test_bytes_take_as_long_as_the_rate_says() -> None:
    async with echoing(Shape(up_mbit=2)) as (_, streams):
        assert await exchange(streams, bytes(100_000)) >= 0.4


async def test_the_kernels_window_opens_a_round_trip_at_a_time() -> None:
    """What the proxy does not have: ten packets go before the first acknowledgement, whatever the rate."""
    async with echoing(Shape(rtt_ms=100)) as (_, streams):
        assert await exchange(streams, bytes(100_000)) >= 0.3


async def test_packets_that_find_the_queue_full_are_lost_and_sent_again_by_the_kernel() -> None:
    async with echoing(Shape(up_mbit=20, rtt_ms=10, buffer_bytes=6_000)) as (link, streams):
        await exchange(streams, bytes(range(256)) * 800)
        assert link.dropped > 0


async def test_an_outage_holds_packets() -> None:
    async with echoing(Shape(outages=((0.1, 0.4),))) as (link, streams):
        link.restart_trace()
        await asyncio.sleep(0.15)
        assert await exchange(streams, b"word") >= 0.3


def always(bundle: Bundle) -> Fixed:
    seam = bundle.manifest.seam
    return Fixed(max(seam.widths), max(seam.bits))


async def test_a_client_is_answered_over_it(photos: Bundle) -> None:
    pixels = photos.manifest.pixels
    assert pixels is not None
    grey_HWC = np.full((pixels.height, pixels.width, 3), 128, np.uint8)
    async with (
        tunnel(Shape(up_mbit=20, down_mbit=20, rtt_ms=10)) as link,
        server_process(["photos"], host=link.address, inside=link.inside) as server,
        connect_async(server, bundle="photos", strategy=always, connect_timeout_s=20.0) as client,
    ):
        result = await client.infer(grey_HWC, deadline_ms=5_000.0)
    assert result.source == "remote"
    assert result.latency_ms >= 10.0


async def test_two_stand_side_by_side_and_nothing_is_left_of_them() -> None:
    async with tunnel(Shape()) as one, tunnel(Shape()) as two:
        assert one.address != two.address
        assert {one.namespace, two.namespace} <= await namespaces()
    assert not {one.namespace, two.namespace} & await namespaces()


async def test_one_too_many_is_refused_and_takes_nobody_elses_away() -> None:
    async with AsyncExitStack() as stack:
        standing = [await stack.enter_async_context(tunnel(Shape())) for _ in range(OF_A_PROCESS)]
        with pytest.raises(ConfigError, match="at most 8 tunnels at once"):
            await Tunnel(Shape()).start()
        assert {one.namespace for one in standing} <= await namespaces()


async def test_an_interface_that_vanishes_is_read_no_more() -> None:
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
    async with tunnel(Shape()) as link:
        device = next(name for _, name in socket.if_nameindex() if name.startswith(f"srt{os.getpid()}"))
        process = await asyncio.create_subprocess_exec("ip", "link", "del", device)
        await process.wait()
        await asyncio.sleep(0.05)
        assert link.namespace in await namespaces()
    assert problems == []


async def test_a_start_that_is_cancelled_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with tunnel(Shape()):  # or this host has none
        pass
    slow, real = tmp_path / "ip", shutil.which("ip")
    slow.write_text(f'#!/bin/sh\n[ "$2" = add ] && touch {tmp_path}/began && sleep 0.1\nexec {real} "$@"\n')
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    link = Tunnel(Shape())
    starting = asyncio.create_task(link.start())
    while not (tmp_path / "began").exists():
        await asyncio.sleep(0.002)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await asyncio.sleep(0.2)
    assert link.namespace not in await namespaces()


async def test_a_host_without_the_command_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ConfigError, match="needs the command `ip`"):
        await Tunnel(Shape()).start()


async def namespaces() -> set[str]:
    process = await asyncio.create_subprocess_exec("ip", "netns", "list", stdout=asyncio.subprocess.PIPE)
    listed = (await process.communicate())[0].decode()
    return {line.split()[0] for line in listed.splitlines()}
