"""Who may come in: certificates, tokens, health and reflection. And that no secret is ever logged."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest
import trustme
from grpc_health.v1 import health_pb2, health_pb2_grpc
from loopback import channel_to, serving, stub_on, to_the_server, until

import splitrt
from splitrt.config import ServerConfig
from splitrt.device.client import AsyncClient
from splitrt.device.grpc_link import GrpcLink
from splitrt.errors import ConfigError, LinkLost, Unauthenticated
from splitrt.rpc.service import NAME as SERVICE
from splitrt.rpc.v1 import split_pb2 as pb
from splitrt.server.serve import RunningServer, serve

UInt8 = npt.NDArray[np.uint8]
SECRET = "correct-horse-battery-staple"
OTHER_SECRET = "wrong-horse-battery-staple"


@dataclass(frozen=True, slots=True)
class Papers:
    """Files of one authority: its certificate, a server's pair and a device's pair."""

    ca: Path
    server_cert: Path
    server_key: Path
    device_cert: Path
    device_key: Path

    @property
    def server(self) -> dict[str, Any]:
        return {"tls_cert": self.server_cert, "tls_key": self.server_key}

    @property
    def device(self) -> dict[str, Any]:
        return {"tls_cert": self.device_cert, "tls_key": self.device_key}


def papers_in(folder: Path, host: str = "127.0.0.1") -> Papers:
    folder.mkdir()
    authority = trustme.CA()
    papers = Papers(*(folder / f"{name}.pem" for name in ("ca", "cert", "key", "device-cert", "device-key")))
    authority.cert_pem.write_to_path(papers.ca)
    for leaf, cert, key in (
        (authority.issue_cert(host), papers.server_cert, papers.server_key),
        (authority.issue_cert("robot-7"), papers.device_cert, papers.device_key),
    ):
        leaf.private_key_pem.write_to_path(key)
        for pem in leaf.cert_chain_pems:
            pem.write_to_path(cert, append=True)
    return papers


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return papers_in(tmp_path_factory.mktemp("tls") / "ours")


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return papers_in(tmp_path_factory.mktemp("tls") / "theirs")


@pytest.fixture(autouse=True)
def no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.DEBUG)
    # A gRPC server that was never started logs itself while it is freed; to keep that record is a crash.
    caplog.set_level(logging.INFO, logger="grpc")
    yield
    for record in caplog.get_records("call"):
        said = f"{record.getMessage()} {record.exc_text or ''}"
        for secret in (SECRET, OTHER_SECRET, "PRIVATE KEY"):
            assert secret not in said, record


@asynccontextmanager
async def connected(server: RunningServer, **settings: Any) -> AsyncIterator[AsyncClient]:
    async with splitrt.connect_async(
        server.address, bundle="photos", deadline_ms=10_000, strategy=to_the_server, **settings
    ) as client:
        yield client


@asynccontextmanager
async def refused(server: RunningServer, **settings: Any) -> AsyncIterator[AsyncClient]:
    """A client whose link does not come up, for a reason of TLS's."""
    async with connected(server, connect_timeout_s=0.4, **settings) as client:
        link = client.link
        assert isinstance(link, GrpcLink)
        await until(lambda: link.last_error is not None)
        assert isinstance(link.last_error, LinkLost)
        assert "unavailable" in str(link.last_error)
        assert link.connections == 0
        yield client


# ── TLS ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_frames_travel_over_tls(papers: Papers, frame_HWC: UInt8) -> None:
    async with serving(**papers.server) as server, connected(server, tls_ca=papers.ca) as client:
        assert (await client.infer(frame_HWC)).source == "remote"


async def test_a_certificate_of_another_name_is_taken_only_under_that_name(tmp_path: Path, frame_HWC: UInt8) -> None:
    elsewhere = papers_in(tmp_path / "named", host="gateway.test")
    async with serving(**elsewhere.server) as server:
        async with connected(server, tls_ca=elsewhere.ca, tls_name="gateway.test") as client:
            assert (await client.infer(frame_HWC)).source == "remote"
        async with refused(server, tls_ca=elsewhere.ca):
            pass


async def test_a_server_of_another_authority_is_not_spoken_to(papers: Papers, strangers: Papers) -> None:
    async with serving(**papers.server) as server, refused(server, tls_ca=strangers.ca):
        assert server.metrics.registry.get_sample_value("splitrt_streams_open") == 0


async def test_plaintext_to_a_tls_port_is_a_lost_link(papers: Papers, frame_HWC: UInt8) -> None:
    async with serving(**papers.server) as server, refused(server) as client:
        result = await client.infer(frame_HWC, deadline_ms=500)
        assert result.source == "fallback"  # the device answers alone
        assert result.degraded


async def test_tls_to_a_plaintext_port_is_a_lost_link_and_the_token_stays_here(papers: Papers) -> None:
    async with serving() as server, refused(server, tls_ca=papers.ca, token=SECRET):
        pass


@pytest.mark.parametrize("file", ["tls_ca", "tls_key"])
async def test_a_file_that_cannot_be_read_is_an_error_at_once(papers: Papers, tmp_path: Path, file: str) -> None:
    settings = {"tls_ca": papers.ca, **papers.device, file: tmp_path / "absent.pem"}
    async with serving(**papers.server) as server:
        with pytest.raises(ConfigError, match=rf"client\.{file} must be a readable file"):
            async with connected(server, **settings):
                pass


