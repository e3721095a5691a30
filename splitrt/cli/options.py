"""Options that several commands share, and the config that those of a connection make."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from splitrt.config import ClientConfig

JsonOption = Annotated[
    Path | None, typer.Option("--json", help="Write the result as JSON to FILE, - for standard output.")
]
ServerOption = Annotated[str | None, typer.Option(help="HOST:PORT, several with commas. Default: 127.0.0.1:7070.")]
BundleOption = Annotated[str | None, typer.Option(help="Bundle's name or folder. Default: photos.")]
DeadlineOption = Annotated[float | None, typer.Option(help="Capture to result, in milliseconds. Default: 100.")]
ConfigOption = Annotated[Path | None, typer.Option(help="TOML file with a [client] table.")]
CaOption = Annotated[Path | None, typer.Option(help="Authority of the server's certificate, PEM: turns TLS on.")]
CertOption = Annotated[Path | None, typer.Option(help="This device's certificate, PEM.")]
KeyOption = Annotated[Path | None, typer.Option(help="Its private key, PEM.")]
TokenOption = Annotated[
    str | None, typer.Option(help="Bearer token; better in SPLITRT_CLIENT_TOKEN, which no process list shows.")
]


PLOTS = (".png", ".svg", ".pdf", ".jpg", ".jpeg", ".webp", ".eps", ".tif", ".tiff")


def plot_file(file: Path | None) -> Path | None:
    """Before anything is measured: a plot is drawn at the end. Raises ConfigError on a kind of file that is none."""
    from splitrt.errors import ConfigError

    if file is not None and file.suffix and file.suffix.lower() not in PLOTS:
        raise ConfigError(f"a plot must be a file named {', '.join(PLOTS)}, got {file}")
    return file


def client_config(file: Path | None, server: str | None, **flags: Any) -> ClientConfig:
    from splitrt.config import ClientConfig, read_settings

    servers = tuple(server.split(",")) if server else None
    return read_settings(ClientConfig, "client", file, {"servers": servers, **flags})
