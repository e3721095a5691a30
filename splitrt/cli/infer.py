"""`splitrt infer`: one or more photographs through head, link and tail."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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
)


def infer(
    images: Annotated[list[Path], typer.Argument(help="Photographs.")],
    server: ServerOption = None,
    bundle: BundleOption = None,
    deadline_ms: DeadlineOption = None,
    config: ConfigOption = None,
    tls_ca: CaOption = None,
    tls_cert: CertOption = None,
    tls_key: KeyOption = None,
    token: TokenOption = None,
    json: JsonOption = None,
) -> None:
    """Answer photographs, one after the other.

    Example: splitrt infer street.jpg sea.jpg --server 127.0.0.1:7070
    """
    import splitrt.device.sync
    from splitrt.device.source import read_photograph
    from splitrt.output import print_table, write_json

    settings = client_config(
        config, server, bundle=bundle, deadline_ms=deadline_ms, tls_ca=tls_ca, tls_cert=tls_cert, tls_key=tls_key,
        token=token,
    )  # fmt: skip
    frames = [read_photograph(image) for image in images]
    rows = []
    with splitrt.device.sync.Client(config=settings) as client:
        for image, frame_HWC in zip(images, frames, strict=True):
            result = client.infer(frame_HWC)
            score = 0.0 if result.scores is None else float(result.scores.max())
            rows.append(
                {
                    "image": str(image),
                    "label": result.label,
                    "score": score,
                    "source": result.source,
                    "width": result.width,
                    "bits": result.bits,
                    "link_bytes": result.link_bytes,
                    "latency_ms": result.latency_ms,
                }
            )
    print_table("results", list(rows[0]), [list(row.values()) for row in rows], quiet=str(json) == "-")
    write_json(rows, json)
