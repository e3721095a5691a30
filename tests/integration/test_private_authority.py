"""What `splitrt doctor --init-tls` makes is what a real server and a real device speak TLS with."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from loopback import to_the_server, until

from splitrt.cli.papers import make_papers
from splitrt.config import ClientConfig, ServerConfig, read_settings
from splitrt.device.client import AsyncClient
from splitrt.device.connect import connect_async
from splitrt.device.grpc_link import GrpcLink
from splitrt.errors import Unauthenticated
from splitrt.server.serve import RunningServer, serve

UInt8 = npt.NDArray[np.uint8]


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ours")
    make_papers(folder, [], ["robot-7", "health"], days=30)
    return folder


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    make_papers(folder, [], ["robot-7"], days=30)
    return folder


@asynccontextmanager
async def server_of(papers: Path, **flags: Any) -> AsyncIterator[RunningServer]:
    flags = {"listen": "127.0.0.1:0", "drain_grace_s": 0.2, **flags}
    async with serve(read_settings(ServerConfig, "server", papers / "server.toml", flags, {})) as server:
        yield server


@asynccontextmanager
async def device_of(papers: Path, server: RunningServer, **flags: Any) -> AsyncIterator[AsyncClient]:
    flags = {"servers": (server.address,), "deadline_ms": 10_000.0, **flags}
    config = read_settings(ClientConfig, "client", papers / "robot-7.toml", flags, {})
    async with connect_async(config=config, strategy=to_the_server) as client:
        yield client


async def doctor(*words: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "splitrt", "doctor", *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    return process.returncode, said.decode()


async def test_a_device_with_its_papers_is_answered(papers: Path, frame_HWC: UInt8) -> None:
    async with server_of(papers) as server, device_of(papers, server) as client:
        assert (await client.infer(frame_HWC)).source == "remote"


async def test_a_device_certificate_of_another_authority_is_refused(papers: Path, strangers: Path) -> None:
    theirs = {"tls_cert": strangers / "robot-7.pem", "tls_key": strangers / "robot-7.key"}
    async with server_of(papers) as server:
        async with device_of(papers, server, connect_timeout_s=0.4, **theirs) as client:
            link = client.link
            assert isinstance(link, GrpcLink)
            await until(lambda: link.last_error is not None)
            assert link.connections == 0
        assert server.metrics.registry.get_sample_value("splitrt_streams_open") == 0


async def test_a_device_of_a_second_authority_comes_in_once_the_server_knows_it_too(
    papers: Path, strangers: Path, tmp_path: Path, frame_HWC: UInt8
) -> None:
    """How devices are added, and how an authority is replaced."""
    both = tmp_path / "authorities.pem"
    both.write_bytes((papers / "authority.pem").read_bytes() + (strangers / "authority.pem").read_bytes())
    theirs = {"tls_cert": strangers / "robot-7.pem", "tls_key": strangers / "robot-7.key"}
    async with server_of(papers, client_ca=both) as server:
        for more in ({}, theirs):
            async with device_of(papers, server, **more) as client:
                assert (await client.infer(frame_HWC)).source == "remote"


async def test_the_certificate_without_the_token_is_not_enough(papers: Path) -> None:
    async with server_of(papers) as server:
        with pytest.raises(Unauthenticated):
            async with device_of(papers, server, token="of another deployment"):
                pass


async def test_health_is_asked_with_a_certificate_alone_and_refused_without(papers: Path) -> None:
    flags = ("--health", "--tls-ca", str(papers / "authority.pem"))
    pair = ("--tls-cert", str(papers / "health.pem"), "--tls-key", str(papers / "health.key"))
    async with server_of(papers) as server:
        at = ("--server", server.address)
        (code, said), (bare_code, bare) = await asyncio.gather(doctor(*at, *flags, *pair), doctor(*at, *flags))
    assert (code, said) == (0, f"{server.address} SERVING\n")
    assert bare_code == 1
    assert "Traceback" not in bare
