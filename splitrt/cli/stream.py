"""`splitrt stream`: a folder, a video file or a camera as a stream of frames."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from splitrt.cli.options import (
    BundleOption,
    CaOption,
    CertOption,
    ConfigOption,
    DeadlineOption,
    JsonOption,
    KeyOption,
    ServerOption,
    TokenOption,
    client_config,
    plot_file,
)

if TYPE_CHECKING:
    from splitrt.device.result import Result
    from splitrt.device.sync import Client

LAST_FRAMES = 10_000


def stream(
    source: Annotated[str, typer.Argument(help="A folder of photographs, a video file, or a camera's number.")],
    server: ServerOption = None,
    bundle: BundleOption = None,
    fps: Annotated[float, typer.Option(help="Frames per second of a source that is not live.")] = 10.0,
    loop: Annotated[bool, typer.Option("--loop", help="Start a folder or a video file again when it ends.")] = False,
    deadline_ms: DeadlineOption = None,
    deltas: Annotated[
        bool | None, typer.Option("--deltas", help="For video: send differences to answered frames where smaller.")
    ] = None,
    degrade: Annotated[
        bool | None, typer.Option("--degrade", help="Send frames in chunks: late ones cost width, not the frame.")
    ] = None,
    config: ConfigOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    token: TokenOption = None,
    plot: Annotated[
        Path | None, typer.Option(callback=plot_file, help="Draw width, source and latency over time to FILE.")
    ] = None,
    json: JsonOption = None,
) -> None:
    """Answer a stream of frames, one line a frame; the newest frame wins when the device cannot keep up.

    Ends with its source, or on SIGINT or SIGTERM: what was answered by then is summed up, drawn and written.

    Example: splitrt stream photographs/ --server edge.example:7070,backup.example:7070 --fps 10
    """
    import sys

    import splitrt.device.sync
    from splitrt.bench.log import FrameLog, summary
    from splitrt.device.source import again, frames_of
    from splitrt.output import write_json

    settings = client_config(
        config, server, bundle=bundle, deadline_ms=deadline_ms, deltas=deltas, degrade=degrade, tls_ca=tls_ca,
        tls_cert=tls_cert, tls_key=tls_key, token=token,
    )  # fmt: skip
    frames, is_live = frames_of(source)
    if loop and not is_live:
        frames = again(source)
    # Rows that nobody will draw or read are summed up over the last ones only: a stream may run for months.
    log = FrameLog(last=None if plot or json else LAST_FRAMES)
    out = sys.stderr if str(json) == "-" else sys.stdout
    with splitrt.device.sync.Client(config=settings) as client:
        for result in _until_told(client, client.stream(frames, None if is_live else fps)):
            log.add(result)
            line = f"{result.seq:>6}  {result.label or '-':<12} {result.source:<9} width {result.width:>3}"
            print(f"{line}  {result.link_bytes:>6} B  {result.latency_ms:7.1f} ms", file=out, flush=True)
    figures = summary(log, settings.deadline_ms)
    print("  ".join(f"{key} {value:.4g}" for key, value in figures.items()), file=out)
    if plot is not None:
        from splitrt.bench.plots import plot_streams

        plot_streams({"stream": log}, plot)
    write_json({"summary": figures, "rows": log.rows}, json)


def _until_told(client: Client, results: Iterator[Result]) -> Iterator[Result]:
    """Results until the first SIGINT or SIGTERM, which closes the client; a second one ends the process.

    Not by KeyboardInterrupt: it may come anywhere, also where the client holds a lock.
    """
    import signal
    import threading

    from splitrt.errors import ClientClosed

    numbers = (signal.SIGINT, signal.SIGTERM)
    closing = threading.Thread(target=client.close)

    def close(*_: Any) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        closing.start()

    for number in numbers:
        signal.signal(number, close)
    try:
        yield from results
    except ClientClosed:
        if closing.ident is None:
            raise
        closing.join()
