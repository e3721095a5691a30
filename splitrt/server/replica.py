"""A replica: one bundle's tail behind a gRPC port of its own, for gateways alone. It knows nothing of clusters.

The same worker and batcher (or the same verifier) as in an embedded server, reached over `Tails.Run` (or
`Speculate.Generate`). A gateway shows the credential that both were given; whose frames they are it says itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from pydantic import SecretStr

from splitrt.bundle import find_bundle
from splitrt.config import ServerConfig
from splitrt.errors import SplitError, Unauthenticated
from splitrt.language.bundle import is_language
from splitrt.metrics import ServerMetrics
from splitrt.rpc import speculation, status, tails
from splitrt.rpc.channel import server_options
from splitrt.rpc.tails import Done, Task
from splitrt.server.auth import GATEWAY, call_principal, called_by
from splitrt.server.load import Load
from splitrt.server.loading import load_verifier, load_worker
from splitrt.server.pool import EmbeddedPool
from splitrt.server.uses import Uses
from splitrt.server.work import Outcome, Work

MOST_GATEWAYS = 128


@dataclass(frozen=True, slots=True)
class RunningReplica:
    address: str
    digest: bytes  # of the bundle
    golden_difference: float
    load: Load
    leave: Callable[[], None]  # from now on no new tasks; gateways are told


@asynccontextmanager
async def serve_replica(
    name: str, config: ServerConfig, credential: SecretStr, host: str = "127.0.0.1"
) -> AsyncIterator[RunningReplica]:
    """A replica of the bundle for as long as the block runs; at its end what was taken is answered, within
    `drain_grace_s`.

    Raises what loading and checking the bundle raises: ModelNotFound, BundleError, ConfigError.
    """
    leaving, uses = asyncio.Event(), Uses()
    load = Load(time.monotonic, uses.__len__)
    tokens = {GATEWAY: credential}
    server = grpc.aio.server(options=server_options(4 * config.max_payload_bytes, config.max_streams))
    async with AsyncExitStack() as stack:
        if is_language(name, config.bundles_dir):
            verifier = stack.enter_context(await asyncio.to_thread(load_verifier, name, config))
            digest, difference = verifier.bundle.digest, 0.0
            _add_speculate(server, verifier, config, tokens, leaving, uses)
        else:
            worker = await asyncio.to_thread(load_worker, find_bundle(name, config.bundles_dir), config)
            difference = await asyncio.to_thread(worker.check_golden)
            digest = worker.bundle.digest
            made = EmbeddedPool(
                worker,
                max_queue_frames=config.max_queue_frames,
                max_batch=config.max_batch,
                max_batch_s=config.max_batch_ms / 1e3,
                load=load,
            )
            pool = await stack.enter_async_context(made)
            tails.add_servicer(TailsServicer(pool, tokens, leaving), server)
        port = server.add_insecure_port(f"{host}:0")
        await server.start()
        try:
            yield RunningReplica(f"{host}:{port}", digest, difference, load, leaving.set)
        finally:
            leaving.set()
            await server.stop(config.drain_grace_s)


def _add_speculate(
    server: Any,
    verifier: Any,
    config: ServerConfig,
    tokens: Mapping[str, SecretStr],
    leaving: asyncio.Event,
    uses: Uses,
) -> None:
    from splitrt.server.front import Front
    from splitrt.server.speculate import SpeculateServicer

    front = Front(
        lambda: [verifier],
        ServerMetrics(),  # nobody reads them: the gateway counts what passes through it
        settings=lambda: config,
        principal=lambda context: called_by(tokens, context),
        is_draining=leaving.is_set,
        uses=uses,
    )
    speculation.add_servicer(SpeculateServicer(front), server)


class TailsServicer(tails.Servicer):
    """Tasks in, answers out, in whatever order they end."""

    def __init__(self, pool: EmbeddedPool, tokens: Mapping[str, SecretStr], leaving: asyncio.Event) -> None:
        self._pool, self._tokens, self._leaving = pool, tokens, leaving

    async def Run(self, _: Any, context: Any) -> None:
        """One gateway's stream."""
        try:
            call_principal(self._tokens, context)
        except Unauthenticated as error:
            await status.abort(context, error)
        one_at_a_time = asyncio.Lock()

        async def write(message: Any) -> None:
            async with one_at_a_time:
                await context.write(message)

        await context.send_initial_metadata(())  # the gateway sees that it was let in
        async with asyncio.TaskGroup() as running:
            announcing = running.create_task(self._announce(write))
            while (wire := await context.read()) is not grpc.aio.EOF:
                running.create_task(self._answer(wire, write))
            announcing.cancel()

    async def _announce(self, write: Any) -> None:
        await self._leaving.wait()
        await write(tails.leaving_to_wire())

    async def _answer(self, wire: Any, write: Any) -> None:
        try:
            outcome = await self._pool.submit(_work(tails.task_from_wire(wire)))
        except SplitError as error:
            outcome = Outcome(error=error)
        wait_s, frame_s = self._pool.wait_s()
        await write(
            tails.done_to_wire(
                Done(
                    id=wire.id,
                    outputs=outcome.outputs,
                    error=outcome.error,
                    symbols_ZHW=outcome.symbols_ZHW,
                    queue_s=outcome.queue_s,
                    decode_s=outcome.decode_s,
                    tail_s=outcome.tail_s,
                    waiting=self._pool.queued(),
                    wait_s=wait_s,
                    frame_s=frame_s,
                )
            )
        )


def _work(task: Task) -> Work:
    now = time.monotonic()
    return Work(
        principal=task.principal,
        width=task.width,
        bits=task.bits,
        codec=task.codec,
        payloads=task.payloads,
        arrived_at=now,
        deadline_at=now + task.left_s,
        reference_ZHW=task.reference_ZHW,
        keep=task.keep,
    )
