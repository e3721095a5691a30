"""Start a server and end it well: bundles checked, port opened, health told, drained at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from splitrt.config import ServerConfig
from splitrt.errors import ConfigError, EngineError
from splitrt.metrics import ServerMetrics
from splitrt.metrics.endpoint import endpoint
from splitrt.rpc import service, speculation
from splitrt.rpc.channel import server_options
from splitrt.server.auth import call_principal
from splitrt.server.catalogue import Catalogue
from splitrt.server.certificates import Certificates
from splitrt.server.engine import Engine, open_engine
from splitrt.server.gateway import Gateway
from splitrt.server.servicer import SplitServicer

HEALTH_S = 0.25  # how often it is looked at
STREAMS_PER_CONNECTION = 128
SPARE_CALLS = 64  # beside the streams: those that have not said hello, health checks, fetches


@dataclass(frozen=True, slots=True)
class RunningServer:
    address: str  # host:port as bound
    gateway: Gateway
    metrics: ServerMetrics
    started_with: ServerConfig  # gateway.config is what holds now
    certificates: Certificates | None = None  # none: no TLS
    cluster: str = ""  # the Ray cluster that tails run on
    scraped_at: str | None = None  # host:port of the Prometheus endpoint, as bound

    @property
    def golden_difference(self) -> float:
        """The worst seen when the golden samples were re-run."""
        return max((one.golden_difference for one in self.gateway.catalogue.served.values()), default=0.0)


@asynccontextmanager
async def serve(config: ServerConfig) -> AsyncIterator[RunningServer]:
    """A server for as long as the block runs; at its end it drains, within `drain_grace_s`.

    Raises BundleError where a golden sample disagrees where its tail runs, EngineError where the address or a
    cluster cannot be had.
    """
    metrics = ServerMetrics()
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(open_engine(config))
        catalogue = await stack.enter_async_context(Catalogue(engine, config.bundles_dir))
        gateway = Gateway(config, catalogue, metrics)
        server, checker = _server(config, gateway, engine)
        certificates = None if config.tls_cert is None else Certificates(config, metrics)
        address = _listen(config, server, certificates)
        await gateway.offer(config.bundles)
        scraped_at = None
        if config.metrics:
            scraped_at = stack.enter_context(endpoint(config.metrics, metrics.registry, "server.metrics"))
        await server.start()
        telling = asyncio.create_task(_tell_health(catalogue, checker))
        try:
            yield RunningServer(address, gateway, metrics, config, certificates, engine.cluster, scraped_at)
        finally:
            gateway.drain()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await checker.enter_graceful_shutdown()
            await server.stop(gateway.config.drain_grace_s)


async def _tell_health(catalogue: Catalogue, checker: Any) -> None:
    """SERVING while everything offered has something that runs it."""
    told = None
    while True:
        if (is_ready := catalogue.is_ready) is not told:
            told = is_ready
            state = health_pb2.HealthCheckResponse.SERVING if told else health_pb2.HealthCheckResponse.NOT_SERVING
            for name in ("", service.NAME):
                await checker.set(name, state)
        await asyncio.sleep(HEALTH_S)


def _server(config: ServerConfig, gateway: Gateway, engine: Engine) -> tuple[Any, Any]:
    # Our own cap is one frame's payload; the transport's lies above it, so that refusals are per frame.
    server = grpc.aio.server(
        options=server_options(4 * config.max_payload_bytes, STREAMS_PER_CONNECTION),
        maximum_concurrent_rpcs=config.max_streams + SPARE_CALLS,
    )
    service.add_servicer(SplitServicer(gateway), server)
    engine.add_speculate(
        server,
        lambda: list(gateway.catalogue.targets.values()),
        metrics=gateway.metrics,
        settings=lambda: gateway.config,
        principal=lambda context: call_principal(gateway.config.tokens, context),
        is_draining=gateway.draining.is_set,
        uses=gateway.catalogue.uses,
    )
    checker = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(checker, server)
    if config.reflection:
        try:
            from grpc_reflection.v1alpha import reflection
        except ImportError:
            raise ConfigError("server.reflection needs grpcio-reflection: pip install 'splitrt[server]'") from None
        reflection.enable_server_reflection(
            [service.NAME, speculation.NAME, health.SERVICE_NAME, reflection.SERVICE_NAME], server
        )
    return server, checker


def _listen(config: ServerConfig, server: Any, certificates: Certificates | None) -> str:
    host, _, _ = config.listen.rpartition(":")
    try:
        if certificates is not None:
            port = server.add_secure_port(config.listen, certificates.credentials())
        else:
            port = server.add_insecure_port(config.listen)
    except RuntimeError as error:
        raise EngineError(f"server.listen must be a free HOST:PORT, got {config.listen}") from error
    return f"{host}:{port}"
