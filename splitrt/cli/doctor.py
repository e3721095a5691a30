"""`splitrt doctor`: what is installed, whether the bundle holds on this machine, whether the server answers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from splitrt.cli.options import (
    BundleOption,
    CaOption,
    CertOption,
    ConfigOption,
    JsonOption,
    KeyOption,
    TokenOption,
    client_config,
)

PACKAGES = {
    "base": ("numpy", "grpcio", "protobuf", "onnxruntime", "zstandard", "constriction", "google-crc32c"),
    "torch": ("torch", "safetensors", "onnx", "onnxscript"),
    "server": ("ray", "grpcio-reflection"),
    "plot": ("matplotlib",),
    "demo": ("scikit-image",),
}


def doctor(
    server: Annotated[str | None, typer.Option(help="HOST:PORT to try; none: only this machine.")] = None,
    bundle: BundleOption = None,
    config: ConfigOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    token: TokenOption = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Time the bundle's head here; `splitrt plan` reads the file it writes.")
    ] = False,
    health: Annotated[
        bool, typer.Option("--health", help="Only ask the server's health service; exit 1 unless it serves.")
    ] = False,
    init_tls: Annotated[
        Path | None, typer.Option(help="Make a private authority, certificates and tokens in this folder.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="With --init-tls: a host name or address of the server; may be repeated.")
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="With --init-tls: a device's name; may be repeated. Default: device.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, help="With --init-tls: how long certificates are valid.")] = 365,
    json: JsonOption = None,
) -> None:
    """Check this machine, and a server; exit 1 where something that is needed does not hold.

    With --init-tls it makes what a server and its devices need for TLS instead, and checks nothing.

    Example: splitrt doctor --server edge.example:7070
    """
    import asyncio

    from splitrt.errors import ConfigError
    from splitrt.output import write_json

    if json is not None and (health or init_tls is not None):
        raise ConfigError("--json is of what is checked: not with --health or --init-tls")
    if init_tls is not None:
        from splitrt.cli.papers import make_papers

        make_papers(init_tls, name or [], device or ["device"], days)
        return
    settings = client_config(
        config, server, bundle=bundle, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key, token=token
    )
    if health:
        asyncio.run(_health(settings))
        return
    report: dict[str, Any] = {"installed": _installed(), "bundle": _bundle(settings)}
    if certificates := _certificates(settings, config):
        report["certificates"] = certificates
    if server is not None:
        report["server"] = asyncio.run(_server(settings))
    if profile and "error" not in report["bundle"]:
        report["profile"] = asyncio.run(_profile(settings))
    for extra, found in report["installed"].items():
        words = ", ".join(f"{name} {version or 'missing'}" for name, version in found.items())
        typer.echo(f"{extra:<7} {words}", err=str(json) == "-")
    for key in ("bundle", "profile", "server", "certificates"):
        if key in report:
            words = ", ".join(f"{name} {value}" for name, value in report[key].items())
            typer.echo(f"{key:<7} {words}", err=str(json) == "-")
    write_json(report, json)
    if any("error" in report.get(key, {}) for key in ("bundle", "server", "certificates")):
        raise typer.Exit(1)


def _certificates(settings: Any, config: Path | None) -> dict[str, Any]:
    """Days left of those that the settings of either side name."""
    from splitrt.certificates import days_left
    from splitrt.config import ServerConfig, read_settings
    from splitrt.errors import ConfigError

    server = read_settings(ServerConfig, "server", config)
    named = {f"client.{key}": getattr(settings, key) for key in ("tls_ca", "tls_cert")}
    named |= {f"server.{key}": getattr(server, key) for key in ("tls_cert", "client_ca")}
    report: dict[str, Any] = {}
    errors = []
    for key, file in named.items():
        if file is None:
            continue
        try:
            left = days_left(file.read_bytes())
        except (OSError, ConfigError) as error:
            errors.append(f"{key} {file} cannot be read: {getattr(error, 'strerror', None) or error}")
            continue
        report[key] = f"{left:.1f} days left"
        if left <= 0:
            errors.append(f"{key} {file} has expired")
    return report | ({"error": "; ".join(errors)} if errors else {})


async def _health(settings: Any) -> None:
    """One call of grpc.health.v1, for containers' health checks: no bundle is opened."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    from splitrt.device.credentials import open_channel

    server = settings.servers[0]
    async with open_channel(settings, server) as channel:
        try:
            answer = await health_pb2_grpc.HealthStub(channel).Check(
                health_pb2.HealthCheckRequest(), timeout=settings.connect_timeout_s
            )
        except grpc.RpcError as error:
            typer.echo(f"{server} {error.code().name}: {error.details()}")
            raise typer.Exit(1) from None
    status = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    typer.echo(f"{server} {status}")
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise typer.Exit(1)


def _installed() -> dict[str, dict[str, str | None]]:
    from importlib.metadata import PackageNotFoundError, version

    def of(name: str) -> str | None:
        try:
            return version(name)
        except PackageNotFoundError:
            return None

    return {extra: {name: of(name) for name in names} for extra, names in PACKAGES.items()}


def _bundle(settings: Any) -> dict[str, Any]:
    from splitrt.bundle import find_bundle
    from splitrt.device.connect import open_device
    from splitrt.errors import SplitError

    try:
        found = find_bundle(settings.bundle, settings.bundles_dir)
        return {"name": found.name, "golden_difference": open_device(found, settings).check_golden()}
    except SplitError as error:
        return {"error": str(error)}


async def _profile(settings: Any) -> dict[str, Any]:
    """Of a bundle that may have to be fetched first."""
    import asyncio

    from splitrt.device.fetch import bundle_for
    from splitrt.device.profile import profile_device, save_profile

    found = await bundle_for(settings)
    profile = await asyncio.to_thread(profile_device, found, settings.threads)
    file = save_profile(profile, found)
    return {"file": str(file), "head_ms": round(profile.look.median_ms, 3), "threads": profile.threads}


async def _server(settings: Any) -> dict[str, Any]:
    """One frame there and back."""
    import numpy as np

    from splitrt.device.connect import connect_async
    from splitrt.device.strategy import Fixed
    from splitrt.errors import SplitError
    from splitrt.golden import load_captured_golden

    grey = np.full((128, 128, 3), 128, np.uint8)
    settings = settings.model_copy(update={"deadline_ms": 5_000.0})
    try:
        async with connect_async(
            config=settings,
            strategy=lambda bundle: Fixed(bundle.manifest.seam.widths[-1], max(bundle.manifest.seam.bits)),
        ) as client:
            bundle = client.bundle
            golden = load_captured_golden(bundle.path("golden.npz")) if bundle.manifest.inputs else None
            result = await client.infer(golden.inputs if golden else grey)
            if result.source != "remote":
                error = getattr(client.link, "last_error", None)
                return {"error": f"the server did not answer: {error}"}
            return {"address": ",".join(settings.servers), "round_trip_ms": round(result.latency_ms, 1)}
    except SplitError as error:
        return {"error": str(error)}
