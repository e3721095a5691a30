"""A language bundle for a device: from this machine, or the drafter's half from the server, by digest."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from pathlib import Path
from typing import Any

import grpc

from splitrt.bundle import MAX_MANIFEST_BYTES
from splitrt.config import ClientConfig
from splitrt.device.credentials import call_metadata, open_channel
from splitrt.device.fetch import MAX_HEAD_BYTES, fetched_folder, pick
from splitrt.errors import BundleError, LinkLost, ModelNotFound, SplitError, Unauthenticated
from splitrt.language.bundle import MANIFEST, LanguageBundle, find_language, load_language, parse_language
from splitrt.rpc import status
from splitrt.rpc.describe import BundleInfo, describe_request, described_from_wire, fetch_request
from splitrt.rpc.service import open_stub


async def language_for(config: ClientConfig) -> LanguageBundle:
    """This machine's bundle of that name, else fetched from the first server that has it.

    Raises ModelNotFound where neither has it, BundleError where what came is not what its digest says, Unauthenticated
    where a server asks for another token.
    """
    for folder in (config.bundles_dir, fetched_folder(config)):
        try:
            return find_language(config.bundle, folder)
        except ModelNotFound as error:
            missing = error
    problems = []
    for server in config.servers:
        try:
            return load_language(await fetch_language(config, server, fetched_folder(config)))
        except (BundleError, Unauthenticated):
            raise
        except SplitError as error:
            problems.append(str(error))
    raise ModelNotFound(f"{missing}; and no server gave it: {'; '.join(problems)}")


async def fetch_language(config: ClientConfig, server: str, into: Path) -> Path:
    """Fetch the drafter's half of `config.bundle` from one server; returns its folder. Nothing is kept of one that is
    damaged.
    """
    channel = open_channel(config, server)
    try:
        stub, metadata = open_stub(channel), call_metadata(config)
        described = await stub.Describe(describe_request(), metadata=metadata, timeout=config.connect_timeout_s)
        info = pick(described_from_wire(described), config.bundle, server)
        call = stub.FetchHead(fetch_request(info.bundle_digest), metadata=metadata, timeout=600)
        into.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=into, prefix=".fetching-") as scratch:
            folder = Path(scratch) / "half"
            await _receive(call, folder, info)
            target = into / load_language(folder).name  # of the checked manifest: what a server says may be a path
            shutil.rmtree(target, ignore_errors=True)
            folder.rename(target)
        return target
    except grpc.RpcError as error:
        raise status.from_grpc(error, server) from error
    finally:
        await channel.close()


async def _receive(call: Any, folder: Path, info: BundleInfo) -> None:
    """Files one after the other, the manifest first: what it does not list is not written."""
    allowed, current, total = {MANIFEST}, "", 0
    async for chunk in call:
        total += len(chunk.data)
        if total > (MAX_HEAD_BYTES if len(allowed) > 1 else MAX_MANIFEST_BYTES):
            raise BundleError(f"a drafter's half must be at most {MAX_HEAD_BYTES} bytes")
        if chunk.path:
            if current == MANIFEST:
                allowed |= _listed(folder / MANIFEST, info)
            current = chunk.path
            if current not in allowed or (folder / current).exists():
                raise BundleError(f"a drafter's half holds files that its {MANIFEST} lists, got {current[:64]!r}")
            (folder / current).parent.mkdir(parents=True, exist_ok=True)
        if not current:
            raise BundleError(f"a drafter's half must begin with {MANIFEST}")
        with (folder / current).open("ab") as file:
            file.write(chunk.data)
    if len(allowed) == 1:
        raise LinkLost("the server ended before it had sent a whole drafter's half")


def _listed(path: Path, info: BundleInfo) -> set[str]:
    data = path.read_bytes()
    if hashlib.sha256(data).digest() != info.bundle_digest:
        raise BundleError(f"{MANIFEST} must have SHA-256 {info.bundle_digest[:8].hex()}.., got another")
    return {file for file in parse_language(data).files if not file.startswith("target/")}
