"""The certificate that a server shows, and the authority it asks devices for: replaced while it runs.

gRPC asks for them before the handshake of every new connection; connections that are open keep theirs.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from splitrt.config import ServerConfig
from splitrt.errors import ConfigError

log = logging.getLogger(__name__)


class Certificates:
    def __init__(self, config: ServerConfig) -> None:
        """Raises ConfigError where a file cannot be read, holds no PEM, or the key is another certificate's."""
        self._first = read_certificates(config)
        self._asks_devices = config.client_ca is not None
        self._next: Any = None
        self._lock = Lock()  # gRPC asks from threads of its own

    def credentials(self) -> Any:
        """For a server's port."""
        return grpc.dynamic_ssl_server_credentials(self._first, self._take, self._asks_devices)

    def replace(self, read: Any) -> None:
        """From the next connection on; `read` is of `read_certificates`."""
        with self._lock:
            self._next = read

    def _take(self) -> Any:
        """None: no change since it was asked last."""
        with self._lock:
            taken, self._next = self._next, None
        return taken


def read_certificates(config: ServerConfig) -> Any:
    """What gRPC wants of the files that the config names. Raises ConfigError; no message shows their content."""
    assert config.tls_cert is not None
    assert config.tls_key is not None
    cert, key = _read("tls_cert", config.tls_cert), _read("tls_key", config.tls_key)
    leaf = _certificates("tls_cert", config.tls_cert, cert)[0]
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ConfigError(f"server.tls_key must be a PEM private key without a password, {config.tls_key}") from error
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise ConfigError(f"server.tls_key must be the key of server.tls_cert, {config.tls_key} is another's")
    if leaf.not_valid_after_utc < datetime.now(UTC):
        log.warning("the certificate in %s ended at %s", config.tls_cert, leaf.not_valid_after_utc)
    authority = None
    if config.client_ca is not None:
        authority = _read("client_ca", config.client_ca)
        _certificates("client_ca", config.client_ca, authority)
    return grpc.ssl_server_certificate_configuration([(key, cert)], authority)


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"server.{key} must be a readable file, got {path}: {error.strerror}") from error


def _certificates(key: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as error:
        raise ConfigError(f"server.{key} must hold PEM certificates, {path} does not") from error


def _public(key: Any) -> bytes:
    raw: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw
