"""Tails on a real Ray cluster, one for the whole file, through the same gateway and the same clients."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("ray", reason="needs the server extra")
pytest.importorskip("torch", reason="needs the torch extra")

from language_pairs import save_pair  # noqa: E402
from loopback import ServerProcess, frame_messages, hello, raw_stream, serving, to_the_server  # noqa: E402

from splitrt.bundle import Bundle, load_bundle  # noqa: E402
from splitrt.codec.payload import Codec  # noqa: E402
from splitrt.config import ServerConfig  # noqa: E402
from splitrt.device.connect import connect_async  # noqa: E402
from splitrt.device.events import Done, Token  # noqa: E402
from splitrt.device.language import connect_language  # noqa: E402
from splitrt.errors import ConfigError, EngineError, VersionGone  # noqa: E402
from splitrt.language.bundle import LanguageBundle  # noqa: E402
from splitrt.netem import Netem, Shape  # noqa: E402
from splitrt.rpc import messages  # noqa: E402
from splitrt.server.loading import load_worker  # noqa: E402
from splitrt.server.serve import RunningServer  # noqa: E402
from splitrt.server.work import Work  # noqa: E402

pytestmark = pytest.mark.ray
TOKEN = "of-gateways-and-replicas"
ON_RAY: dict[str, Any] = {"engine": "ray", "replica_token": TOKEN, "replica_cpus": 0.1, "replicas": 2}
BACK_WITHIN_S = 5.0


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> LanguageBundle:
    return save_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def server(pair: LanguageBundle) -> Iterator[ServerProcess]:
    """A server that started a cluster of its own, with two replicas of a tail and of a target."""
    before = os.environ.get("RAY_AUTH_MODE")
    os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
    running = ServerProcess(bundles=["photos", str(pair.folder)], **ON_RAY)
    yield running
    running.stop()
    running.close()
    os.environ.pop("RAY_AUTH_MODE")
    if before is not None:
        os.environ["RAY_AUTH_MODE"] = before


@asynccontextmanager
async def joined(server: ServerProcess, **settings: Any) -> AsyncIterator[RunningServer]:
    """A second gateway on the same cluster."""
    async with serving(**{**ON_RAY, "ray_address": server.cluster, **settings}) as second:
        yield second


def replicas_of(server: ServerProcess, application: str) -> list[int]:
    """Processes of this server's own cluster that run replicas."""
    listed = subprocess.run(["ps", "-eo", "pid,sess,args"], capture_output=True, text=True, check=True).stdout
    session = os.getsid(server.pid)
    children = {line.split()[1] for line in listed.splitlines() if f"ServeReplica:{application}" in line}
    assert str(session) not in children, "the cluster is a session of its own"
    return [int(line.split()[0]) for line in listed.splitlines() if f"ServeReplica:{application}" in line]


async def test_it_answers_what_an_embedded_server_answers(server: ServerProcess, photos: Bundle) -> None:
    worker = load_worker(photos, ServerConfig())
    async with raw_stream(server.address, photos) as stream:
        for seq, chunked in ((1, False), (2, True)):
            sent = frame_messages(photos, seq, chunked=chunked)
            await stream.say(*sent)
            result = await stream.result()
            payloads = [message.frame.payload or message.chunk[1:-4] for message in sent]
            work = Work(
                principal="", width=8, bits=4, codec=Codec(sent[0].frame.codec), payloads=tuple(payloads),
                arrived_at=0.0, deadline_at=0.0,
            )  # fmt: skip
            wanted = worker.run([work])[0].outputs[0]
            np.testing.assert_allclose(np.frombuffer(result.outputs[0].data, "<f4"), wanted, atol=1e-5)
            assert result.tail_us > 0


async def test_a_bad_frame_fails_alone(server: ServerProcess, photos: Bundle) -> None:
    async with raw_stream(server.address, photos) as stream:
        bad = frame_messages(photos, 1, payloads=(b"too short",))
        await stream.say(*bad)
        assert (await stream.error(1)).code == "bad_frame"
        await stream.answers(2)


