"""Write docs/results.md from the JSON under docs/results: `python scripts/results_page.py`. A test holds them equal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from results_claims import CLAIMS, REACHED
from results_figure import Described, Figure, Summary
from results_peers import PEERS

ROOT = Path(__file__).resolve().parents[1]
RESULTS, PAGE = ROOT / "docs/results", ROOT / "docs/results.md"

HEAD = """\
# Results

Written by `scripts/results_page.py` from the JSON under `docs/results`, each written by the command that stands with
it and `--json FILE --plot FILE`; nothing here is typed by hand but what the figures are called. Each was taken on the
machine named with it.

A target is one that was set before anything was measured, a promise of the program, a budget that a test holds, or not
to lose to a plain way. It is met or it is missed; a figure without one stands alone.
"""


def page(results: Path = RESULTS) -> str:
    """The whole page. A JSON that nobody has described gets its summary's numbers, without targets."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(results.glob("*.json"))}
    names = [name for name in CLAIMS if name in found] + [name for name in found if name not in CLAIMS]
    summaries = {name: found[name]["summary"] for name in names}
    parts = [HEAD, _missed(summaries), _peers(summaries)]
    parts += [_claim(name, found[name], results) for name in names]
    return "\n".join(parts)


def value_at(summary: Summary, key: str) -> Any:
    found: Any = summary
    for part in key.split("."):
        found = found[int(part)] if isinstance(found, list) else found[part]
    return found


def figures_of(name: str, summary: Summary) -> Iterator[tuple[Figure, Any]]:
    """A claim's figures with their values; those that this summary does not have are left out."""
    for figure in (CLAIMS.get(name) or _undescribed(name, summary)).figures:
        if figure.key.partition(".")[0] in summary:
            yield figure, value_at(summary, figure.key)
        elif figure == REACHED and summary["whole_accuracy"] - summary["best_accuracy"] > 0.01:
            yield figure, None  # of several seeds together there is no such key, but this says as much


def _missed(summaries: dict[str, Summary]) -> str:
    judged = [
        (name, figure, value)
        for name, summary in summaries.items()
        for figure, value in figures_of(name, summary)
        if figure.sense
    ]
    missed = [(name, figure, value) for name, figure, value in judged if not figure.met(value)]
    lines = [f"## Missed\n\nOf {len(judged)} targets {len(judged) - len(missed)} are met and {len(missed)} missed:\n"]
    for name, figure, value in missed:
        lines.append(f"- [{name}](#{name}): {figure.what}: {_shown(figure, value)}, wanted {_target(figure)}")
    return "\n".join(lines) + "\n"


def _peers(summaries: dict[str, Summary]) -> str:
    lines = ["## Against peers\n", "| peer | what | splitrt | peer | who wins |", "|---|---|---|---|---|"]
    for peer, what, row in PEERS:
        try:
            ours, theirs, winner = row(summaries)
        except KeyError:  # its benchmark is not committed
            continue
        lines.append(f"| {peer} | {what} | {ours} | {theirs} | {winner} |")
    return "\n".join(lines) + "\n\nSystems that could not be run beside this one: [other systems](comparison.md).\n"


def _claim(name: str, found: dict[str, Any], results: Path) -> str:
    described = CLAIMS.get(name) or _undescribed(name, found["summary"])
    lines = [f"## {name}\n", f"{described.asks} `{described.command}`\n", f"{_machine(found)}\n"]
    lines += ["| figure | value | target | |", "|---|---|---|---|"]
    for figure, value in figures_of(name, found["summary"]):
        verdict = ("met" if figure.met(value) else "**missed**") if figure.sense else ""
        lines.append(f"| {figure.what} | {_shown(figure, value)} | {_target(figure)} | {verdict} |")
    lines += [f"\n{described.beside}"] if described.beside else []
    plot = f"\n![{name}](results/{name}.png)\n" if (results / f"{name}.png").is_file() else ""
    return "\n".join(lines) + f"\n{plot}\n[{name}.json](results/{name}.json)\n"


def _undescribed(name: str, summary: Summary) -> Described:
    numbers = [key for key, value in summary.items() if isinstance(value, int | float) and not isinstance(value, bool)]
    return Described(
        asks="", command=f"splitrt bench {name}", figures=tuple(Figure(key=key, what=f"`{key}`") for key in numbers)
    )


def _machine(found: dict[str, Any]) -> str:
    machine = found.get("environment")
    if machine is None:
        return "Machine: not recorded in this file."
    packages = ", ".join(f"{name} {number}" for name, number in machine["packages"].items())
    quick = ", a quick run" if machine["quick"] else ""
    return (
        f"Machine: {machine['processor']}, {machine['cores']} cores, load {machine['load_average']:g}{quick}; "
        f"Python {machine['python']}, {packages}."
    )


def _shown(figure: Figure, value: Any) -> str:
    return "not reached" if value is None else figure.form.format(value)


def _target(figure: Figure) -> str:
    if not figure.sense:
        return ""
    if figure == REACHED:
        return figure.why
    return f"{figure.sense} {figure.form.format(figure.bound)} ({figure.why})"


if __name__ == "__main__":
    PAGE.write_text(page())
