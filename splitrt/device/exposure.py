"""How a device's metrics get out, as `[client]` says: a port to scrape, a text file to collect, pushes to a gateway.

None of it is in a frame's way: files and pushes come from another thread, and one that fails is logged and tried again.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from prometheus_client import push_to_gateway, write_to_textfile

from splitrt.config import ClientConfig
from splitrt.errors import ConfigError
from splitrt.metrics.endpoint import endpoint
from splitrt.metrics.registry import Registry

JOB = "splitrt_device"
PUSH_WITHIN_S = 5.0
log = logging.getLogger(__name__)


@asynccontextmanager
async def exposed(config: ClientConfig, registry: Registry) -> AsyncIterator[None]:
    """For as long as the block runs, and once more at its end. Raises EngineError where the port is
    taken, ConfigError where the file cannot be written."""
    async with AsyncExitStack() as stack:
        if config.metrics is not None:
            stack.enter_context(endpoint(config.metrics, registry, "client.metrics"))
        if config.metrics_file is not None:
            _write(config, registry)
        telling = asyncio.create_task(_keep_telling(config, registry), name="metrics")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            await asyncio.to_thread(_tell, config, registry)


async def _keep_telling(config: ClientConfig, registry: Registry) -> None:
    while config.metrics_file is not None or config.metrics_push is not None:
        await asyncio.sleep(config.metrics_every_s)
        await asyncio.to_thread(_tell, config, registry)


def _tell(config: ClientConfig, registry: Registry) -> None:
    try:
        if config.metrics_file is not None:
            _write(config, registry)
        if config.metrics_push is not None:
            instance = config.metrics_instance or socket.gethostname()
            push_to_gateway(
                config.metrics_push, JOB, registry, grouping_key={"instance": instance}, timeout=PUSH_WITHIN_S
            )
    except (OSError, ConfigError) as error:  # a URL's error is an OSError too
        log.warning("metrics could not be told: %s", error)


def _write(config: ClientConfig, registry: Registry) -> None:
    """Whole or not at all: a reader never sees half of it."""
    try:
        write_to_textfile(str(config.metrics_file), registry)
    except OSError as error:
        wanted = "a file in a folder that can be written"
        raise ConfigError(f"client.metrics_file must be {wanted}, got {config.metrics_file}: {error}") from error
