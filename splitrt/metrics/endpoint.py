"""A port that Prometheus scrapes: text, or OpenMetrics with exemplars where it asks for that."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import start_http_server

from splitrt.errors import EngineError
from splitrt.metrics.registry import Registry


@contextmanager
def endpoint(address: str, registry: Registry, key: str) -> Iterator[str]:
    """HOST:PORT as bound, for as long as the block runs. Raises EngineError that names the setting `key`."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]") or "127.0.0.1"
    try:
        server, thread = start_http_server(int(port), host, registry)
    except (OSError, ValueError, OverflowError) as error:
        raise EngineError(f"{key} must be a free HOST:PORT, got {address}: {error}") from error
    try:
        yield f"{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
