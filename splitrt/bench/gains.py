"""The statistics of claim `control`: gains pooled over cells, intervals over traces, calibration.

A cell is a row with `trace`, `kind`, `local`, `oracle`, and under `hedged` and `unhedged` the mean accuracy of every
way of deciding by its name. A gain is `(accuracy - local) / (oracle - local)`, both summed over cells: the accuracy
itself would be flattered by what the device can do alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.simulation import Played

Float64 = npt.NDArray[np.float64]

OURS, GENIE, CAUSAL = "splitrt", "genie", "causal genie"
KNOWING = (OURS, GENIE, CAUSAL)  # all others are baselines
HINDSIGHT = "best fixed in hindsight"  # no baseline that anyone could run
ENDINGS = {"hedged": "", "unhedged": "_unhedged"}  # of the summary's keys
RESAMPLES, BINS, SEED = 2_000, 10, 0
WORST = 5  # cells listed


def figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Gains of one scenario, pooled over its cells, with intervals over traces."""
    found: dict[str, Any] = {}
    for how, ending in ENDINGS.items():
        gains = {name: gain(rows, how, name) for name in rows[0][how]}
        rivals = [name for name in gains if name not in KNOWING and name != HINDSIGHT]
        best = max(rivals, key=gains.__getitem__)
        found |= {
            f"gain_whole{ending}": gains[OURS],
            f"gain_whole{ending}_interval": interval(rows, how, OURS),
            f"genie{ending}": gains[GENIE],
            f"genie{ending}_interval": interval(rows, how, GENIE),
            f"genie_share{ending}": gains[OURS] / gains[GENIE],
            f"causal_genie_share{ending}": gains[OURS] / gains[CAUSAL],
            f"oracle_share{ending}": mean_of(rows, how, OURS) / float(np.mean([row["oracle"] for row in rows])),
            f"best_baseline{ending}": best,
            f"margin_best_baseline{ending}": gains[OURS] - gains[best],
            f"margin_best_baseline{ending}_interval": interval(rows, how, OURS, best),
            f"margin_hindsight{ending}": gains[OURS] - gains[HINDSIGHT],
            f"margin_hindsight{ending}_interval": interval(rows, how, OURS, HINDSIGHT),
            f"worst_cell{ending}": worst(rows, how)[0],
            f"worst_cells{ending}": worst(rows, how),
            f"cells_behind{ending}": sum(ahead_of_hindsight(row, how) < 0 for row in rows),
        }
    return found


def degrading_figures(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Frames that degrade, always hedged: gains, what the genie of whole frames gets beside, and the worst cell."""
    found: dict[str, Any] = {}
    genie = gain(rows, "hedged", GENIE)
    for key, ending in (("packets", ""), ("chunks", "_chunk_acks")):
        found |= {
            f"gain_degrading{ending}": gain(rows, "degrading", key),
            f"gain_degrading{ending}_interval": interval(rows, "degrading", key),
            f"genie_share_degrading{ending}": gain(rows, "degrading", key) / genie,
        }
    found["gain_degrading_pull"] = gain(rows, "degrading", "pull")
    ahead = [row["degrading"]["packets"] - row["hedged"][OURS] for row in rows]
    worst_row = rows[int(np.argmin(ahead))]
    return found | {
        "degrading_ahead_of_whole": float(np.mean([gap > 0 for gap in ahead])),
        "worst_cell_degrading": {
            "trace": worst_row["trace"],
            "deadline_ms": worst_row["deadline_ms"],
            "accuracy_ahead_of_whole": min(ahead),
        },
    }


def standings(rows: Sequence[dict[str, Any]], scenario: str) -> list[dict[str, Any]]:
    """Every way of deciding, all cells pooled and kind by kind, and how far ours lies ahead of it."""
    kinds = {None: list(rows)} | {kind: [row for row in rows if row["kind"] == kind] for kind in _kinds(rows)}
    return [
        {
            "scenario": scenario,
            "how": how,
            "name": name,
            "gains": {kind or "all": gain(some, how, name) for kind, some in kinds.items()},
            "ours_ahead": gain(rows, how, OURS) - gain(rows, how, name),
            "ours_ahead_interval": interval(rows, how, OURS, name),
        }
        for how in ENDINGS
        for name in rows[0][how]
    ]


def _kinds(rows: Sequence[dict[str, Any]]) -> list[str]:
    return sorted({row["kind"] for row in rows})


def gain(rows: Sequence[dict[str, Any]], how: str, name: str) -> float:
    """(accuracy - local) / (oracle - local), summed over cells; 0 where there is nothing to gain."""
    to_gain = sum(row["oracle"] - row["local"] for row in rows)
    return sum(row[how][name] - row["local"] for row in rows) / to_gain if to_gain > 0 else 0.0


def mean_of(rows: Sequence[dict[str, Any]], how: str, name: str) -> float:
    return float(np.mean([row[how][name] for row in rows]))


def worst(rows: Sequence[dict[str, Any]], how: str) -> list[dict[str, Any]]:
    """The cells furthest below the better of the best fixed width in hindsight and always local, the worst first."""
    return [
        {
            "trace": row["trace"],
            "deadline_ms": row["deadline_ms"],
            "accuracy_ahead": ahead_of_hindsight(row, how),
            "accuracy": row[how][OURS],
            "genie": row[how][GENIE],
            "oracle": row["oracle"],
        }
        for row in sorted(rows, key=lambda row: ahead_of_hindsight(row, how))[:WORST]
    ]


def ahead_of_hindsight(row: dict[str, Any], how: str) -> float:
    """How far ours lies above what nobody could choose beforehand; negative: below."""
    return float(row[how][OURS] - max(row[how][HINDSIGHT], row["local"]))


def interval(rows: Sequence[dict[str, Any]], how: str, name: str, less: str | None = None) -> list[float]:
    """95 % of a gain, or of how far it lies above another's, by resampling traces with all of their cells."""
    sums: dict[str, Float64] = {}
    for row in rows:
        ahead = row[how][name] - (row["local"] if less is None else row[how][less])
        before = sums.setdefault(row["trace"], np.zeros(2))
        before += (ahead, row["oracle"] - row["local"])
    sums_T2 = np.stack(list(sums.values()))
    picks = np.random.default_rng(SEED).integers(0, len(sums_T2), (RESAMPLES, len(sums_T2)))
    drawn = sums_T2[picks].sum(axis=1)
    shares = drawn[:, 0] / np.maximum(drawn[:, 1], 1e-12)
    return [float(bound) for bound in np.percentile(shares, [2.5, 97.5])]


def said(run: Played) -> list[tuple[float, bool]]:
    """Probability and outcome of every frame sent, probes too."""
    return [
        (note.probability, hit) for note, hit in zip(run.notes_K, run.is_hit_K, strict=True) if note is not None
    ]  # fmt: skip


def calibration_error(sureness: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error over ten equal bins: mean gap between what was said and how often it came true."""
    if not sureness:
        return 0.0
    said_N, came_N = (np.array(column, dtype=np.float64) for column in zip(*sureness, strict=True))
    bin_N = np.minimum((said_N * BINS).astype(int), BINS - 1)
    gaps = [abs(float((said_N - came_N)[bin_N == place].sum())) for place in range(BINS)]
    return sum(gaps) / len(sureness)
