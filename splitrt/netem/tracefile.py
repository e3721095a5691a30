"""The two trace files we read: our CSV, and mahimahi's packet deliveries. Text in, columns out.

Every refusal names the file, the line, the value given and the value wanted.
The packet-delivery format: Netravali et al., USENIX ATC 2015 (mahimahi).
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splitrt.errors import InvalidInput

HEADER = ["time_s", "up_mbps", "down_mbps"]
MAX_MBIT = 1e6
DELIVERY_BYTES = 1504  # what one line of a mahimahi file lets through
_MBIT_OF_DELIVERY = DELIVERY_BYTES * 8 / 1000  # one delivery in one millisecond
_MAX_MS = 86_400_000  # a day


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """One rate a time in each measured direction; `None` for a direction that was not measured."""

    times_s: tuple[float, ...]
    up_mbps: tuple[float, ...] | None
    down_mbps: tuple[float, ...] | None
    duration_s: float


def read(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from error


def parse_csv(text: str, source: str) -> Columns:
    """The last row lasts as long as the one before it; a row alone lasts a second."""
    rows = _rows(text, source)
    times_s: list[float] = []
    for line, row in rows:
        time_s = _number(row[0], f"{source}:{line}: time_s", math.inf)
        if times_s and time_s <= times_s[-1]:
            raise InvalidInput(f"{source}:{line}: time_s must rise, got {row[0]} after {times_s[-1]:g}")
        if not times_s and time_s != 0:
            raise InvalidInput(f"{source}:{line}: time_s must start at 0, got {row[0]}")
        times_s.append(time_s)
    last_step_s = times_s[-1] - times_s[-2] if len(times_s) > 1 else 1.0
    return Columns(
        times_s=tuple(times_s),
        up_mbps=_column(rows, 1, source),
        down_mbps=_column(rows, 2, source),
        duration_s=round(times_s[-1] + last_step_s, 9),
    )


def read_mahimahi(up: Path | None, down: Path | None) -> Columns:
    """The shorter file is repeated up to the longer's end, as mahimahi repeats each of them."""
    files = [None if path is None else _delivery_times_ms(path) for path in (up, down)]
    end_ms = max((times_ms[-1] for times_ms in files if times_ms), default=0)
    if not end_ms:
        raise InvalidInput("a mahimahi trace needs a file for up or down, got neither")
    counts = [None if times_ms is None else _deliveries_per_ms(times_ms, end_ms) for times_ms in files]
    # A row begins where a rate can change: one a millisecond would be mostly repetition.
    busy_ms = {ms for count in counts if count is not None for ms in count}
    starts_ms = sorted({0} | busy_ms | {ms + 1 for ms in busy_ms if ms + 1 < end_ms})
    up_mbps, down_mbps = (
        None if count is None else tuple(count[ms] * _MBIT_OF_DELIVERY for ms in starts_ms) for count in counts
    )
    return Columns(
        times_s=tuple(ms / 1000 for ms in starts_ms),
        up_mbps=up_mbps,
        down_mbps=down_mbps,
        duration_s=end_ms / 1000,
    )


def _rows(text: str, source: str) -> list[tuple[int, list[str]]]:
    """Rows with their line numbers, three fields each; blank lines are left out."""
    reader = csv.reader(text.splitlines())
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except csv.Error as error:
        raise InvalidInput(f"{source}:{reader.line_num}: not a CSV file: {error}") from error
    if not rows or rows[0][1] != HEADER:
        got = ",".join(rows[0][1]) if rows else ""
        raise InvalidInput(f"{source}:1: header must be {','.join(HEADER)}, got {got[:80]!r}")
    if len(rows) == 1:
        raise InvalidInput(f"{source}:2: at least one row is wanted, got none")
    for line, row in rows:
        if len(row) != len(HEADER):
            raise InvalidInput(f"{source}:{line}: {len(HEADER)} fields wanted, got {len(row)}")
    return rows[1:]


def _column(rows: Sequence[tuple[int, list[str]]], column: int, source: str) -> tuple[float, ...] | None:
    if not any(row[column] for _, row in rows):
        return None
    for line, row in rows:
        if not row[column]:
            raise InvalidInput(
                f"{source}:{line}: {HEADER[column]} must be a number here too, got an empty field: "
                "a direction is measured on every row or on none"
            )
    return tuple(_number(row[column], f"{source}:{line}: {HEADER[column]}", MAX_MBIT) for line, row in rows)


def _number(text: str, what: str, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most or math.isinf(value):
        raise InvalidInput(f"{what} must be a finite number in [0, {most:g}], got {text[:20]!r}")
    return value


def _delivery_times_ms(path: Path) -> list[int]:
    times_ms: list[int] = []
    for line, text in enumerate(read(path).splitlines(), start=1):
        digits = text.strip()
        if not (digits.isascii() and digits.isdigit()) or len(digits) > 12 or int(digits) > _MAX_MS:
            raise InvalidInput(f"{path}:{line}: must be whole milliseconds in [0, {_MAX_MS}], got {text[:20]!r}")
        if times_ms and int(digits) < times_ms[-1]:
            raise InvalidInput(f"{path}:{line}: times must not fall, got {digits} after {times_ms[-1]}")
        times_ms.append(int(digits))
    if not times_ms or times_ms[-1] == 0:
        raise InvalidInput(f"{path}:{len(times_ms) + 1}: a delivery after 0 ms is wanted, got none")
    return times_ms


def _deliveries_per_ms(times_ms: Sequence[int], end_ms: int) -> Counter[int]:
    """A line `t` closes the millisecond before it, so that a file of one line, `1`, is 12 Mbit/s."""
    repeats = range(0, end_ms, times_ms[-1])
    passed = (start + max(ms - 1, 0) for start in repeats for ms in times_ms)
    return Counter(ms for ms in passed if ms < end_ms)
