"""A view as rich tables: rates, times and levels, each kind in a table of its own."""

from __future__ import annotations

import math

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from splitrt.top.view import Block, Line, View

NOTHING = "-"


def draw(view: View, title: str, problem: str = "") -> RenderableType:
    """problem: why this is not the newest, e.g. that nothing answers any more."""
    interval = "first look" if view.interval_s is None else f"over {view.interval_s:.1f} s"
    parts: list[RenderableType] = [Text(f"{title}  {interval}", style="bold")]
    if problem:
        parts.append(Text(problem, style="bold red"))
    if not view.blocks:
        parts.append(Text("no metric of splitrt's on this page"))
    for kind, columns in (
        ("level", ("", "", "now")),
        ("rate", ("", "", "per second", "share", "total")),
        ("times", ("", "", "p50", "p95", "per second", "total")),
    ):
        blocks = [block for block in view.blocks if block.kind == kind]
        if blocks:
            parts.append(_table(blocks, columns))
    return Group(*parts)


def amount(value: float | None, unit: str = "") -> str:
    """Three digits, with the unit's own steps: seconds in ms or µs, bytes in kB or MB."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if unit == "s" and value:
        for step, name in ((1.0, "s"), (1e-3, "ms"), (0.0, "µs")):
            if abs(value) >= step:
                return f"{value / (step or 1e-6):.3g} {name}"
    for step, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= step and unit != "s":
            return f"{value / step:.3g} {name}{unit}"
    return f"{value:.3g} {unit}".rstrip()


def _table(blocks: list[Block], columns: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index < 2 else "right", style="dim" if index == 0 else None)
    for block in blocks:
        for index, line in enumerate(block.lines):
            table.add_row(Text("" if index else block.title), Text(line.labels), *_cells(block, line))
        if block.left_out:
            table.add_row("", Text(f"and {block.left_out} more"))
    return table


def _cells(block: Block, line: Line) -> list[Text]:
    unit = block.unit
    share = NOTHING if line.share is None else f"{100 * line.share:.0f} %"
    cells = {
        "level": [amount(line.level, unit)],
        "rate": [amount(line.per_s, unit), share, amount(line.total, unit)],
        "times": [amount(line.p50, unit), amount(line.p95, unit), amount(line.per_s), amount(line.total)],
    }[block.kind]
    return [Text(cell) for cell in cells]
