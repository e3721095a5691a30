"""`splitrt bench NAME`: run one of the measured claims."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitrt.cli.options import JsonOption, plot_file


def bench(
    name: Annotated[
        str,
        typer.Argument(help="codec, control, exits, frame, gate, head, plan, rate, serve, speculate, width or zoo."),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="End within a minute.")] = False,
    bundle: Annotated[
        str, typer.Option(help="Bundle's name or folder; for rate several with commas: seeds of one recipe.")
    ] = "photos",
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data sets. Default: the one SPLITRT_DATA names.")
    ] = None,
    traces: Annotated[
        Path | None, typer.Option(help="For control: a folder of CSV traces. Default: traces in the data folder.")
    ] = None,
    real: Annotated[
        bool,
        typer.Option(
            "--real",
            help="For control: the same with real client, server and bundle, over a link that plays the traces; "
            "as root under the kernel's own TCP, too.",
        ),
    ] = False,
    litserve_python: Annotated[
        Path | None, typer.Option(help="For serve: a Python that has LitServe and splitrt, to measure it as well.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(callback=plot_file, help="Draw the result to FILE.")] = None,
    json: JsonOption = None,
) -> None:
    """Measure a claim on this machine: a table, and with --json and --plot what docs/results holds.

    Example: splitrt bench frame --quick
    """
    from splitrt.bench.report import run

    run(
        name,
        quick=quick,
        bundle=bundle,
        data=data,
        plot=plot,
        json=json,
        traces=traces,
        real=real,
        litserve_python=litserve_python,
    )
