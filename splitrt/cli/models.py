"""`splitrt models`: the bundles of this machine and of a server."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitrt.cli.options import JsonOption

models = typer.Typer(help="List, show, verify and fetch bundles.", no_args_is_help=True)
FolderOption = Annotated[Path | None, typer.Option("--bundles-dir", help="Searched before the built-in bundles.")]


@models.command("list")
def list_(bundles_dir: FolderOption = None, json: JsonOption = None) -> None:
    """Every bundle found here.

    Example: splitrt models list
    """
    from splitrt.bundle import bundle_folders, load_bundle
    from splitrt.language.bundle import language_folders, load_language
    from splitrt.output import print_table, write_json

    folders = {folder.name: folder for folder in bundle_folders(bundles_dir).values()}
    rows = []
    for name, folder in sorted(folders.items()):
        bundle = load_bundle(folder)
        widths = ", ".join(map(str, bundle.manifest.seam.widths))
        half = "head and tail" if bundle.has_tail else "head"
        rows.append([name, bundle.manifest.family, half, widths, bundle.digest.hex()[:16]])
    for folder in language_folders(bundles_dir):
        language = load_language(folder)
        half = "draft and target" if language.has_target else "draft"
        rows.append([language.name, "language", half, "", language.digest.hex()[:16]])
    print_table("bundles", ["name", "family", "halves", "widths", "digest"], rows, quiet=str(json) == "-")
    write_json([dict(zip(["name", "family", "halves", "widths", "digest"], row, strict=True)) for row in rows], json)


@models.command()
def show(
    name: Annotated[str, typer.Argument(help="A bundle's name or folder.")],
    bundles_dir: FolderOption = None,
    json: JsonOption = None,
) -> None:
    """A bundle's seam, exit and calibrated operating points.

    Example: splitrt models show photos
    """
    from splitrt.bundle import find_bundle
    from splitrt.errors import ConfigError
    from splitrt.language.bundle import is_language
    from splitrt.output import print_table, write_json

    if is_language(name, bundles_dir):
        raise ConfigError(f"{name} is a language bundle, which has no seam to show: `models list` has checked it")
    bundle = find_bundle(name, bundles_dir)
    calibration, seam = bundle.calibration, bundle.manifest.seam
    quiet = str(json) == "-"
    rows = [[p.width, p.bits, p.payload_bytes_mean, p.payload_bytes_p95, 100 * p.accuracy] for p in calibration.points]
    title = f"{bundle.name}: {bundle.manifest.family}, bottleneck {seam.channels} x {seam.height} x {seam.width}"
    print_table(title, ["width", "bits", "payload bytes", "95th percentile", "accuracy %"], rows, quiet=quiet)
    curve, exits = calibration.exit, bundle.manifest.exits
    if curve is not None and exits is not None:
        typer.echo(
            f"{len(exits.chain)} exits, sure from {exits.threshold:.3f} on: {100 * curve.share:.0f} % of frames, "
            f"certified to lose {100 * curve.epsilon:g} % of all frames at most, at a confidence of "
            f"{100 * (1 - curve.delta):g} %",
            err=quiet,
        )
    write_json({"manifest": bundle.manifest.model_dump(), "calibration": calibration.model_dump()}, json)


@models.command()
def verify(folder: Annotated[str, typer.Argument(help="A bundle's folder or name.")], json: JsonOption = None) -> None:
    """Check every digest and re-run the golden sample on this machine; exit 1 where it disagrees.

    Example: splitrt models verify runs/photos-1
    """
    from splitrt.bundle import find_bundle
    from splitrt.config import ClientConfig, ServerConfig
    from splitrt.device.connect import open_device
    from splitrt.errors import ConfigError
    from splitrt.language.bundle import is_language
    from splitrt.output import write_json
    from splitrt.server.loading import load_worker

    if is_language(folder):
        raise ConfigError(f"{folder} is a language bundle, which has no golden sample: `models list` has checked it")
    bundle = find_bundle(folder)
    head = open_device(bundle, ClientConfig()).check_golden()
    tail = load_worker(bundle, ServerConfig()).check_golden() if bundle.has_tail else None
    tail_words = "no tail here" if tail is None else f"tail within {tail:.1e}"
    typer.echo(f"{bundle.name}: digests hold, head within {head:.1e}, {tail_words}", err=str(json) == "-")
    write_json({"bundle": bundle.name, "head_difference": head, "tail_difference": tail}, json)


@models.command()
def pull(
    name: Annotated[str, typer.Argument(help="A bundle that the server has.")],
    server: Annotated[str, typer.Option(help="HOST:PORT.")],
    out: Annotated[Path, typer.Option(help="Folder to keep it in.")] = Path("bundles"),
    config: Annotated[Path | None, typer.Option(help="TOML file with a [client] table (TLS, token).")] = None,
) -> None:
    """Fetch the head half of a bundle from a server.

    Example: splitrt models pull photos --server edge.example:7070
    """
    import asyncio

    from splitrt.config import ClientConfig, read_settings
    from splitrt.device.fetch import fetch_head

    settings = read_settings(ClientConfig, "client", config, {"servers": (server,), "bundle": name})
    print(asyncio.run(fetch_head(settings, server, out)))
