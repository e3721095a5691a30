"""A server in a process of its own, for the demo and the benchmarks."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from splitrt.errors import RemoteFailure

START_S = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    address: str
    pid: int


@asynccontextmanager
async def server_process(
    bundles: Sequence[str], *options: str, host: str = "127.0.0.1", inside: Sequence[str] = ()
) -> AsyncIterator[str]:
    """`splitrt serve` on a free port of this machine; gives its address. Raises RemoteFailure with its last words.

    inside: words before its command, of a network namespace for one.
    """
    async with started(bundles, *options, host=host, inside=inside) as server:
        yield server.address


@asynccontextmanager
async def started(
    bundles: Sequence[str],
    *options: str,
    start_s: float = START_S,
    host: str = "127.0.0.1",
    inside: Sequence[str] = (),
) -> AsyncIterator[Started]:
    """The same, with its process. start_s: how long it may take."""
    process = await asyncio.create_subprocess_exec(
        *inside, sys.executable, "-m", "splitrt", "serve", *bundles, "--listen", f"{host}:0", *options,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    reading = asyncio.create_task(process.stderr.read())
    try:
        async with asyncio.timeout(start_s):
            line = (await process.stdout.readline()).decode()
        if not line.startswith("serving"):
            last = (await reading).decode().strip().rpartition("\n")[2]
            raise RemoteFailure(f"the server did not start: {last}")
        yield Started(line.split(" on ")[1].split()[0], process.pid)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        await reading
