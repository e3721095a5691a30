"""The learning curve beside a bundle: a row an epoch as JSON, and its plot."""

from __future__ import annotations

import json
from pathlib import Path

from splitrt.train.checkpoint import Curve


def add_rows(file: Path, rows: Curve) -> None:
    """Append a phase's rows, in place of those that an earlier run of the phase left."""
    before: Curve = json.loads(file.read_text()) if file.is_file() else []
    phases = {row["phase"] for row in rows}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps([row for row in before if row["phase"] not in phases] + rows, indent=1) + "\n")


def plot_curve(file: Path) -> None:
    """Loss and tuning scores over the epochs of all phases, to the same name with .png; nothing without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        return
    mpl.use("Agg")
    from matplotlib import pyplot

    rows: Curve = json.loads(file.read_text()) if file.is_file() else []
    if not rows:
        return
    drawing, (losses, scores) = pyplot.subplots(2, 1, sharex=True, figsize=(8, 6), layout="constrained")
    epochs = range(1, len(rows) + 1)
    for phase in dict.fromkeys(row["phase"] for row in rows):
        places = [epoch for epoch, row in zip(epochs, rows, strict=True) if row["phase"] == phase]
        losses.plot(places, [rows[place - 1]["loss"] for place in places], label=phase)
    for key in dict.fromkeys(key for row in rows for key in row if key.startswith("tune")):
        places = [epoch for epoch, row in zip(epochs, rows, strict=True) if key in row]
        scores.plot(places, [rows[place - 1][key] for place in places], label=key)
    losses.set_ylabel("loss")
    scores.set_ylabel("score on the tune split")
    scores.set_xlabel("epochs, phase after phase")
    for axis in (losses, scores):
        axis.legend()
    drawing.savefig(file.with_suffix(".png"), dpi=110)
    pyplot.close(drawing)
