"""New settings for a server that runs: all of them or none, and a new certificate with no restart."""

from __future__ import annotations

import asyncio
import logging
import shutil
import signal
import ssl
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme
from cryptography import x509
from loopback import channel_to, serving, stub_on

from splitrt.bundle import Bundle
from splitrt.config import ServerConfig
from splitrt.errors import ConfigError, ModelNotFound
from splitrt.rpc.v1 import split_pb2 as pb
from splitrt.server.reload import PREPARE, reload, reload_whenever
from splitrt.server.serve import RunningServer


def changed(server: RunningServer, **settings: Any) -> ServerConfig:
    return ServerConfig(**(server.gateway.config.model_dump() | settings))


async def status_with(server: RunningServer, token: str) -> grpc.StatusCode:
    async with channel_to(server.address) as channel:
        try:
            await stub_on(channel).Describe(
                pb.DescribeRequest(), metadata=(("authorization", f"Bearer {token}"),), timeout=5
            )
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


# ── settings ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_new_token_opens_the_door_and_the_old_one_no_more() -> None:
    async with serving(tokens={"a": "first"}) as server:
        assert await status_with(server, "first") is grpc.StatusCode.OK
        assert set(await reload(server, changed(server, tokens={"a": "second"}))) == {"tokens"}
        assert await status_with(server, "first") is grpc.StatusCode.UNAUTHENTICATED
        assert await status_with(server, "second") is grpc.StatusCode.OK


async def test_new_streams_are_told_the_new_limits() -> None:
    async with serving() as server:
        await reload(server, changed(server, max_in_flight=3, max_deadline_ms=77))
        assert (server.gateway.limits.max_in_flight, server.gateway.limits.max_deadline_ms) == (3, 77)


@pytest.mark.parametrize(
    ("refused", "said"),
    [
        ({"threads": 2}, "server.threads is 1 and would be 2"),
        ({"listen": "127.0.0.1:1"}, "server.listen is '127.0.0.1:0' and would be '127.0.0.1:1'"),
        ({"tls_cert": Path("c"), "tls_key": Path("k")}, "server.tls_cert is None and would be 'c'"),
        ({"max_streams": 1025}, "server.max_streams may be at most 1024 .* got 1025"),
    ],
)
async def test_one_key_that_needs_a_restart_and_nothing_is_changed_at_all(refused: dict[str, Any], said: str) -> None:
    async with serving(tokens={"a": "first"}) as server:
        before = server.gateway.config, server.gateway.limits
        with pytest.raises(ConfigError, match=f"nothing was reloaded: {said}.*restart"):
            await reload(server, changed(server, tokens={"a": "second"}, max_in_flight=3, **refused))
        assert (server.gateway.config, server.gateway.limits) == before
        assert await status_with(server, "first") is grpc.StatusCode.OK


async def test_a_bundle_is_added_and_retired_while_the_server_runs(photos: Bundle, tmp_path: Path) -> None:
    next_version = shutil.copytree(photos.folder, tmp_path / "photos-4")
    manifest = next_version / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('version = "3"', 'version = "4"', 1))
    async with serving() as server:
        await reload(server, changed(server, bundles=("photos", str(next_version))))
        assert set(server.gateway.catalogue.names) == {"photos-3", "photos-4"}
        await reload(server, changed(server, bundles=("photos",)))
        assert server.gateway.catalogue.names == ["photos-3"]


async def test_a_bundle_that_is_not_there_leaves_all_as_it_was() -> None:
    async with serving() as server:
        with pytest.raises(ModelNotFound):
            await reload(server, changed(server, bundles=("photos", "no-such"), max_in_flight=3))
        assert server.gateway.catalogue.names == ["photos-3"]
        assert server.gateway.config.max_in_flight == server.gateway.limits.max_in_flight == 64


def test_every_key_that_may_change_is_one_of_the_table() -> None:
    assert set(PREPARE) <= set(ServerConfig.model_fields)


async def test_what_cannot_be_read_is_logged_and_the_next_reload_still_works(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with serving() as server:
        readings: list[ServerConfig | Exception] = [
            ConfigError("threads: no number"),
            RuntimeError("a fault"),
            changed(server, max_in_flight=3),
        ]

        def read() -> ServerConfig:
            one = readings.pop(0)
            if isinstance(one, Exception):
                raise one
            return one

        asked = asyncio.Event()
        task = asyncio.create_task(reload_whenever(asked, server, read))
        for said in ("threads: no number", "settings are as they were", "reloaded: max_in_flight 64 -> 3"):
            asked.set()
            async with asyncio.timeout(5):
                while said not in caplog.text:
                    await asyncio.sleep(0.005)
        task.cancel()
        assert server.gateway.config.max_in_flight == 3


async def test_a_server_process_reads_its_file_again_when_it_is_hung_up_on(tmp_path: Path) -> None:
    file = tmp_path / "splitrt.toml"
    file.write_text('[server]\nlisten = "127.0.0.1:0"\nmax_in_flight = 5\n')
    words = ("-m", "splitrt", "serve", "photos", "--config", str(file))
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with asyncio.timeout(30):
            await process.stdout.readline()
            for content, said in (
                ("max_in_flight = 6\n", "reloaded: max_in_flight 5 -> 6"),
                ("max_in_flight = 7\nthreads = 2\n", "server.threads is 1 and would be 2: restart"),
                ("max_in_flight = 0\n", "server.max_in_flight"),
                ("max_in_flight = 8\n", "reloaded: max_in_flight 6 -> 8"),
            ):
                file.write_text('[server]\nlisten = "127.0.0.1:0"\n' + content)
                process.send_signal(signal.SIGHUP)
                assert said in (await process.stderr.readline()).decode()
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


# ── certificates ────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def pair(tmp_path: Path, authority: trustme.CA) -> dict[str, Path]:
    pair = {"tls_cert": tmp_path / "cert.pem", "tls_key": tmp_path / "key.pem"}
    issue(authority, pair)
    return pair


def issue(authority: trustme.CA, pair: dict[str, Path], only: str = "") -> int:
    """A new pair into the files; its serial number."""
    leaf = authority.issue_cert("127.0.0.1")
    if only != "tls_key":
        leaf.cert_chain_pems[0].write_to_path(pair["tls_cert"])
    if only != "tls_cert":
        leaf.private_key_pem.write_to_path(pair["tls_key"])
    return x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes()).serial_number


