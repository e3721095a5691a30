"""Start a server and end it well: bundles checked, port opened, health told, drained at the end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from splitrt.bundle import Bundle, find_bundle
from splitrt.config import ServerConfig
from splitrt.errors import BundleError, ConfigError
from splitrt.halves import Half, Side, open_half
from splitrt.language.bundle import find_language, is_language
from splitrt.metrics import ServerMetrics
from splitrt.rpc import service, speculation
from splitrt.rpc.channel import server_options
from splitrt.server.captured import CapturedWorker
from splitrt.server.certificates import Certificates
from splitrt.server.gateway import Gateway, Served
from splitrt.server.pool import EmbeddedPool
from splitrt.server.servicer import SplitServicer
from splitrt.server.tail import OnnxTail, TorchTail
from splitrt.server.worker import Worker

if TYPE_CHECKING:
    from splitrt.server.verifier import Verifier

STREAMS_PER_CONNECTION = 128
SPARE_CALLS = 64  # beside the streams: those that have not said hello, health checks, fetches
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunningServer:
    address: str  # host:port as bound
    gateway: Gateway
    metrics: ServerMetrics
    golden_difference: float  # the worst seen when the golden samples were re-run
    started_with: ServerConfig  # gateway.config is what holds now
    certificates: Certificates | None = None  # none: no TLS
    verifiers: tuple[Verifier, ...] = ()  # of language bundles


@asynccontextmanager
async def serve(config: ServerConfig) -> AsyncIterator[RunningServer]:
    """A server for as long as the block runs; at its end it drains, within `drain_grace_s`.

    Raises BundleError where a golden sample disagrees on this machine, ConfigError where the address
    cannot be had.
    """
    metrics = ServerMetrics()
    async with AsyncExitStack() as stack:
        served, verifiers, worst = [], [], 0.0
        for name in config.bundles:
            if is_language(name, config.bundles_dir):
                verifiers.append(stack.enter_context(await asyncio.to_thread(load_verifier, name, config)))
                continue
            worker = await asyncio.to_thread(load_worker, find_bundle(name, config.bundles_dir), config)
            worst = max(worst, await asyncio.to_thread(worker.check_golden))
            pool = EmbeddedPool(worker, max_queue_frames=config.max_queue_frames, max_batch=config.max_batch)
            served.append(Served(worker.bundle, await stack.enter_async_context(pool)))
        gateway = Gateway(config, served, metrics, [one.bundle for one in verifiers])
        server, checker = _server(config, gateway, verifiers)
        certificates = None if config.tls_cert is None else Certificates(config)
        address = _listen(config, server, certificates)
        if config.metrics:
            stack.enter_context(_exporter(config.metrics, metrics))
        await server.start()
        await checker.set("", health_pb2.HealthCheckResponse.SERVING)
        await checker.set(service.NAME, health_pb2.HealthCheckResponse.SERVING)
        try:
            yield RunningServer(address, gateway, metrics, worst, config, certificates, tuple(verifiers))
        finally:
            gateway.drain()
            await checker.enter_graceful_shutdown()
            await server.stop(gateway.config.drain_grace_s)


def load_worker(bundle: Bundle, config: ServerConfig) -> Worker | CapturedWorker:
    """Raises BundleError where only the head half is here, ConfigError where torch is asked for and cannot run."""
    if not bundle.has_tail:
        raise BundleError(f"bundle {bundle.name} has no tail.onnx: a head half cannot be served")
    try:
        if bundle.manifest.seam.tensors:
            return CapturedWorker(bundle, _half(bundle, "head", config), _half(bundle, "tail", config))
        is_torch = config.runner == "torch"
        return Worker(bundle, TorchTail(bundle, config.device) if is_torch else OnnxTail(bundle, config.threads))
    except (ImportError, AssertionError, RuntimeError) as error:  # what torch says of a device that is not there
        raise ConfigError(f"server.runner {config.runner} must run on {config.device} here: {error}") from error


def load_verifier(name: str, config: ServerConfig) -> Verifier:
    """A language bundle's target. Raises BundleError, ConfigError where torch is missing or has no such device."""
    try:
        from splitrt.server.verifier import Verifier

        bundle = find_language(name, config.bundles_dir)
        made = Verifier(bundle, device=config.device, max_sessions=config.max_sessions, ttl_s=config.session_ttl_s)
        if made.difference:
            log.warning(
                "%s: a token's logits depend on the tokens beside it by %.1e here: texts agree with plain decoding but "
                "for ties closer than that", bundle.name, made.difference,
            )  # fmt: skip
        return made
    except (ImportError, AssertionError, RuntimeError) as error:
        raise ConfigError(f"language bundle {name} must run on {config.device} here: {error}") from error


def _half(bundle: Bundle, side: Side, config: ServerConfig) -> Half:
    return open_half(bundle, side, config.threads, config.runner, config.device)


def _server(config: ServerConfig, gateway: Gateway, verifiers: Sequence[Verifier]) -> tuple[Any, Any]:
    # Our own cap is one frame's payload; the transport's lies above it, so that refusals are per frame.
    server = grpc.aio.server(
        options=server_options(4 * config.max_payload_bytes, STREAMS_PER_CONNECTION),
        maximum_concurrent_rpcs=config.max_streams + SPARE_CALLS,
    )
    service.add_servicer(SplitServicer(gateway), server)
    if verifiers:
        from splitrt.server.speculate import SpeculateServicer

        speculate = SpeculateServicer(
            verifiers,
            gateway.metrics,
            settings=lambda: gateway.config,
            is_draining=gateway.draining.is_set,
        )
        speculation.add_servicer(speculate, server)
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
        raise ConfigError(f"server.listen must be a free HOST:PORT, got {config.listen}") from error
    return f"{host}:{port}"


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
            raise ConfigError(f"server.metrics must be a free HOST:PORT, got {address}: {error}") from error
        try:
            yield
        finally:
            httpd.shutdown()
            httpd.server_close()
            thread.join()

    return running()
