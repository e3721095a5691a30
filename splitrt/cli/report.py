"""`splitrt report`: a run's JSON as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from splitrt.cli.options import JsonOption


def report(
    run: Annotated[Path, typer.Argument(help="What `splitrt stream`, `demo` or `bench` wrote with --json.")],
    out: Annotated[Path | None, typer.Option(help="The page. Default: the run's name with .html.")] = None,
    json: JsonOption = None,
) -> None:
    """One HTML page that needs nothing else: tables of the summary, plots of the rows, offline.

    Example: splitrt report run.json --out run.html
    """
    from splitrt.errors import ConfigError
    from splitrt.output import write_json
    from splitrt.report.page import charts_of, page
    from splitrt.report.run import read_run

    read = read_run(run)
    file = run.with_suffix(".html") if out is None else out
    data = page(read).encode(errors="replace")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise ConfigError(f"--out must be a file that can be written, got {file}: {error.strerror}") from error
    plots = [chart.title for chart in charts_of(read)]
    typer.echo(f"{file}: {len(plots)} plots of {len(read.rows)} rows", err=str(json) == "-")
    write_json({"page": str(file), "bytes": len(data), "rows": len(read.rows), "plots": plots}, json)