async def shown_by(server: RunningServer, authority: trustme.CA) -> int:
    """Serial number of the certificate that a new connection is shown."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    trust.set_alpn_protocols(["h2"])
    host, _, port = server.address.rpartition(":")
    async with asyncio.timeout(5):
        _, writer = await asyncio.open_connection(host, int(port), ssl=trust)
    der = writer.get_extra_info("ssl_object").getpeercert(True)
    writer.close()
    return x509.load_der_x509_certificate(der).serial_number


async def test_a_renewed_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    pair: dict[str, Path], authority: trustme.CA
) -> None:
    async with serving(**pair) as server:
        before = await shown_by(server, authority)
        trusted = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
        async with grpc.aio.secure_channel(server.address, trusted) as channel:
            await stub_on(channel).Describe(pb.DescribeRequest(), timeout=5)
            renewed = issue(authority, pair)
            assert await reload(server, server.gateway.config) == {}
            await stub_on(channel).Describe(pb.DescribeRequest(), timeout=5)
        assert [await shown_by(server, authority) for _ in range(2)] == [renewed, renewed]
        assert renewed != before


async def test_a_certificate_from_files_of_other_names_is_taken_too(
    pair: dict[str, Path], authority: trustme.CA, tmp_path: Path
) -> None:
    others = {"tls_cert": tmp_path / "other-cert.pem", "tls_key": tmp_path / "other-key.pem"}
    renewed = issue(authority, others)
    async with serving(**pair) as server:
        await reload(server, changed(server, **others))
        assert await shown_by(server, authority) == renewed


@pytest.mark.parametrize(
    ("key", "content", "said"),
    [
        ("tls_cert", b"no PEM", "server.tls_cert must hold PEM certificates"),
        ("tls_key", b"no PEM", "server.tls_key must be a PEM private key"),
        ("tls_key", None, "server.tls_key must be a readable file"),
    ],
)
async def test_a_certificate_that_cannot_be_used_leaves_the_old_one_and_all_else(
    pair: dict[str, Path], authority: trustme.CA, key: str, content: bytes | None, said: str
) -> None:
    async with serving(**pair) as server:
        before = await shown_by(server, authority)
        pair[key].unlink() if content is None else pair[key].write_bytes(content)
        with pytest.raises(ConfigError, match=said):
            await reload(server, changed(server, max_in_flight=3))
        assert server.gateway.config.max_in_flight == 64
        assert await shown_by(server, authority) == before


async def test_a_key_of_another_certificate_is_refused(pair: dict[str, Path], authority: trustme.CA) -> None:
    async with serving(**pair) as server:
        issue(authority, pair, only="tls_key")  # half of a renewal, as a script leaves it for a moment
        with pytest.raises(ConfigError, match=r"server\.tls_key must be the key of server\.tls_cert"):
            await reload(server, server.gateway.config)


async def test_devices_of_a_new_authority_are_taken_in(
    pair: dict[str, Path], authority: trustme.CA, tmp_path: Path
) -> None:
    ca = tmp_path / "devices.pem"
    authority.cert_pem.write_to_path(ca)
    newcomers = trustme.CA()
    device = newcomers.issue_cert("robot-7")
    papers = grpc.ssl_channel_credentials(
        authority.cert_pem.bytes(), device.private_key_pem.bytes(), device.cert_chain_pems[0].bytes()
    )

    async def is_let_in(server: RunningServer) -> bool:
        async with grpc.aio.secure_channel(server.address, papers, [("grpc.use_local_subchannel_pool", 1)]) as channel:
            try:
                await stub_on(channel).Describe(pb.DescribeRequest(), timeout=5)
            except grpc.aio.AioRpcError as error:
                return error.code() is not grpc.StatusCode.UNAVAILABLE
        return True

    async with serving(**pair, client_ca=ca) as server:
        assert not await is_let_in(server)
        newcomers.cert_pem.write_to_path(ca)
        await reload(server, server.gateway.config)
        assert await is_let_in(server)
