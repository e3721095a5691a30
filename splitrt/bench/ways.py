"""Every way of saying a text, on every link, in virtual time: a row each, and what the best of them is held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from splitrt.bench.course import Way, run
from splitrt.bench.profiles import PROFILES, Costs, Profile
from splitrt.bench.routed import routed, server_alone
from splitrt.bench.stories import Told
from splitrt.bench.turns import split
from splitrt.device.pace import Pace

LENGTHS = (1, 2, 3, 4, 6, 8, 12, 16)
SERVER_LENGTHS = (2, 4, 6)
FIXED = tuple(f"fixed {length}" for length in LENGTHS)
HOPED = tuple(f"{name}, two in flight" for name in FIXED)


def _ways() -> dict[str, Callable[[], Way]]:
    ways: dict[str, Callable[[], Way]] = {
        "request per token": lambda: split(0, alone=False),
        "stream": lambda: server_alone(0),
        **{f"server {length}": partial(server_alone, length) for length in SERVER_LENGTHS},
        **{f"fixed {length}": partial(split, length) for length in LENGTHS},
        "transformers' default": lambda: split(20, least_confidence=0.4),
        "split": lambda: split(pace=Pace()),
        "auto": lambda: routed(Pace()),
        **{f"fixed {length}, two in flight": partial(split, length, in_flight=2) for length in LENGTHS},
    }
    return ways


def simulate(regime: str, costs: Costs, told: Sequence[Told]) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for profile in PROFILES:
        here = {name: _row(regime, name, make, told, profile, costs) for name, make in _ways().items()}
        fixed = min((row for name, row in here.items() if name in FIXED), key=lambda row: row["token_ms"])
        others = {name: row["token_ms"] for name, row in here.items() if name not in ("auto", "split")}
        here["split"]["regret"] = here["split"]["token_ms"] / min(others[name] for name in (*FIXED, *HOPED))
        here["split"]["calls_to_formula"] = here["split"]["calls_per_token"] / fixed["calls_per_token"]
        here["auto"]["regret"] = here["auto"]["token_ms"] / min(*others.values(), here["split"]["token_ms"])
        here["local"] = _local(regime, told, profile, costs)
        rows += here.values()
    return rows


def _row(
    regime: str, name: str, make: Callable[[], Way], told: Sequence[Told], profile: Profile, costs: Costs
) -> dict[str, Any]:
    starts = profile.starts()
    courses = [course for at in starts for course in run(make(), told, profile, costs, at)]
    tokens = sum(course.tokens for course in courses)
    times = [1e3 * course.token_s for course in courses]
    lengths = [length for course in courses for length in course.drafted]
    return {
        "regime": regime,
        "profile": profile.name,
        "way": name,
        "token_ms": 1e3 * sum(course.ended_at - course.began_at for course in courses) / tokens,
        "token_ms_p50": float(np.median(times)),
        "token_ms_p95": float(np.percentile(times, 95)),
        "first_ms": float(np.median([1e3 * course.first_s for course in courses])),
        "calls_per_token": sum(course.calls for course in courses) / tokens,
        "up_bytes_per_token": sum(course.up_bytes for course in courses) / tokens,
        "down_bytes_per_token": sum(course.down_bytes for course in courses) / tokens,
        "server_ms_per_token": 1e3 * sum(course.server_s for course in courses) / tokens,
        "stalled_s": sum(course.stalled_s for course in courses) / len(starts),
        "provisional": sum(course.provisional for course in courses) / len(starts),
        "retracted": sum(course.retracted for course in courses) / len(starts),
        "mean_length": float(np.mean(lengths)) if lengths else None,
    }


def two_in_flight_ratio(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """By regime, the best over links and the worst: time a token with two rounds in flight / with one, each at the
    length that is best for it.
    """
    found: dict[str, list[float]] = {}
    for regime in sorted({row["regime"] for row in rows}):
        ratios = []
        for profile in PROFILES:
            here = [row for row in rows if (row["regime"], row["profile"]) == (regime, profile.name)]
            one, two = (min(row["token_ms"] for row in here if row["way"] in ways) for ways in (FIXED, HOPED))
            ratios.append(two / one)
        found[regime] = [min(ratios), max(ratios)]
    return found


def _local(regime: str, told: Sequence[Told], profile: Profile, costs: Costs) -> dict[str, Any]:
    """The drafter alone, whose text is another: every token that the target would not have said is counted."""
    wrong = 1 - float(np.mean([one for text in told for one in text.met]))
    ms = 1e3 * costs.draft_s
    return {
        "regime": regime, "profile": profile.name, "way": "local", "token_ms": ms, "token_ms_p50": ms,
        "token_ms_p95": ms, "first_ms": ms, "calls_per_token": 0.0,
        "up_bytes_per_token": 0.0, "down_bytes_per_token": 0.0, "server_ms_per_token": 0.0, "stalled_s": 0.0,
        "provisional": 0, "retracted": 0, "mean_length": None, "wrong_share": wrong,
    }  # fmt: skip
