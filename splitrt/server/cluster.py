"""A gateway's view of a cluster: what to run there, and which replicas there are. Ray itself is another process.

That process (`splitrt.server.ray.control`) is told in JSON lines what to run and tells where the replicas listen:

    to it    {"config": .., "settings": .., "credential": ..}   once
             {"run": BUNDLE, "app": NAME} · {"delete": NAME}
    from it  {"ready": ADDRESS} · {"failed": WHY, "app": NAME or absent} · {"trouble": WHY}
             {"app": NAME, "replicas": [{"address": .., "digest": .., "difference": ..}]}

When it ends it is started again, and asked for the same. Meanwhile the replicas that were known go on serving.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from pydantic import SecretStr

from splitrt.config import ServerConfig, child_environment, ray_is_authenticated
from splitrt.errors import BundleError, EngineError

PROGRAM = "from splitrt.server.ray import control; control()"
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0", "RAY_AUTH_MODE": "token"}
REPLICA_KEYS = {
    "bundles_dir", "threads", "runner", "device", "max_payload_bytes", "max_queue_frames", "max_batch", "max_batch_ms",
    "max_streams",
    "max_sessions", "session_ttl_s", "hello_timeout_s", "drain_grace_s",
}  # fmt: skip
CLUSTER_KEYS = {"ray_address", "replicas", "max_replicas", "replica_cpus", "replica_gpus", "drain_grace_s"}
RESTART_S = (1.0, 2.0, 4.0, 8.0, 16.0)
ENDED_S = 20.0  # for a cluster of our own to end
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Running:
    """An application that was asked for."""

    bundle: str
    digest: bytes
    update: Callable[[list[str]], None]  # with the addresses of its replicas, whenever they change
    started: asyncio.Future[float]  # how far the worst golden sample is off


class Cluster:
    """Use as an async context manager. Raises EngineError where no cluster can be had."""

    def __init__(self, config: ServerConfig, credential: SecretStr) -> None:
        self.address = ""  # of the cluster, for those who join it
        self._config, self._credential = config, credential
        self._running: dict[str, Running] = {}  # by application
        self._process: asyncio.subprocess.Process | None = None
        self._supervising: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._start()
        self._supervising = asyncio.create_task(self._supervise(), name="cluster")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._supervising is not None:
            self._supervising.cancel()
            await asyncio.gather(self._supervising, return_exceptions=True)
        await self._stop()

    async def run(self, bundle: str, application: str, digest: bytes, update: Callable[[list[str]], None]) -> float:
        """Until its first replica is there: how far the worst golden sample is off.

        Raises EngineError with the replica's own reason, BundleError where a node has other files.
        """
        started: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._running[application] = Running(bundle, digest, update, started)
        self._say({"run": bundle, "app": application})
        try:
            return await started
        except BaseException:
            del self._running[application]
            raise

    def delete(self, application: str) -> None:
        """No more of it is told. In a cluster of our own it ends."""
        self._running.pop(application, None)
        self._say({"delete": application})

    async def _start(self) -> None:
        try:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                PROGRAM,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=child_environment(ENVIRONMENT),
                start_new_session=True,  # a terminal's interrupt is for the gateway, which then ends this one
            )
        except OSError as error:  # no memory or no descriptor is left just now
            raise EngineError(f"the cluster's control process cannot be started: {error.strerror}") from error
        self._say(
            {
                "config": self._config.model_dump(mode="json", include=CLUSTER_KEYS),
                "settings": self._config.model_dump(mode="json", include=REPLICA_KEYS, exclude_none=True),
                "credential": self._credential.get_secret_value(),
            }
        )
        if self._config.ray_address is None and not ray_is_authenticated(ENVIRONMENT):
            log.warning("RAY_AUTH_MODE is not token: whoever reaches this machine's ports can run code in the cluster")
        first = await self._hear()
        if first is not None and "ready" in first:
            self.address = first["ready"]
            log.info("on the Ray cluster at %s", self.address)
        if first is None or "failed" in first:
            await self._stop()
            why = first["failed"] if first else "Ray could not be started: see its output above"
            if "No module named 'ray'" in why or first is None:
                why += "; it needs the extra: pip install 'splitrt[server]'"
            raise EngineError(why)

    async def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()  # it ends when it has nobody to listen to
        try:
            async with asyncio.timeout(ENDED_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    async def _supervise(self) -> None:
        """Listen, for ever; start it again where it ended."""
        failures = 0
        while True:
            while (message := await self._hear()) is not None:
                failures = 0
                self._heard(message)
            await self._stop()
            wait_s = RESTART_S[min(failures, len(RESTART_S) - 1)]
            log.error("the cluster's control process ended: started again in %g s", wait_s)
            await asyncio.sleep(wait_s)
            failures += 1
            try:
                await self._start()
            except EngineError as error:
                log.error("%s", error)
                continue
            for application, one in self._running.items():
                self._say({"run": one.bundle, "app": application})

    def _heard(self, message: dict[str, Any]) -> None:
        if "trouble" in message:
            log.warning("cluster: %s", message["trouble"])
            return
        one = self._running.get(message.get("app", ""))
        if one is None:
            return
        if "failed" in message:
            if not one.started.done():
                one.started.set_exception(EngineError(f"{message['app']} cannot be served: {message['failed']}"))
            return
        replicas = message["replicas"]
        sound = [replica for replica in replicas if bytes.fromhex(replica["digest"]) == one.digest]
        if len(sound) < len(replicas):
            log.error("%s: %d replicas have other files", message["app"], len(replicas) - len(sound))
            if not sound and not one.started.done():
                wanted = one.digest[:8].hex()
                one.started.set_exception(
                    BundleError(f"digest of {message['app']} must be {wanted}.. on every node, the replicas' differs")
                )
        one.update([replica["address"] for replica in sound])
        if sound and not one.started.done():
            one.started.set_result(max(replica["difference"] for replica in sound))

    def _say(self, message: dict[str, Any]) -> None:
        if self._process is not None and self._process.stdin is not None and not self._process.stdin.is_closing():
            self._process.stdin.write((json.dumps(message) + "\n").encode())

    async def _hear(self) -> dict[str, Any] | None:
        """None where it has ended."""
        if self._process is None or self._process.stdout is None:
            return None
        line = await self._process.stdout.readline()
        return dict(json.loads(line)) if line else None
