"""What every command prints alike: JSON to a file or to standard output, and tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


def write_json(result: Any, file: Path | None) -> None:
    """Nothing where no file was asked for."""
    if file is None:
        return
    text = json.dumps(_rounded(result), indent=1, default=_plain) + "\n"
    if str(file) == "-":
        sys.stdout.write(text)
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], *, quiet: bool = False) -> None:
    """quiet: JSON goes to standard output, so the table goes to standard error."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*(f"{cell:.3g}" if isinstance(cell, float) else str(cell) for cell in row))
    Console(stderr=quiet).print(table)


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
