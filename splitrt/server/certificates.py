"""The certificate that a server shows, and the authority it asks devices for: replaced while it runs.

gRPC asks for them before the handshake of every new connection; connections that are open keep theirs.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from splitrt.config import ServerConfig
from splitrt.errors import ConfigError
from splitrt.metrics import ServerMetrics
from splitrt.metrics.certificates import expiry_s

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Papers:
    """What the files held when they were read."""

    configuration: Any  # as gRPC wants it
    expiry_s: Mapping[str, float]  # when each ends, by its use: server, client_ca; Unix time


class Certificates:
    def __init__(self, config: ServerConfig, metrics: ServerMetrics) -> None:
        """Raises ConfigError where a file cannot be read, holds no PEM, or the key is another certificate's."""
        self._metrics = metrics
        self._first = self._show(read_certificates(config))
        self._asks_devices = config.client_ca is not None
        self._next: Any = None
        self._lock = Lock()  # gRPC asks from threads of its own

    def credentials(self) -> Any:
        """For a server's port."""
        return grpc.dynamic_ssl_server_credentials(self._first, self._take, self._asks_devices)

    def replace(self, papers: Papers) -> None:
        """From the next connection on."""
        with self._lock:
            self._next = self._show(papers)

    def _show(self, papers: Papers) -> Any:
        for use, ends_s in papers.expiry_s.items():
            self._metrics.cert_expiry.labels(use).set(ends_s)
        return papers.configuration

    def _take(self) -> Any:
        """None: no change since it was asked last."""
        with self._lock:
            taken, self._next = self._next, None
        return taken


def read_certificates(config: ServerConfig) -> Papers:
    """Of the files that the config names. Raises ConfigError; no message shows their content."""
    assert config.tls_cert is not None
    assert config.tls_key is not None
    cert, key = _read("tls_cert", config.tls_cert), _read("tls_key", config.tls_key)
    ends = {"server": _expiry_s("tls_cert", config.tls_cert, cert)}
    leaf = x509.load_pem_x509_certificate(cert)  # the first: whose key it must be
    try:
        private = serialization.load_pem_private_key(key, None)
    except (ValueError, TypeError) as error:  # TypeError: it is encrypted
        raise ConfigError(f"server.tls_key must be a PEM private key without a password, {config.tls_key}") from error
    if _public(private.public_key()) != _public(leaf.public_key()):
        raise ConfigError(f"server.tls_key must be the key of server.tls_cert, {config.tls_key} is another's")
    if ends["server"] < time.time():
        log.warning("a certificate in %s has ended", config.tls_cert)
    authority = None
    if config.client_ca is not None:
        authority = _read("client_ca", config.client_ca)
        ends["client_ca"] = _expiry_s("client_ca", config.client_ca, authority)
    return Papers(grpc.ssl_server_certificate_configuration([(key, cert)], authority), ends)


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"server.{key} must be a readable file, got {path}: {error.strerror}") from error


def _expiry_s(key: str, path: Path, pem: bytes) -> float:
    try:
        return expiry_s(pem)
    except ValueError as error:
        raise ConfigError(f"server.{key} must hold PEM certificates, {path} does not") from error


def _public(key: Any) -> bytes:
    raw: bytes = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return raw
