"""A running server takes new settings: all of them, or none.

What may change has a line in `PREPARE`: a function that does everything which can fail and changes nothing, and gives
back what puts it into force. Once all are prepared, all are put into force, on the event loop with nothing in between.
Bundles alone take effect as they are opened, as the last of all.
A change of any other key is refused by name. Streams that are open keep the limits that they were welcomed with.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from splitrt.config import Change, ServerConfig, changes, refuse_restarts
from splitrt.errors import ConfigError, SplitError
from splitrt.server.certificates import read_certificates

if TYPE_CHECKING:
    from splitrt.server.serve import RunningServer

Commit = Callable[[], None]
Prepare = Callable[["RunningServer", ServerConfig], Awaitable[Commit]]
log = logging.getLogger(__name__)


async def reload(server: RunningServer, new: ServerConfig) -> dict[str, Change]:
    """Settings in force from now on; certificates are read again whether or not their names changed.

    Raises ConfigError where a key needs a restart or a value cannot be taken; then nothing has changed.
    """
    changed = changes(server.gateway.config, new)
    refuse_restarts("server", changed, PREPARE)
    wanted = dict.fromkeys(prepare for key, prepare in PREPARE.items() if key in changed or prepare is _certificates)
    commits = [await prepare(server, new) for prepare in wanted]
    for commit in commits:
        commit()
    server.gateway.reconfigure(new)
    return changed


async def reload_whenever(asked: asyncio.Event, server: RunningServer, read: Callable[[], ServerConfig]) -> None:
    """Until cancelled: each time that `asked` is set, reads and reloads. What is refused is logged, and all goes on."""
    while True:
        await asked.wait()
        asked.clear()
        try:
            changed = await reload(server, await asyncio.to_thread(read))
            log.info("reloaded: %s", "; ".join(map(str, changed.values())) or "no setting changed")
        except SplitError as error:
            log.error("%s", error)
        except Exception:  # a fault of ours must not take the reload from a server that runs on
            log.exception("the reload failed, settings are as they were")


async def _read_per_call(server: RunningServer, new: ServerConfig) -> Commit:
    """The gateway's config is looked at by every call or stream: to replace it is enough."""
    return lambda: None


async def _streams(server: RunningServer, new: ServerConfig) -> Commit:
    """gRPC's own bound of calls was set at the start."""
    most = server.started_with.max_streams
    if new.max_streams > most:
        raise ConfigError(
            f"nothing was reloaded: server.max_streams may be at most {most} while running, what it was at the start, "
            f"got {new.max_streams}: restart the server to change that"
        )
    return lambda: None


async def _certificates(server: RunningServer, new: ServerConfig) -> Commit:
    """Files are read here, on a thread; TLS itself, and whether devices are asked for theirs, is of the port."""
    old, certificates = server.gateway.config, server.certificates
    for key in ("tls_cert", "client_ca"):
        was, now = getattr(old, key), getattr(new, key)
        if (was is None) != (now is None):
            raise ConfigError(
                f"nothing was reloaded: server.{key} is {was and str(was)!r} and would be {now and str(now)!r}: "
                "restart the server to turn that on or off"
            )
    if certificates is None:
        return lambda: None
    read = await asyncio.to_thread(read_certificates, new)
    return lambda: certificates.replace(read)


async def _bundles(server: RunningServer, new: ServerConfig) -> Commit:
    """The catalogue opens what is new and retires what is gone, or raises and has changed nothing: this is last."""
    await server.gateway.offer(new.bundles)
    return lambda: None


# The order in which they are prepared: what is cheap to refuse first, and last what takes effect as it succeeds.
PREPARE: Mapping[str, Prepare] = {
    "tokens": _read_per_call,
    "max_deadline_ms": _read_per_call,
    "max_in_flight": _read_per_call,
    "hello_timeout_s": _read_per_call,
    "drain_grace_s": _read_per_call,
    "max_streams": _streams,
    "tls_cert": _certificates,
    "tls_key": _certificates,
    "client_ca": _certificates,
    "bundles": _bundles,
}
