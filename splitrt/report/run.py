"""What a command wrote with --json, read as hostile input: size before content, numbers only where they are finite."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splitrt.errors import InvalidInput

MOST_BYTES = 32 << 20
MOST_ROWS = 200_000
MOST_COLUMNS = 64  # of a row, nested ones counted
MOST_LETTERS = 120

Row = Mapping[str, Any]  # nested names are joined by dots


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    title: str
    summary: Mapping[str, Any]
    rows: tuple[Row, ...]
    environment: Mapping[str, Any]


def read_run(file: Path) -> Run:
    """Raises InvalidInput where it is no JSON that a command of ours writes, or too large."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"a run must be a readable file, got {file}: {error.strerror}") from error
    if len(data) > MOST_BYTES:
        raise InvalidInput(f"a run must be at most {MOST_BYTES >> 20} MiB, {file} is more")
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"a run must be JSON, {file} is not: {str(error)[:200]}") from None
    if not isinstance(content, dict) or not isinstance(content.get("rows"), list):
        raise InvalidInput(
            f'a run must be {{"summary": .., "rows": [..]}} as --json of a command writes it, got {file}'
        )
    if len(content["rows"]) > MOST_ROWS:
        raise InvalidInput(f"a run must have at most {MOST_ROWS} rows, got {len(content['rows'])}")
    rows = tuple(dict(_flat(row)) for row in content["rows"] if isinstance(row, dict))
    summary, environment = (content.get(key) for key in ("summary", "environment"))
    return Run(
        title=text(file.stem),
        summary=summary if isinstance(summary, dict) else {},
        rows=rows,
        environment=environment if isinstance(environment, dict) else {},
    )


def number(value: object) -> float | None:
    """As a plot takes it: finite, no boolean, no text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        as_float = float(value)
    except OverflowError:
        return None
    return as_float if math.isfinite(as_float) and abs(as_float) < 1e100 else None


def text(value: object) -> str:
    """As a page shows it: short, no control characters."""
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, list):
        value = ", ".join(text(one) for one in value[:8]) + (" …" if len(value) > 8 else "")
    whole = str(value)
    shown = "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in whole[:MOST_LETTERS])
    return shown if len(whole) <= MOST_LETTERS else f"{shown} …"


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Names of one level of nesting joined by dots; at most MOST_COLUMNS."""
    left = MOST_COLUMNS
    for name, value in row.items():
        inner = value.items() if isinstance(value, dict) else [(None, value)]
        for deeper, one in inner:
            if left == 0:
                return
            left -= 1
            yield text(name if deeper is None else f"{name}.{deeper}"), one