async def test_a_server_without_its_key_does_not_start(papers: Papers, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"server\.tls_key must be a readable file"):
        async with serving(tls_cert=papers.server_cert, tls_key=tmp_path / "absent.pem"):
            pass


# ── mTLS ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_device_with_a_certificate_of_ours_comes_in(papers: Papers, frame_HWC: UInt8) -> None:
    async with serving(**papers.server, client_ca=papers.ca) as server:
        async with connected(server, tls_ca=papers.ca, **papers.device) as client:
            assert (await client.infer(frame_HWC)).source == "remote"


async def test_a_device_without_a_certificate_does_not(papers: Papers) -> None:
    async with serving(**papers.server, client_ca=papers.ca) as server:
        async with refused(server, tls_ca=papers.ca):
            pass
        assert server.metrics.registry.get_sample_value("splitrt_streams_open") == 0


async def test_a_device_with_a_certificate_of_another_authority_does_not(papers: Papers, strangers: Papers) -> None:
    async with serving(**papers.server, client_ca=papers.ca) as server:
        async with refused(server, tls_ca=papers.ca, **strangers.device):
            pass


# ── tokens ──────────────────────────────────────────────────────────────────────────────────────────


async def test_a_device_with_the_token_comes_in(frame_HWC: UInt8) -> None:
    async with serving(tokens={"lab": SECRET}) as server, connected(server, token=SECRET) as client:
        assert (await client.infer(frame_HWC)).source == "remote"


@pytest.mark.parametrize(
    ("token", "got"), [(None, "got none"), (OTHER_SECRET, "got another"), (SECRET[:-1], "got another")]
)
async def test_a_device_without_the_token_is_unauthenticated_at_once(token: str | None, got: str) -> None:
    async with serving(tokens={"lab": SECRET}) as server:
        with pytest.raises(Unauthenticated, match=got) as caught:
            async with connected(server, token=token, connect_timeout_s=10.0):
                pass
    for secret in (SECRET, OTHER_SECRET):
        assert secret not in str(caught.value)


async def test_a_server_that_refuses_does_not_hide_one_that_takes_the_device(frame_HWC: UInt8) -> None:
    async with serving(tokens={"robot": SECRET}) as strict, serving() as open_to_all:
        servers = f"{strict.address},{open_to_all.address}"
        async with splitrt.connect_async(servers, bundle="photos", deadline_ms=2000, strategy=to_the_server) as client:
            assert (await client.infer(frame_HWC)).source == "remote"


async def test_a_device_without_bundle_and_token_is_unauthenticated_too(tmp_path: Path) -> None:
    async with serving(tokens={"lab": SECRET}) as server:
        with pytest.raises(Unauthenticated, match="got none"):
            async with splitrt.connect_async(server.address, bundle="holiday", bundles_dir=tmp_path):
                pass


async def test_every_call_asks_for_the_token(photos: Any) -> None:
    async with serving(tokens={"lab": SECRET}) as server, channel_to(server.address) as channel:
        stub = stub_on(channel)
        described = stub.Describe(pb.DescribeRequest(), timeout=10)
        fetched = stub.FetchHead(pb.FetchHeadRequest(bundle_digest=photos.digest), timeout=10)
        for call in (described, fetched, stub.Infer(timeout=10)):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED


def test_settings_show_no_token() -> None:
    assert SECRET not in repr(ServerConfig.model_validate({"tokens": {"lab": SECRET}}))


# ── health and reflection ───────────────────────────────────────────────────────────────────────────

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_says_serving_and_at_the_drain_not_serving(service: str, frame_HWC: UInt8) -> None:
    async with channel_to_later() as channel_of:
        async with serving() as server:
            health = health_pb2_grpc.HealthStub(channel_of(server.address))
            request = health_pb2.HealthCheckRequest(service=service)
            assert (await health.Check(request, timeout=10)).status == SERVING
            watch = health.Watch(request)
            assert (await watch.read()).status == SERVING
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()


@asynccontextmanager
async def channel_to_later() -> AsyncIterator[Any]:
    """A channel that outlives the server it is opened to."""
    channels: list[Any] = []

    def open_to(address: str) -> Any:
        channels.append(grpc.aio.insecure_channel(address))
        return channels[-1]

    yield open_to
    for channel in channels:
        await channel.close()


async def test_a_draining_server_says_so_in_its_metrics() -> None:
    async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=0)) as server:
        assert server.metrics.registry.get_sample_value("splitrt_ready") == 1
        server.gateway.drain()
        await until(lambda: server.metrics.registry.get_sample_value("splitrt_ready") == 0)


@pytest.mark.parametrize("is_on", [False, True])
async def test_reflection_answers_only_behind_its_flag(is_on: bool) -> None:
    async with serving(reflection=is_on) as server, channel_to(server.address) as channel:
        assert (SERVICE in await reflected(channel)) is is_on


async def reflected(channel: Any) -> set[str]:
    """The services that reflection names; none where there is no reflection."""
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=10
    )
    try:
        return {service.name async for answer in call for service in answer.list_services_response.service}
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNIMPLEMENTED:
            raise
        return set()