async def test_a_killed_replica_costs_no_frame_and_no_device_notices(
    server: ServerProcess, photos: Bundle, frame_HWC: Any
) -> None:
    """Once each frame ends, whatever happens; streams of the dead replica go on within five seconds."""
    async with connect_async(server.address, deadline_ms=4_000, strategy=to_the_server) as client:
        pending = [client.submit(frame_HWC)]
        await pending[0]
        os.kill(replicas_of(server, "photos-3")[0], signal.SIGKILL)
        killed_at, results = time.monotonic(), []
        while time.monotonic() - killed_at < 1.0:
            results.append(await client.infer(frame_HWC))
        assert {result.source for result in results} == {"remote"}
        assert len({result.seq for result in results}) == len(results)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_a_text_whose_replica_is_killed_is_the_same(
    server: ServerProcess, pair: LanguageBundle, temperature: float
) -> None:
    async def tell(said_before_kill: int | None) -> Done:
        said, done = 0, None
        async with connect_language(server.address, bundle=str(pair.folder)) as client:
            async for event in client.generate("the cat sat", max_tokens=60, temperature=temperature, seed=3):
                said += isinstance(event, Token)
                if said == said_before_kill:
                    said_before_kill = None
                    for pid in replicas_of(server, "tiny-1")[:1] if temperature else replicas_of(server, "tiny-1"):
                        os.kill(pid, signal.SIGKILL)
                if isinstance(event, Done):
                    done = event
        assert done is not None
        return done

    undisturbed = await tell(None)
    disturbed = await tell(5)
    assert disturbed.text == undisturbed.text


async def test_a_text_comes_back_to_its_replica_after_a_broken_link(
    server: ServerProcess, pair: LanguageBundle
) -> None:
    await _both(server, "tiny-1")
    async with Netem(to=server.address, shape=Shape(rtt_ms=2)) as link:
        for _ in range(3):  # by chance it would be the same one only sometimes
            said, done = 0, None
            async with connect_language(link.address, bundle=str(pair.folder)) as client:
                async for event in client.generate("the dog sat", max_tokens=40, patience_s=5.0):
                    said += isinstance(event, Token)
                    if said == 5:
                        link.reset()
                    if isinstance(event, Done):
                        done = event
            assert done is not None
            assert done.statistics.replays == 0, "its keys and values were still there"


async def test_versions_come_and_go_while_streams_run(server: ServerProcess, photos: Bundle, tmp_path: Path) -> None:
    """New streams get the new version; a stream of the old one goes on; then the old one is gone."""
    newer = _as_version(photos, "4", tmp_path)
    async with joined(server, replicas=1) as second:
        async with raw_stream(second.address, photos) as old:
            await old.answers(1)
            await second.gateway.offer([str(newer.folder)])
            async with raw_stream(second.address, newer) as new:
                await new.answers(1)
            await old.answers(2)
            async with raw_stream(second.address, photos, greeted=False) as late:
                await late.say(messages.hello_to_wire(hello(photos)))
                with pytest.raises(VersionGone, match="must be one of 4"):
                    await late.hear()
        half = _as_version(photos, "5", tmp_path, [*photos.head_files()])
        with pytest.raises(EngineError, match="photos-5 cannot be served: .*a head half cannot be served"):
            await second.gateway.offer([str(half.folder)])
        assert second.gateway.catalogue.names == ["photos-4"]
        async with raw_stream(second.address, newer) as new:
            await new.answers(1)


@pytest.mark.parametrize(
    ("args", "wanted"),
    [
        ({"replicas": 2}, "args.bundle must be a bundle's name, got None"),
        ({"bundle": "photos", "replica": 2}, "did you mean 'replicas'"),
        ({"bundle": "photos", "replicas": 0}, "server.replicas"),
    ],
)
def test_arguments_of_a_declarative_file_are_checked(args: dict[str, Any], wanted: str) -> None:
    from splitrt.server.ray import app

    with pytest.raises(ConfigError, match=wanted):
        app(args)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"ray_address": "127.0.0.1:{free}"}, "a Ray cluster must answer at"),
        ({"replica_cpus": 4_000 / 4}, "a replica must find 1000 CPU on one node"),
        ({"replica_gpus": 8}, "a replica must find 8 GPU on one node"),
    ],
    ids=["nobody", "cpus", "gpus"],
)
async def test_what_cannot_be_run_is_one_clear_line(
    server: ServerProcess, settings: dict[str, Any], wanted: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = taken.getsockname()[1]
    given = {key: value.format(free=free) if isinstance(value, str) else value for key, value in settings.items()}
    with pytest.raises(EngineError, match=wanted) as raised:
        async with joined(server, **given):
            pass
    assert "\n" not in str(raised.value)


async def _both(server: ServerProcess, application: str) -> None:
    async with asyncio.timeout(20):
        while len(replicas_of(server, application)) < 2:
            await asyncio.sleep(0.1)
        await asyncio.sleep(1.0)  # and known to the gateway


def _as_version(bundle: Bundle, version: str, folder: Path, files: Sequence[str] = ()) -> Bundle:
    """The same bundle under another version; given files: only those of it."""
    copy = folder / f"photos-{version}"
    shutil.copytree(bundle.folder, copy)
    for path in [path for path in copy.rglob("*") if path.is_file()]:
        if files and path.relative_to(copy).as_posix() not in files:
            path.unlink()
    manifest = copy / "manifest.toml"
    manifest.write_text(
        manifest.read_text().replace(f'version = "{bundle.manifest.version}"', f'version = "{version}"')
    )
    return load_bundle(copy)
