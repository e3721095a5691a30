"""TLS and token of a device, as gRPC wants them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import grpc

from splitrt.config import ClientConfig
from splitrt.errors import ConfigError
from splitrt.rpc.channel import client_options

MAX_MESSAGE_BYTES = 64 << 20
LOOPBACK = ("127.", "localhost:", "[::1]:")
log = logging.getLogger(__name__)


def open_channel(config: ClientConfig, server: str) -> Any:
    """A grpc.aio channel to one server, TLS where the config names an authority. Opens lazily."""
    options = list(client_options(MAX_MESSAGE_BYTES))
    if config.tls_ca is None:
        if config.token is not None and not server.startswith(LOOPBACK):
            log.warning("the token goes to %s in plain text: give tls_ca", server)
        return grpc.aio.insecure_channel(server, options=options)
    if config.tls_name is not None:
        options.append(("grpc.ssl_target_name_override", config.tls_name))  # type: ignore[arg-type]
    credentials = grpc.ssl_channel_credentials(
        _read("tls_ca", config.tls_ca),
        _read("tls_key", config.tls_key) if config.tls_key else None,
        _read("tls_cert", config.tls_cert) if config.tls_cert else None,
    )
    return grpc.aio.secure_channel(server, credentials, options=options)


def call_metadata(config: ClientConfig) -> tuple[tuple[str, str], ...]:
    if config.token is None:
        return ()
    return (("authorization", f"Bearer {config.token.get_secret_value()}"),)


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"client.{key} must be a readable file, got {path}: {error.strerror}") from error
