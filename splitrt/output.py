"""What every command prints alike: JSON to a file or to standard output, and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from splitrt.errors import ConfigError

LEAST_NAME = 10  # characters of a table's first column


def write_json(result: Any, file: Path | None) -> None:
    """Nothing where no file was asked for. Raises ConfigError where it cannot be written."""
    if file is None:
        return
    text = json.dumps(_rounded(result), indent=1, default=_plain) + "\n"
    if str(file) == "-":
        sys.stdout.write(text)
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    except OSError as error:
        raise ConfigError(f"--json must be a file that can be written, got {file}: {error.strerror}") from error


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, quiet: bool = False) -> None:
    """quiet: JSON goes to standard output, so the table goes to standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        if column == columns[0]:  # names what the row is of: folded where a terminal is narrow, never cut off
            table.add_column(column, justify="left", overflow="fold", min_width=LEAST_NAME)
        else:
            table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    console = Console(stderr=quiet)
    if not console.is_terminal:  # a file or a pipe has no width
        console.width = max(
            console.width, console.measure(table, options=console.options.update(max_width=1 << 12)).maximum
        )
    console.print(table)


def _rounded(value: Any) -> Any:
    """Six digits are more than any measurement here has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
