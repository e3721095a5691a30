"""What can be set: the `[server]` and `[client]` tables, each key with its default and bounds.

    [server]  listen, TLS, tokens, caps        [client]  servers, deadline, caps

Which keys a running server takes anew is said in splitrt.server.reload. Every key has a row in docs/configuration.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

ADDRESS = r"^[^\s:]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$"  # HOST:PORT


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerConfig(Table):
    """The `[server]` table."""

    listen: str = Field(default="127.0.0.1:7070", pattern=ADDRESS)
    bundles: tuple[str, ...] = ("photos",)
    bundles_dir: Path | None = None  # searched before the bundles that ship with splitrt
    engine: Literal["embedded", "ray"] = "embedded"
    ray_address: str | None = Field(None, pattern=ADDRESS)  # of a cluster to join; none: one of this server's own
    replicas: int = Field(1, ge=1, le=1024)  # of each bundle version, on Ray
    max_replicas: int | None = Field(None, ge=1, le=1024)  # given: as many as work asks for, up to this
    replica_cpus: float = Field(1.0, gt=0, le=1024)
    replica_gpus: float = Field(0.0, ge=0, le=64)  # fractions share one
    replica_token: SecretStr | None = None  # what replicas ask of gateways; none: made for a cluster of our own
    threads: int = Field(1, ge=1, le=256)  # of a CPU tail
    runner: Literal["onnx", "torch"] = "onnx"  # what runs tails: torch for GPUs
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:[0-9]+)?|mps)$")  # of torch
    tls_cert: Path | None = None
    tls_key: Path | None = None
    client_ca: Path | None = None  # given: devices must show a certificate of this authority (mTLS)
    tokens: dict[str, SecretStr] = {}  # principal -> bearer token; empty: no token is asked for
    max_payload_bytes: int = Field(1 << 20, ge=1 << 10, le=64 << 20)
    max_deadline_ms: int = Field(60_000, ge=1)
    max_in_flight: int = Field(64, ge=1, le=128)  # frames of one stream that are not answered yet
    max_streams: int = Field(1024, ge=1)
    max_queue_frames: int = Field(256, ge=1)
    max_batch: int = Field(16, ge=1, le=1024)
    max_batch_ms: float = Field(
        50.0, gt=0
    )  # what a batch may take, by what was measured: smaller ones where it took more
    max_sessions: int = Field(64, ge=1)  # texts of a language bundle whose keys and values are kept
    session_ttl_s: float = Field(600.0, gt=0)  # a text that nobody asked about for so long is forgotten
    hello_timeout_s: float = Field(5.0, gt=0)
    drain_grace_s: float = Field(5.0, ge=0)
    reflection: bool = False
    metrics: str | None = Field(None, pattern=ADDRESS)  # HOST:PORT of the Prometheus endpoint

    @model_validator(mode="after")
    def _tls_whole(self) -> ServerConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("server.tls_cert and server.tls_key must be given together")
        if self.client_ca is not None and self.tls_cert is None:
            raise ValueError("server.client_ca needs server.tls_cert and server.tls_key")
        if self.max_replicas is not None and self.max_replicas < self.replicas:
            raise ValueError(f"server.max_replicas must be at least replicas, {self.replicas}")
        if self.ray_address is not None and self.replica_token is None and self.engine == "ray":
            raise ValueError("server.ray_address needs server.replica_token, the same for every gateway and node")
        return self


class ClientConfig(Table):
    """The `[client]` table."""

    servers: tuple[str, ...] = ("127.0.0.1:7070",)
    bundle: str = "photos"
    bundles_dir: Path | None = None  # where fetched bundles are kept; none: ~/.cache/splitrt
    deadline_ms: float = Field(100.0, gt=0, le=60_000)  # capture to result
    max_waiting: int = Field(1, ge=1, le=1024)  # frames whose head has not run; a newer one displaces the oldest
    in_flight_bytes: int = Field(128 << 10, ge=1 << 10)  # sent and not answered; more waits, and can be withdrawn
    deltas: bool = False  # for video: send frames as differences to answered ones where that is smaller
    degrade: bool = False  # send frames in chunks: late ones cost width, not the frame
    most_misses: float | None = Field(None, gt=0, lt=1)  # a service level: share of frames sent that may be late
    audit_share: float = Field(0.01, ge=0, le=1)  # of frames that would exit: sent all the same, to be compared
    audit_seed: int = 0
    price_per_s: float = Field(2.0, ge=0)  # right answers that are given up for an answer a second earlier,
    price_per_kb: float = Field(0.0, ge=0)  # for a kilobyte less on the link
    price_per_joule: float = Field(0.0, ge=0)  # and for a joule less of the radio's
    radio_w: float = Field(1.0, ge=0)  # what the radio takes while it sends
    threads: int = Field(1, ge=1, le=64)
    runner: Literal["onnx", "torch"] = "onnx"
    tls_ca: Path | None = None  # given: TLS, and the server's certificate must be of this authority
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_name: str | None = None  # the name in the server's certificate, where it is not the address
    token: SecretStr | None = None
    connect_timeout_s: float = Field(3.0, gt=0)
    metrics: str | None = Field(None, pattern=ADDRESS)  # HOST:PORT of an endpoint to scrape
    metrics_file: Path | None = None  # .prom, for node_exporter's textfile collector: written whole or not at all
    metrics_push: str | None = Field(None, pattern=r"^https?://")  # a Pushgateway
    metrics_instance: str | None = None  # this device's name there; none: the host's
    metrics_every_s: float = Field(15.0, gt=0)  # between two files or pushes
    traces: str | None = Field(None, pattern=r"^https?://")  # OTLP over HTTP: a trace a frame

    @model_validator(mode="after")
    def _sound(self) -> ClientConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("client.tls_cert and client.tls_key must be given together")
        if self.tls_cert is not None and self.tls_ca is None:
            raise ValueError("client.tls_cert needs client.tls_ca")
        if self.metrics_file is not None and self.metrics_file.suffix != ".prom":
            raise ValueError(f"client.metrics_file must end in .prom, got {self.metrics_file}")
        return self


TABLES: dict[str, type[ServerConfig] | type[ClientConfig]] = {"server": ServerConfig, "client": ClientConfig}
Settings = TypeVar("Settings", bound=Table)
