"""From a server's address and a bundle's name to a client, for as long as a block runs."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

from splitrt.bundle import Bundle
from splitrt.config import ClientConfig, read_settings
from splitrt.device.captured import CapturedDevice
from splitrt.device.client import AsyncClient
from splitrt.device.degrade import Degrade, Ladder, chunk_queue
from splitrt.device.exposure import exposed
from splitrt.device.fetch import bundle_for
from splitrt.device.grpc_link import GrpcLink
from splitrt.device.head import Head, OnnxHead
from splitrt.device.local import BottleneckDevice, Device
from splitrt.device.strategy import Strategy, prices_of
from splitrt.errors import ConfigError, LinkLost
from splitrt.halves import open_half
from splitrt.metrics import DeviceMetrics
from splitrt.policy.backoff import pace_of
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.frames import Hello

log = logging.getLogger(__name__)


@asynccontextmanager
async def connect_async(
    servers: str | Iterable[str] | None = None,
    *,
    bundle: str | None = None,
    config: ClientConfig | None = None,
    strategy: Callable[[Bundle], Strategy] | None = None,
    **settings: Any,
) -> AsyncIterator[AsyncClient]:
    """A client for a server (HOST:PORT, or several to try in turn) and a bundle, for as long as the block runs.

    The bundle's head is run from this machine's copy, or fetched from the server by digest. A server that
    cannot be reached is no error while the head has an exit: the device answers alone until the link is up.
    Raises Unauthenticated, VersionMismatch or ModelNotFound where the server will not have us, BundleError
    where the golden sample disagrees on this machine. `settings` are fields of ClientConfig.
    """
    if isinstance(servers, str):
        servers = servers.split(",")
    if config is None:
        flags = {"servers": tuple(servers) if servers else None, "bundle": bundle, **settings}
        config = read_settings(ClientConfig, "client", flags=flags)
    elif servers or bundle or settings:
        raise ConfigError("give either config or servers, bundle and settings, not both")
    chosen = await bundle_for(config)
    device = await asyncio.to_thread(open_device, chosen, config)
    estimate = LinkEstimate()

    metrics = DeviceMetrics(chosen.manifest.name)
    stream = secrets.randbits(64) or 1

    def lost(cause: str) -> None:
        metrics.reconnects.labels(cause).inc()
        estimate.lost()
        device.reference = None  # what a connection's frames were is forgotten with it

    async with AsyncExitStack() as stack:
        queue = None
        if config.degrade:
            queue = chunk_queue(Ladder.of(chosen), estimate, asyncio.get_running_loop().time, prices_of(config))
            strategy = strategy or partial(Degrade, config=config)
        link = GrpcLink(
            config,
            lambda epoch: _hello(chosen, epoch, config, stream),
            lost,
            queue=queue,
            pace=partial(pace_of, estimate),
        )
        metrics.follow_bytes(link)
        await stack.enter_async_context(link)
        try:
            async with asyncio.timeout(config.connect_timeout_s):
                await link.wait_up()
        except TimeoutError:
            if chosen.manifest.exits is None:
                raise LinkLost(f"no server of {', '.join(config.servers)} answered: {link.last_error}") from None
            log.warning("no server answers yet (%s): the device answers alone", link.last_error)
        chosen_strategy = strategy(chosen) if strategy else None
        client = AsyncClient(
            device, link, estimate, config=config, strategy=chosen_strategy, metrics=metrics, stream=stream
        )
        stack.push_async_callback(client.aclose)
        await stack.enter_async_context(exposed(config, metrics.registry))
        if config.traces is not None:
            from splitrt.device.tracing import FrameTracer, otlp

            tracer = FrameTracer(client, otlp(config.traces))
            stack.push_async_callback(asyncio.to_thread, tracer.close)
        yield client


def open_device(bundle: Bundle, config: ClientConfig) -> Device:
    """The device's side of a bundle, its golden sample re-run. Raises BundleError where this machine disagrees."""
    device: Device
    if bundle.manifest.seam.tensors:
        device = CapturedDevice(bundle, open_half(bundle, "head", config.threads, config.runner))
    else:
        device = BottleneckDevice(bundle, open_head(bundle, config))
    device.check_golden()
    return device


def open_head(bundle: Bundle, config: ClientConfig) -> Head:
    """The head's runner."""
    if config.runner == "torch":
        from splitrt.device.torch_head import TorchHead

        return TorchHead(bundle)
    return OnnxHead(bundle, config.threads)


def _hello(bundle: Bundle, epoch: int, config: ClientConfig, stream: int) -> Hello:
    return Hello(
        bundle=bundle.manifest.name,
        version=bundle.manifest.version,
        bundle_digest=bundle.digest,
        tables_digest=bundle.tables.digest(),
        session_epoch=epoch,
        deltas=config.deltas,
        degrades=config.degrade,
        stream=stream,
    )
