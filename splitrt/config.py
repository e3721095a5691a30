"""Settings of both sides: one TOML file, `SPLITRT_*` over it, flags over that.

    [server]  listen, TLS, tokens, caps        [client]  servers, deadline, caps

The only module that reads the environment. Unknown keys are refused with the nearest known name.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from splitrt.errors import ConfigError

ENV_PREFIX = "SPLITRT_"
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
    max_sessions: int = Field(64, ge=1)  # texts of a language bundle whose keys and values are kept
    session_ttl_s: float = Field(600.0, gt=0)  # a text that nobody asked about for so long is forgotten
    hello_timeout_s: float = Field(5.0, gt=0)
    drain_grace_s: float = Field(5.0, ge=0)
    reflection: bool = False
    metrics: str | None = None  # HOST:PORT of the Prometheus endpoint

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

    @model_validator(mode="after")
    def _sound(self) -> ClientConfig:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("client.tls_cert and client.tls_key must be given together")
        if self.tls_cert is not None and self.tls_ca is None:
            raise ValueError("client.tls_cert needs client.tls_ca")
        return self


Settings = TypeVar("Settings", ServerConfig, ClientConfig)


def read_settings(
    kind: type[Settings],
    table: str,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """File, then environment, then flags that are not None. Raises ConfigError naming the key and its origin."""
    values: dict[str, Any] = {}
    if file is not None:
        values |= _from_file(kind, table, file)
    values |= _from_environment(kind, table, os.environ if environment is None else environment)
    for key in flags or {}:
        _known(key, list(kind.model_fields), f"flag {table}.")
    values |= {key: value for key, value in (flags or {}).items() if value is not None}
    try:
        return kind.model_validate(values)
    except ValidationError as invalid:
        raise ConfigError(_explain(table, invalid)) from None  # its own text may show a token


def data_folder(flag: Path | None = None) -> Path | None:
    """Where benchmarks and tests find real data: the flag, else `SPLITRT_DATA`, else nowhere."""
    if flag is not None:
        return flag
    named = os.environ.get(ENV_PREFIX + "DATA")
    return Path(named) if named else None


def child_environment(defaults: Mapping[str, str]) -> dict[str, str]:
    """What a process of ours starts with: this one's environment, and these where it does not say otherwise."""
    return {**defaults, **os.environ}


def ray_is_authenticated() -> bool:
    """Whether this process was told that Ray asks for a token."""
    return os.environ.get("RAY_AUTH_MODE") == "token"


def _explain(table: str, invalid: ValidationError) -> str:
    problem = invalid.errors()[0]
    place = ".".join([table, *(str(part) for part in problem["loc"])])
    is_shown = problem["loc"] and "token" not in place
    return f"{place}: {problem['msg']}" + (f", got {problem['input']!r}" if is_shown else "")


def _from_file(kind: type[BaseModel], table: str, file: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"config file must be readable TOML, {file} is not: {error}") from error
    for name in content:
        _known(name, ["server", "client"], f"{file}: table")
    values = content.get(table, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: {table} must be a table, got {type(values).__name__}")
    for key in values:
        _known(key, list(kind.model_fields), f"{file}: key {table}.")
    return values


def _from_environment(kind: type[BaseModel], table: str, environment: Mapping[str, str]) -> dict[str, Any]:
    """SPLITRT_SERVER_LISTEN=... ; strings, arrays and tables may be TOML, all else is text for the model to read."""
    prefix = f"{ENV_PREFIX}{table.upper()}_"
    values: dict[str, Any] = {}
    for name, text in environment.items():
        if not name.startswith(prefix):
            continue
        key = name.removeprefix(prefix).lower()
        _known(key, list(kind.model_fields), "environment: ")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        # A token may look like a number, and the model reads numbers from text by itself.
        values[key] = value if isinstance(value, str | list | dict) else text
    return values


def _known(name: str, known: list[str], where: str) -> None:
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{where}{name} is not known, wanted one of {', '.join(sorted(known))}{hint}")
