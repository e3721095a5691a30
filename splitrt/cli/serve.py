"""`splitrt serve`: run a server until it is told to stop, then drain."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from splitrt.config import ServerConfig


def serve(
    bundles: Annotated[
        list[str] | None, typer.Argument(help="Bundles to serve: names or folders. Default: photos.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with a [server] table.")] = None,
    engine: Annotated[str | None, typer.Option(help="Where tails run: embedded, in this process, or ray.")] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="HOST:PORT of a Ray cluster to join. Default: one of this server's own.")
    ] = None,
    replicas: Annotated[int | None, typer.Option(help="Replicas of each bundle on Ray.")] = None,
    max_replicas: Annotated[int | None, typer.Option(help="As many as work asks for, up to this.")] = None,
    listen: Annotated[str | None, typer.Option(help="HOST:PORT to listen on. Default: 127.0.0.1:7070.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="Certificate chain, PEM: turns TLS on.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its private key, PEM.")] = None,
    client_ca: Annotated[Path | None, typer.Option(help="Ask devices for a certificate of this authority.")] = None,
    token: Annotated[
        list[str] | None, typer.Option(help="NAME=TOKEN of a client that may connect; may be repeated.")
    ] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of a CPU tail.")] = None,
    runner: Annotated[str | None, typer.Option(help="What runs tails: onnx (CPUs) or torch.")] = None,
    device: Annotated[str | None, typer.Option(help="Where torch runs them: cpu, cuda, cuda:1, mps.")] = None,
    reflection: Annotated[bool | None, typer.Option("--reflection", help="Offer gRPC reflection.")] = None,
    metrics: Annotated[str | None, typer.Option(help="HOST:PORT of the Prometheus endpoint.")] = None,
    log: Annotated[Literal["text", "json"], typer.Option(help="Lines on standard error: text, or json.")] = "text",
) -> None:
    """Serve tails. Ends on SIGINT or SIGTERM, after the frames that were admitted are answered.

    SIGHUP: the file and the certificates are read again; see docs/configuration.md for what may change.

    Example: splitrt serve photos --listen 0.0.0.0:7070 --tls-cert server.pem --tls-key server.key
    """
    import asyncio

    from splitrt.config import ServerConfig, read_settings
    from splitrt.logs import log_to_stderr

    flags: dict[str, Any] = {
        "bundles": tuple(bundles) if bundles else None,
        "engine": engine,
        "ray_address": ray_address,
        "replicas": replicas,
        "max_replicas": max_replicas,
        "listen": listen,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "client_ca": client_ca,
        "tokens": _tokens(token) if token else None,
        "threads": threads,
        "runner": runner,
        "device": device,
        "reflection": reflection,
        "metrics": metrics,
    }
    log_to_stderr(log)
    asyncio.run(_serve(lambda: read_settings(ServerConfig, "server", config, flags)))


def _tokens(pairs: list[str]) -> dict[str, str]:
    from splitrt.errors import ConfigError

    tokens = dict(pair.partition("=")[::2] for pair in pairs)
    if not all(name and token for name, token in tokens.items()):
        raise ConfigError("--token must be NAME=TOKEN")  # what was given may be a secret
    return tokens


async def _serve(read: Callable[[], ServerConfig]) -> None:
    import asyncio
    import signal

    from splitrt.server.reload import reload_whenever
    from splitrt.server.serve import serve as serving

    stop, reload = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload.set)
    async with serving(read()) as server:
        names = ", ".join(server.gateway.catalogue.names)
        print(f"serving {names} on {server.address} (golden samples within {server.golden_difference:.1e})", flush=True)
        reloading = asyncio.create_task(reload_whenever(reload, server, read))
        await stop.wait()
        reloading.cancel()
        print("draining", flush=True)
