"""Claim `control`: what the adaptive link gains, of all that could be gained by one who knew the future.

Frames are simulated over traces of real links, packet by packet (splitrt/bench/simulation.py), the same frames for
every way of deciding. A way's gain is `(accuracy - local) / (oracle - local)`, summed over cells of trace and
deadline; intervals are bootstraps over traces. Hedged: the device's own answer covers a miss; unhedged: a miss is
worth nothing. Scenario A is a made ladder of six widths, scenario B the front of the bundle asked for.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench import drills, wire
from splitrt.bench.degrading import simulate_degrading
from splitrt.bench.gains import HINDSIGHT, KNOWING, calibration_error, degrading_figures, figures, gain, said, standings
from splitrt.bench.oracle import oracle
from splitrt.bench.players import Genie, Ours
from splitrt.bench.pull import simulate_pull
from splitrt.bench.report import Asked, Claim
from splitrt.bench.rivals import Bola, Ewma, Fitting, Fixed, Gradient, HarmonicMean, Largest, Robust
from splitrt.bench.simulation import Player, Present, Sent, World, simulate
from splitrt.bench.suite import LOCAL_ACCURACY, Cell, cells, jpeg, ladder, ladder_of, tracks
from splitrt.bundle import find_bundle
from splitrt.errors import ConfigError
from splitrt.policy.decision import Choice
from splitrt.policy.queue import InFlight

Maker = Callable[[World, bool], Player]

DEGRADING = {"packets": True, "chunks": False}  # acknowledged one by one
LENGTH_S, QUICK_LENGTH_S, QUICK_EVERY = 30.0, 12.0, 4
SEEDS, QUICK_SEEDS = 20, 4
SEED = 0

RIVALS: dict[str, Maker] = {
    "EWMA lookup": lambda world, _: drills.lookup(world),
    "EWMA and queue": lambda world, _: Fitting(world.choices, Ewma(), margin=0.7, has_trip=False, has_queue=True),
    "naive rate": lambda world, _: Fitting(world.choices, HarmonicMean()),
    "RobustMPC-like": lambda world, _: Fitting(world.choices, Robust(), has_trip=False, has_queue=True),
    "BOLA-like": lambda world, _: Bola(world.choices, world.local_accuracy),
    "GCC-like": lambda world, _: Fitting(world.choices, Gradient(), has_trip=False),
    "windowed max": lambda world, _: Fitting(world.choices, Largest(), has_trip=False),
    "always local": lambda world, _: Fixed(None),
}
PLAYERS: dict[str, Maker] = {
    "splitrt": lambda world, hedged: Ours(world.choices, world.local_accuracy, is_hedged=hedged),
    "genie": lambda world, hedged: Genie(world.choices, world.local_accuracy, is_hedged=hedged),
    "causal genie": lambda world, hedged: Genie(
        world.choices, world.local_accuracy, is_hedged=hedged, is_causal=True
    ),
}  # fmt: skip


def measure(asked: Asked) -> Claim:
    length_s, every = (QUICK_LENGTH_S, QUICK_EVERY) if asked.quick else (LENGTH_S, 1)
    played = tracks(_folder(asked), length_s, SEED, every)
    made = list(cells(played, ladder(), LOCAL_ACCURACY, length_s))
    choices, local_accuracy = ladder_of(find_bundle(asked.bundle))
    bundled = list(cells(played, choices, local_accuracy, length_s))
    with ProcessPoolExecutor() as pool:
        rows = list(pool.map(row_of, made, itertools.repeat("A")))
        real = list(pool.map(row_of, bundled, itertools.repeat("B")))
    sureness = [one for row in rows for one in row.pop("sureness")]
    seeds = QUICK_SEEDS if asked.quick else SEEDS
    wired, ran = _on_the_wire(asked) if asked.real else ([], "")
    summary = {
        **figures(rows),
        **degrading_figures(rows),
        "ece": calibration_error(sureness),
        "frames_sent": len(sureness),
        "decision_us_p50": decision_us(made[-1].world),
        **drills.published(seeds),
        **drills.step_down(seeds),
        **drills.outage(seeds),
        **drills.slow_server(seeds),
        "bundle": asked.bundle,
        **{f"bundle_{key}": value for key, value in figures(real).items() if "worst" not in key},
        **(wire.figures(wired, ran) if wired else {}),
        "traces": len(played),
        "seconds_of_each": length_s,
    }
    all_rows = [*standings(rows, "A"), *standings(real, "B"), *rows, *real, *wired]
    return Claim(summary=summary, rows=all_rows, draw=lambda file: _draw(rows, file))


def row_of(cell: Cell, scenario: str) -> dict[str, Any]:
    """Every way of deciding in one cell. `sureness` of scenario A: what ours said of frames it sent, and what came."""
    world, missed = cell.world, dict[str, float]()
    hedged: dict[str, float] = {}
    unhedged: dict[str, float] = {}
    sureness: list[tuple[float, bool]] = []
    more: dict[str, Any] = {}
    for accuracies, is_hedged in ((hedged, True), (unhedged, False)):
        for name, maker in (PLAYERS | RIVALS).items():
            run = simulate(world, maker(world, is_hedged), is_hedged=is_hedged)
            accuracies[name] = run.accuracy
            missed[f"{name}, {'hedged' if is_hedged else 'unhedged'}"] = run.missed
            if name == "splitrt":
                sureness += said(run)
        fixed = [simulate(world, Fixed(index), is_hedged=is_hedged).accuracy for index in range(len(world.choices))]
        accuracies |= {f"fixed {place + 1}": accuracy for place, accuracy in enumerate(fixed)}
        accuracies[HINDSIGHT] = max(fixed)
        if scenario == "A":
            photographs = _with(world, jpeg())
            accuracies["JPEG"] = simulate(photographs, Fixed(0), is_hedged=is_hedged).accuracy
    if scenario == "A":
        degrading = {key: simulate_degrading(world, acks_packets=acks) for key, acks in DEGRADING.items()}
        degrading["pull"] = simulate_pull(world)
        more = {"sureness": sureness, "degrading": degrading}
    return {
        "scenario": scenario,
        "trace": cell.trace,
        "kind": cell.kind,
        "deadline_ms": 1e3 * cell.deadline_s,
        "fps": cell.fps,
        "local": world.local_accuracy,
        "oracle": oracle(world),
        "hedged": hedged,
        "unhedged": unhedged,
        "missed": {name: share for name, share in missed.items() if name.startswith("splitrt")},
        **more,
    }


def _on_the_wire(asked: Asked) -> tuple[list[dict[str, Any]], str]:
    folder = _folder(asked)
    if folder is None:
        raise ConfigError("--real plays traces: give --traces or --data")
    return asyncio.run(wire.compare(folder, quick=asked.quick))


def decision_us(world: World) -> float:
    """Median CPU time of a decision, outlook and choice, in microseconds."""
    timed = _Timed(Ours(world.choices, world.local_accuracy, is_hedged=True))
    simulate(world, timed, is_hedged=True)
    return float(np.median(timed.costs_us))


class _Timed:
    def __init__(self, player: Player) -> None:
        self._player = player
        self.replied, self.ended = player.replied, player.ended
        self.costs_us: list[float] = []

    def choose(self, now: float, deadline_at: float, in_flight: InFlight, present: Present) -> Sent | None:
        started = time.thread_time()
        sent = self._player.choose(now, deadline_at, in_flight, present)
        self.costs_us.append(1e6 * (time.thread_time() - started))
        return sent


def _folder(asked: Asked) -> Path | None:
    """Where traces are: as asked, in the data folder, or none: then they are made."""
    if asked.traces is not None:
        if not asked.traces.is_dir():
            raise ConfigError(f"--traces must be a folder of CSV files, {asked.traces} is none")
        return asked.traces
    folder = None if asked.data is None else asked.data / "traces"
    return folder if folder is not None and folder.is_dir() else None


def _with(world: World, choice: Choice) -> World:
    return replace(world, choices=[choice])


def _draw(rows: Sequence[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(2, 3)
    names = sorted(rows[0]["hedged"], key=lambda name: gain(rows, "hedged", name))  # the axes share one order
    colours = ["tab:green" if name == "splitrt" else "grey" if name in KNOWING else "tab:blue" for name in names]
    for axis, how in zip(axes[:, 0], ("hedged", "unhedged"), strict=True):
        axis.bar(range(len(names)), [gain(rows, how, name) for name in names], color=colours)
        axis.set_ylim(-0.2, 1)
        axis.set_ylabel(f"gain, {how}")
        axis.axhline(0, color="black", linewidth=0.8)
    axes[-1, 0].set_xticks(range(len(names)), names, rotation=45, ha="right", fontsize=7)
    save(drawing, file)
