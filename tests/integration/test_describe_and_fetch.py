"""What a server says of itself, and a head half that travels by digest: never the tail, never a byte unchecked."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
import pytest
from loopback import channel_to, serving, stub_on, to_the_server

import splitrt
from splitrt.bundle import SERVER_ONLY, Bundle, find_bundle, load_bundle
from splitrt.config import ClientConfig
from splitrt.device.fetch import fetch_head
from splitrt.device.gate import GateRow
from splitrt.errors import BundleError, LinkLost, ModelNotFound, SplitError
from splitrt.manifest import parse_manifest, write_manifest
from splitrt.rpc.channel import server_options
from splitrt.rpc.frames import PROTOCOL
from splitrt.rpc.v1 import split_pb2 as pb
from splitrt.rpc.v1 import split_pb2_grpc
from splitrt.server import servicer

NAME = "holiday"  # no bundle of this name ships with splitrt
UInt8 = npt.NDArray[np.uint8]


@pytest.fixture
def holiday(photos: Bundle, tmp_path: Path) -> Bundle:
    """The photos bundle under another name, as only a server has it."""
    folder = tmp_path / "server" / f"{NAME}-{photos.manifest.version}"
    shutil.copytree(photos.folder, folder)
    renamed = photos.manifest.model_copy(update={"name": NAME})
    (folder / "manifest.toml").write_bytes(write_manifest(renamed))
    return load_bundle(folder)


async def test_a_server_describes_what_it_serves(photos: Bundle) -> None:
    async with serving(max_in_flight=7, max_payload_bytes=2048, max_deadline_ms=900) as server:
        async with channel_to(server.address) as channel:
            described = await stub_on(channel).Describe(pb.DescribeRequest(), timeout=10)
    (info,) = described.bundles
    assert described.protocol == PROTOCOL
    assert described.server == splitrt.__version__
    assert (info.name, info.version) == (photos.manifest.name, photos.manifest.version)
    assert (info.bundle_digest, info.tables_digest) == (photos.digest, photos.tables.digest())
    assert tuple(info.widths) == photos.manifest.seam.widths
    assert tuple(info.bits) == photos.manifest.seam.bits
    limits = described.limits
    assert (limits.max_in_flight, limits.max_payload_bytes, limits.max_deadline_ms) == (7, 2048, 900)


async def test_fetch_sends_exactly_the_head_half_and_says_its_size_before(photos: Bundle) -> None:
    files: dict[str, bytes] = {}
    async with serving() as server, channel_to(server.address) as channel:
        described = await stub_on(channel).Describe(pb.DescribeRequest(), timeout=10)
        current = ""
        async for chunk in stub_on(channel).FetchHead(pb.FetchHeadRequest(bundle_digest=photos.digest), timeout=30):
            current = chunk.path or current
            files[current] = files.get(current, b"") + chunk.data
    assert next(iter(files)) == "manifest.toml"
    assert set(files) == {"manifest.toml", *photos.manifest.files} - set(SERVER_ONLY)
    assert sum(len(data) for data in files.values()) == described.bundles[0].head_bytes
    for file, data in files.items():
        assert data == (photos.folder / file).read_bytes(), file


async def test_a_digest_that_nobody_has_is_not_found() -> None:
    async with serving() as server, channel_to(server.address) as channel:
        call = stub_on(channel).FetchHead(pb.FetchHeadRequest(bundle_digest=b"\x01" * 32), timeout=10)
        with pytest.raises(grpc.RpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert "0101010101010101" in (caught.value.details() or "")


async def test_a_device_without_the_bundle_fetches_its_head_and_runs_it(
    holiday: Bundle, tmp_path: Path, frame_HWC: UInt8
) -> None:
    kept = tmp_path / "device"
    async with serving(bundles=(NAME,), bundles_dir=holiday.folder.parent) as server:
        async with splitrt.connect_async(
            server.address, bundle=NAME, bundles_dir=kept, deadline_ms=10_000, strategy=to_the_server
        ) as client:
            assert (await client.infer(frame_HWC)).source == "remote"
            assert client.bundle.digest == holiday.digest
            assert not client.bundle.has_tail
    fetched = {path.relative_to(kept).as_posix() for path in kept.rglob("*") if path.is_file()}
    folder = f"{NAME}-{holiday.manifest.version}"
    assert fetched == {f"{folder}/{file}" for file in holiday.head_files()}


async def test_a_fetched_head_needs_no_base_beside_it(tmp_path: Path) -> None:
    town, kept = find_bundle("town"), tmp_path / "device"
    async with serving(bundles=("town",)) as server:
        settings = config(server.address, kept).model_copy(update={"bundle": "town"})
        fetched = load_bundle(await fetch_head(settings, server.address, kept))
    assert fetched.digest == town.digest
    assert fetched.path("head/stem.onnx").parents[1] == fetched.folder
    assert GateRow(fetched).check_golden() < 1e-4


async def test_a_fetched_head_is_not_fetched_again(holiday: Bundle, tmp_path: Path, frame_HWC: UInt8) -> None:
    kept = tmp_path / "device"
    async with serving(bundles=(NAME,), bundles_dir=holiday.folder.parent) as server:
        await fetch_head(config(server.address, kept), server.address, kept)
    # No server any more: the device has what it needs and answers alone.
    async with splitrt.connect_async(
        server.address, bundle=NAME, bundles_dir=kept, deadline_ms=10_000, connect_timeout_s=0.1
    ) as client:
        assert (await client.infer(frame_HWC)).source in ("exit", "fallback")


async def test_a_device_that_starts_without_its_network_takes_what_it_fetched_before(
    holiday: Bundle, tmp_path: Path, frame_HWC: UInt8, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    async with serving(bundles=(NAME,), bundles_dir=holiday.folder.parent) as server:
        async with splitrt.connect_async(server.address, bundle=NAME) as client:
            assert not client.bundle.has_tail
    async with serving() as other:
        with pytest.raises(ModelNotFound, match=r"serves photos, wanted 'holiday'"):
            async with splitrt.connect_async(other.address, bundle=NAME):
                pass
    async with splitrt.connect_async(server.address, bundle=NAME, deadline_ms=10_000, connect_timeout_s=0.1) as client:
        assert client.bundle.digest == holiday.digest
        assert (await client.infer(frame_HWC)).source in ("exit", "fallback")


async def test_a_sound_head_that_another_device_of_this_machine_runs_stays_as_it_is_and_a_damaged_one_does_not(
    holiday: Bundle, tmp_path: Path
) -> None:
    kept = tmp_path / "device"
    async with serving(bundles=(NAME,), bundles_dir=holiday.folder.parent) as server:
        settings = config(server.address, kept)
        stem = await fetch_head(settings, server.address, kept) / "head" / "stem.onnx"
        before = stem.stat()
        await fetch_head(settings, server.address, kept)
        assert (stem.stat().st_ino, stem.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        stem.write_bytes(b"damaged")
        assert load_bundle(await fetch_head(settings, server.address, kept)).digest == holiday.digest
    assert [path.name for path in kept.iterdir()] == [stem.parents[1].name]


async def test_devices_that_start_together_on_one_machine_all_get_their_head(holiday: Bundle, tmp_path: Path) -> None:
    def start(address: str) -> None:
        async def some() -> None:
            for _ in range(5):
                await fetch_head(config(address, tmp_path), address, tmp_path)

        asyncio.run(some())

    async with serving(bundles=(NAME,), bundles_dir=holiday.folder.parent) as server:
        await asyncio.gather(*(asyncio.to_thread(start, server.address) for _ in range(3)))
    (kept,) = tmp_path.glob(f"{NAME}-*")
    assert load_bundle(kept).digest == holiday.digest


async def test_a_bundle_that_no_server_has_is_not_found_by_name(tmp_path: Path) -> None:
    async with serving() as server:
        with pytest.raises(ModelNotFound, match=r"serves photos, wanted 'holiday'"):
            async with splitrt.connect_async(server.address, bundle=NAME, bundles_dir=tmp_path):
                pass


def config(address: str, kept: Path) -> ClientConfig:
    return ClientConfig(servers=(address,), bundle=NAME, bundles_dir=kept)


# ── servers that lie ────────────────────────────────────────────────────────────────────────────────


class Liar(split_pb2_grpc.SplitServicer):
    """Offers a bundle under some name and version, and sends what it is told to."""

    def __init__(self, bundle: Bundle, files: list[tuple[str, bytes]], **info: object) -> None:
        named = {"name": NAME, "version": bundle.manifest.version, "bundle_digest": bundle.digest}
        self._info = pb.BundleInfo(**(named | info))  # type: ignore[arg-type]
        self._files = files

    async def Describe(self, request: pb.DescribeRequest, context: object) -> pb.DescribeResponse:  # noqa: N802
        return pb.DescribeResponse(protocol=PROTOCOL, bundles=[self._info])

    async def FetchHead(  # noqa: N802
        self, request: pb.FetchHeadRequest, context: object
    ) -> AsyncIterator[pb.HeadChunk]:
        for path, data in self._files:
            yield pb.HeadChunk(path=path, data=data)


async def fetch_from(liar: Liar, kept: Path) -> Path:
    server = grpc.aio.server(options=server_options(8 << 20, 8))
    split_pb2_grpc.add_SplitServicer_to_server(liar, server)  # type: ignore[no-untyped-call]
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    try:
        return await fetch_head(config(address, kept), address, kept)
    finally:
        await server.stop(None)


def head_files(bundle: Bundle) -> list[tuple[str, bytes]]:
    return [(file, (bundle.folder / file).read_bytes()) for file in bundle.head_files()]


def left_behind(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


async def test_the_liar_of_these_tests_can_tell_the_truth(holiday: Bundle, tmp_path: Path) -> None:
    folder = await fetch_from(Liar(holiday, head_files(holiday)), tmp_path / "kept")
    assert load_bundle(folder).digest == holiday.digest


def tampered(files: list[tuple[str, bytes]], file: str) -> list[tuple[str, bytes]]:
    return [(name, data[:-1] + bytes([data[-1] ^ 1]) if name == file else data) for name, data in files]


@pytest.mark.parametrize("file", ["manifest.toml", "head/stem.onnx", "tables.npz", "golden.npz", "head.safetensors"])
async def test_a_tampered_file_is_refused_and_nothing_of_it_is_kept(holiday: Bundle, tmp_path: Path, file: str) -> None:
    with pytest.raises(BundleError, match="SHA-256"):
        await fetch_from(Liar(holiday, tampered(head_files(holiday), file)), tmp_path / "kept")
    assert left_behind(tmp_path / "kept") == []


LIES: dict[str, tuple[list[tuple[str, bytes]], type[SplitError], str]] = {
    "a file that the manifest does not list": ([("evil.onnx", b"x")], BundleError, "manifest lists, got 'evil.onnx'"),
    "a file of the server's half": ([("tail.onnx", b"x")], BundleError, "got 'tail.onnx'"),
    "a path that climbs": ([("../evil.npz", b"x")], BundleError, "got '../evil.npz'"),
    "an absolute path": ([("/tmp/evil.npz", b"x")], BundleError, "got '/tmp/evil.npz'"),
    "a second manifest": ([("manifest.toml", b"x")], BundleError, "got 'manifest.toml'"),
    "a file sent twice": ([("tables.npz", b"x"), ("tables.npz", b"x")], BundleError, "SHA-256"),
    "nothing after the manifest": ([], LinkLost, "whole head half"),
}


@pytest.mark.parametrize(("after", "error", "says"), LIES.values(), ids=LIES.keys())
async def test_a_head_half_is_its_manifests_files_and_nothing_else(
    holiday: Bundle,
    tmp_path: Path,
    after: list[tuple[str, bytes]],
    error: type[SplitError],
    says: str,
) -> None:
    manifest, *rest = head_files(holiday)
    files = [manifest, *after, *(rest if after and error is BundleError and "SHA" in says else [])]
    with pytest.raises(error, match=says):
        await fetch_from(Liar(holiday, files), tmp_path / "kept")
    assert left_behind(tmp_path / "kept") == []
    assert not (tmp_path / "evil.npz").exists()


async def test_a_head_half_that_begins_with_no_manifest_is_refused(holiday: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="manifest"):
        await fetch_from(Liar(holiday, head_files(holiday)[1:]), tmp_path / "kept")
    with pytest.raises(BundleError, match="must begin with a manifest"):
        await fetch_from(Liar(holiday, [("", b"no path")]), tmp_path / "kept")


async def test_a_head_half_that_says_it_is_huge_is_not_fetched(holiday: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="at most"):
        await fetch_from(Liar(holiday, [], head_bytes=1 << 40), tmp_path / "kept")


@pytest.mark.parametrize("version", ["1/../../../escaped", "/../../escaped", "x/y", "1\x00"])
async def test_a_version_that_is_a_path_writes_nothing_outside(holiday: Bundle, tmp_path: Path, version: str) -> None:
    kept = tmp_path / "a" / "b" / "kept"
    liar = Liar(holiday, head_files(holiday), version=version)
    with pytest.raises(BundleError, match="version"):
        await fetch_from(liar, kept)
    assert left_behind(tmp_path / "a") == []
    assert not list(tmp_path.glob("**/escaped"))


async def test_another_bundle_under_the_wanted_name_is_refused(photos: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="'holiday'|holiday"):
        await fetch_from(Liar(photos, head_files(photos)), tmp_path / "kept")
    assert left_behind(tmp_path / "kept") == []


def test_a_manifest_survives_being_renamed(holiday: Bundle, photos: Bundle) -> None:
    read = parse_manifest((holiday.folder / "manifest.toml").read_bytes())
    assert read == photos.manifest.model_copy(update={"name": NAME})


async def test_a_file_that_is_gone_from_under_the_server_is_told_without_its_path(holiday: Bundle) -> None:
    async with serving(bundles=(str(holiday.folder),)) as server, channel_to(server.address) as channel:
        list(holiday.head_files().values())[1].unlink()
        request = pb.FetchHeadRequest(bundle_digest=holiday.digest)
        for ask in (stub_on(channel).Describe(pb.DescribeRequest()), stub_on(channel).FetchHead(request)):
            with pytest.raises(grpc.RpcError) as ended:
                await ask if isinstance(ask, grpc.aio.UnaryUnaryCall) else [chunk async for chunk in ask]
            assert "cannot be read" in (told := str(ended.value.details()))
            assert str(holiday.folder) not in told


async def test_a_head_that_nobody_reads_does_not_hold_its_call_for_ever(
    holiday: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servicer, "UNREAD_S", 0.1)
    async with serving(bundles=(str(holiday.folder),)) as server, channel_to(server.address) as channel:
        list(holiday.head_files().values())[1].write_bytes(bytes(16 << 20))  # more than is on the way at once
        call = stub_on(channel).FetchHead(pb.FetchHeadRequest(bundle_digest=holiday.digest))
        await call.wait_for_connection()
        await asyncio.sleep(0.3)
        with pytest.raises(grpc.RpcError, match="must be read within"):
            [chunk async for chunk in call]
