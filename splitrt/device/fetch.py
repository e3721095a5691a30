"""A bundle for a device: from this machine, or the device's half of it from the server, by digest."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import grpc

from splitrt.bundle import MAX_MANIFEST_BYTES, SERVER_ONLY, Bundle, find_bundle, load_bundle
from splitrt.config import ClientConfig
from splitrt.device.credentials import call_metadata, open_channel
from splitrt.errors import BundleError, LinkLost, ModelNotFound, SplitError, Unauthenticated
from splitrt.manifest import NAME, VERSION, parse_manifest
from splitrt.rpc import status
from splitrt.rpc.describe import BundleInfo, Described, describe_request, described_from_wire, fetch_request
from splitrt.rpc.service import open_stub

MAX_HEAD_BYTES = 512 << 20

log = logging.getLogger(__name__)


class Listing(Protocol):
    """A manifest, as far as fetching goes."""

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> str: ...

    @property
    def files(self) -> dict[str, str]: ...


class Named(Protocol):
    @property
    def name(self) -> str:
        """name-version."""
        ...


B = TypeVar("B", bound=Named)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[B]):
    """find: on this machine, or ModelNotFound; server_only: how the names of files begin that no device gets."""

    manifest: str
    server_only: tuple[str, ...]
    parse: Callable[[bytes], Listing]
    find: Callable[[ClientConfig], B]
    load: Callable[[Path], B]


HEAD: Kind[Bundle] = Kind(
    manifest="manifest.toml",
    server_only=SERVER_ONLY,
    parse=parse_manifest,
    find=lambda config: find_bundle(config.bundle, config.bundles_dir),
    load=load_bundle,
)


async def bundle_for(config: ClientConfig) -> Bundle:
    """As `found_or_fetched`, of vision and sound."""
    return await found_or_fetched(config, HEAD)


async def fetch_head(config: ClientConfig, server: str, into: Path) -> Path:
    """As `fetch`, of vision and sound."""
    return await fetch(config, server, into, HEAD)


async def found_or_fetched(config: ClientConfig, kind: Kind[B]) -> B:
    """This machine's bundle of that name, else fetched from the first server that has it, else as it was fetched
    before: a device that starts while its network is down answers alone.

    Raises ModelNotFound where none has it, BundleError where what came is not what its digest says,
    Unauthenticated where a server asks for another token.
    """
    try:
        return kind.find(config)
    except ModelNotFound as error:
        missing = error
    problems: list[SplitError] = []
    for server in config.servers:
        try:
            return kind.load(await fetch(config, server, fetched_folder(config), kind))
        except (BundleError, Unauthenticated):
            raise
        except SplitError as error:
            problems.append(error)
    said = "; ".join(map(str, problems))
    if all(isinstance(problem, LinkLost) for problem in problems):  # a server that was reached would know better
        with suppress(ModelNotFound):
            found = kind.find(config.model_copy(update={"bundles_dir": fetched_folder(config)}))
            log.warning("%s is taken as it was fetched before, for no server gave it: %s", found.name, said)
            return found
    raise ModelNotFound(f"{missing}; and no server gave it: {said}")


def fetched_folder(config: ClientConfig) -> Path:
    return config.bundles_dir or Path.home() / ".cache" / "splitrt"


async def fetch(config: ClientConfig, server: str, into: Path, kind: Kind[B]) -> Path:
    """Fetch the device's half of `config.bundle` from one server; returns its folder. Nothing is kept of one that is
    damaged.
    """
    channel = open_channel(config, server)
    try:
        stub = open_stub(channel)
        metadata, timeout_s = call_metadata(config), config.connect_timeout_s
        described = await stub.Describe(describe_request(), metadata=metadata, timeout=timeout_s)
        info = _pick(described_from_wire(described), config.bundle, server)
        call = stub.FetchHead(fetch_request(info.bundle_digest), metadata=metadata, timeout=600)
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".fetching-") as scratch:
            folder = Path(scratch) / "half"
            await _receive(call, folder, info, kind)
            target = into / kind.load(folder).name  # of the checked manifest: what a server says may be a path
            _place(folder, target, kind)
        return target
    except grpc.RpcError as error:
        raise status.from_grpc(error, server) from error
    finally:
        await channel.close()


def _place(folder: Path, target: Path, kind: Kind[B]) -> None:
    """Other devices of this machine may do the same at this moment: a sound half of the same bytes may be in use, and
    stays.
    """
    if _is_same(folder, target, kind):
        return
    with suppress(FileNotFoundError):
        target.rename(folder.with_name("replaced"))  # and not removed in place: nobody finds half a half
    try:
        folder.rename(target)
    except OSError:
        if not _is_same(folder, target, kind):  # somebody else's, who came between
            raise


def _is_same(folder: Path, target: Path, kind: Kind[B]) -> bool:
    try:
        kind.load(target)
        return (folder / kind.manifest).read_bytes() == (target / kind.manifest).read_bytes()
    except (BundleError, OSError):
        return False


def _pick(described: Described, name: str, server: str) -> BundleInfo:
    for info in described.bundles:
        if name in (info.name, f"{info.name}-{info.version}"):
            # They become a folder's name: what no manifest may say is not believed of a server either.
            if not NAME.fullmatch(info.name) or not VERSION.fullmatch(info.version):
                raise BundleError(f"{server} offers a bundle whose name or version no manifest may have")
            if info.head_bytes > MAX_HEAD_BYTES:
                raise BundleError(
                    f"a head half must be at most {MAX_HEAD_BYTES} bytes, {server} offers {info.head_bytes}"
                )
            return info
    known = ", ".join(info.name for info in described.bundles) or "none"
    raise ModelNotFound(f"{server} serves {known}, wanted {name!r}")


async def _receive(call: Any, folder: Path, info: BundleInfo, kind: Kind[B]) -> None:
    """Files one after the other; the manifest first, so that every further name is known before it is written."""
    listed: set[str] | None = None
    current, total = "", 0
    async for chunk in call:
        total += len(chunk.data)
        if total > MAX_HEAD_BYTES:
            raise BundleError(f"a head half must be at most {MAX_HEAD_BYTES} bytes")
        if chunk.path:
            if current == kind.manifest:
                listed = _listed(folder / current, info, kind)
            current = _next_file(chunk.path, listed, kind)
            (folder / current).parent.mkdir(parents=True, exist_ok=True)
        if not current or (current == kind.manifest and total > MAX_MANIFEST_BYTES):
            raise BundleError("a head half must begin with a manifest of a sensible size")
        with (folder / current).open("ab") as file:
            file.write(chunk.data)
    if listed is None:
        raise LinkLost("the server ended before it had sent a whole head half")


def _listed(path: Path, info: BundleInfo, kind: Kind[B]) -> set[str]:
    """What a device may get by the manifest that was offered. Raises BundleError on another manifest."""
    data = path.read_bytes()
    if hashlib.sha256(data).digest() != info.bundle_digest:
        raise BundleError(f"manifest must have SHA-256 {info.bundle_digest[:8].hex()}.., got another")
    manifest = kind.parse(data)
    if (manifest.name, manifest.version) != (info.name, info.version):
        raise BundleError(
            f"manifest must be of {info.name[:64]!r} version {info.version[:20]!r}, "
            f"got {manifest.name!r} version {manifest.version!r}"
        )
    return {file for file in manifest.files if not file.startswith(kind.server_only)}


def _next_file(path: str, listed: set[str] | None, kind: Kind[B]) -> str:
    if path == kind.manifest and listed is None:
        return path
    if listed is None or path not in listed:
        raise BundleError(f"a head half holds files that its manifest lists, got {path[:64]!r}")
    return path
