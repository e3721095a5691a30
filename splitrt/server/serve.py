"""Start a server and end it well: bundles checked, port opened, health told, drained at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from splitrt.config import ServerConfig
from splitrt.errors import ConfigError, EngineError
from splitrt.metrics import ServerMetrics
from splitrt.rpc import service, speculation
from splitrt.rpc.channel import server_options
from splitrt.server.auth import call_principal
from splitrt.server.catalogue import Catalogue
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
    cluster: str = ""  # the Ray cluster that tails run on

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
        address = _listen(config, server)
        await gateway.offer(config.bundles)
        if config.metrics:
            stack.enter_context(_exporter(config.metrics, metrics))
        await server.start()
        telling = asyncio.create_task(_tell_health(catalogue, checker))
        try:
            yield RunningServer(address, gateway, metrics, engine.cluster)
        finally:
            gateway.drain()
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await checker.enter_graceful_shutdown()
            await server.stop(config.drain_grace_s)


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


def _listen(config: ServerConfig, server: Any) -> str:
    host, _, _ = config.listen.rpartition(":")
    try:
        if config.tls_cert is not None and config.tls_key is not None:
            port = server.add_secure_port(config.listen, _credentials(config))
        else:
            port = server.add_insecure_port(config.listen)
    except RuntimeError as error:
        raise EngineError(f"server.listen must be a free HOST:PORT, got {config.listen}") from error
    return f"{host}:{port}"


def _credentials(config: ServerConfig) -> Any:
    assert config.tls_cert is not None
    assert config.tls_key is not None
    client_ca = _read("client_ca", config.client_ca) if config.client_ca else None
    pair = (_read("tls_key", config.tls_key), _read("tls_cert", config.tls_cert))
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"server.{key} must be a readable file, got {path}: {error.strerror}") from error


def _exporter(address: str, metrics: ServerMetrics) -> Any:
    """The Prometheus endpoint as a context manager."""
    from contextlib import contextmanager

    from prometheus_client import start_http_server

    @contextmanager
    def running() -> Any:
        host, _, port = address.rpartition(":")
        try:
            httpd, thread = start_http_server(int(port), host or "127.0.0.1", metrics.registry)
        except (OSError, ValueError) as error:
            raise EngineError(f"server.metrics must be a free HOST:PORT, got {address}: {error}") from error
        try:
            yield
        finally:
            httpd.shutdown()
            httpd.server_close()
            thread.join()

    return running()
