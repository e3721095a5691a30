"""Claim `gate`: what is of no interest is stopped on the device, what is of interest is kept, at a certified threshold.

Three tasks, judged on data that nothing was trained or calibrated on:

    audio    one spoken digit against nine, on a speaker never heard: leave one speaker out x ten keywords, pooled
    scenes   natural scenes are nothing, buildings and streets go on
    person   the filter before FastestDet, trained on the detector's own verdicts

Bytes are link bytes on a stream with 5 % positives, against sending every frame at full width.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.report import Asked, Claim
from splitrt.errors import ConfigError
from splitrt.policy.guarantee import binomial_tail

POSITIVES = 0.05  # of the stream that bytes are reckoned for
PROMISED = (
    "negatives_stopped",
    "positives_kept",
    "certified_recall",
    "activation_kept",
    "accuracy_change_pt",
    "bytes_saved_gate",
    "bytes_saved_all",
    "gates_share_of_whole",  # CPU of all gates, and of the first exit where there is one, over the undivided model's
)
AT = 0.97  # recall at which the curve is read, beside the certified threshold


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench gate needs data: give their folder with --data or SPLITRT_DATA")
    try:
        import torch

        from splitrt.bench.gate_audio import measure_audio
        from splitrt.bench.gate_person import measure_person
        from splitrt.bench.gate_scenes import measure_scenes
    except ImportError as error:
        raise ConfigError(f"bench gate trains gates: pip install 'splitrt[torch]' ({error.name})") from None
    torch.set_num_threads(1)
    tasks = (measure_scenes, measure_audio) if asked.quick else (measure_scenes, measure_audio, measure_person)
    rows = [task(asked.data, asked.quick) for task in tasks]
    summary = {row["task"]: {key: row[key] for key in PROMISED} for row in rows}
    return Claim(summary=summary, rows=rows, draw=lambda file: _draw(rows, file))


def judged(odds_N: npt.NDArray[Any], is_positive_N: npt.NDArray[np.bool_], threshold: float) -> dict[str, Any]:
    """What a threshold on P(nothing) keeps and stops, with 95 % intervals, and the curve beside it."""
    nothing_N = np.exp(-np.logaddexp(0, odds_N.astype(np.float64)))
    stops_N = nothing_N >= threshold
    positives, negatives = int(is_positive_N.sum()), int((~is_positive_N).sum())
    kept, stopped = int((~stops_N & is_positive_N).sum()), int((stops_N & ~is_positive_N).sum())
    shares = np.unique(np.concatenate([np.linspace(0.5, 1, 101), [AT]]))
    limits = np.quantile(nothing_N[is_positive_N], shares, method="inverted_cdf")
    curve = [
        [float(share), float((nothing_N[~is_positive_N] > limit).mean())]
        for share, limit in zip(shares, limits, strict=True)
    ]
    return {
        "positives": positives,
        "negatives": negatives,
        "threshold": threshold,
        "positives_kept": kept / positives,
        "positives_kept_interval_95": interval(kept, positives),
        "negatives_stopped": stopped / negatives,
        "negatives_stopped_interval_95": interval(stopped, negatives),
        f"negatives_stopped_where_{AT:g}_are_kept": next(stop for share, stop in curve if share == AT),
        "curve": curve,
    }


def interval(hits: int, trials: int) -> list[float]:
    """Two-sided 95 % of a share (Clopper and Pearson), by bisection on the exact binomial tail."""
    low, high = 0.0, 1.0
    if hits:
        low = _solve(lambda share: 1 - binomial_tail(hits - 1, trials, share) < 0.025)
    if hits < trials:
        high = _solve(lambda share: binomial_tail(hits, trials, share) > 0.025)
    return [low, high]


def bytes_saved(kept: float, stopped: float, sent: float, full: float) -> float:
    """On the stream: `sent` and `full` are link bytes of a frame that is let through, and of one at full width."""
    passing = POSITIVES * kept + (1 - POSITIVES) * (1 - stopped)
    return 1 - passing * sent / full


def cpu_ms(sessions: dict[str, tuple[Any, dict[str, npt.NDArray[Any]]]]) -> dict[str, float]:
    """Median CPU milliseconds of each graph on one thread, in turns. sessions: with what each is given."""
    rounds: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(15):
        for name, (session, given) in sessions.items():
            started = time.process_time()
            for _ in range(10):
                session.run(None, given)
            rounds[name].append((time.process_time() - started) * 1e2)
    return {f"{name}_ms": float(np.median(times)) for name, times in rounds.items()}


def _solve(is_below: Any) -> float:
    low, high = 1e-9, 1 - 1e-9
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    for row, colour in zip(rows, ("tab:green", "tab:blue", "tab:orange"), strict=False):
        kept, stopped = zip(*row["curve"], strict=True)
        axis.plot(kept, stopped, color=colour, label=f"{row['task']} ({row['positives']} positives)")
        axis.plot(row["positives_kept"], row["negatives_stopped"], "o", color=colour)
    axis.axvline(AT, color="black", linewidth=0.6, linestyle=":")
    axis.set_xlabel("share of positives kept, test data; the dot is the certified threshold")
    axis.set_ylabel("share of negatives stopped")
    axis.legend(loc="lower left")
    save(drawing, file)
