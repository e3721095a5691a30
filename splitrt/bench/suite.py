"""What the controllers are tried on: ladders, deadlines, and traces from a folder or made up.

Scenario A is made: six widths of 1 to 32 KB. Scenario B is a bundle's own front. A trace is played from a moment
drawn by the seed; 5G was measured downlink only, and a tenth of it stands for the uplink.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splitrt.bench.packets import Packets, expand, packets_of
from splitrt.bench.simulation import FRAMING_BYTES, Ways, World, world_of
from splitrt.bundle import Bundle
from splitrt.errors import ConfigError
from splitrt.netem import Trace
from splitrt.netem.trace import BYTES_PER_S_OF_MBIT
from splitrt.policy.decision import Choice

DEADLINES = ((0.1, 30.0), (0.15, 20.0), (0.2, 10.0))  # seconds, frames a second
LOCAL_ACCURACY = 0.55
LADDER_KB = (1, 2, 4, 8, 16, 32)
LADDER_ACCURACY = (0.60, 0.64, 0.68, 0.71, 0.74, 0.76)
HEADS_S = (0.008, 0.020)  # narrowest to widest
JPEG_KB, JPEG_ACCURACY = 40, 0.77
HEADER_BYTES = 46
DOWNLINK_SHARE = 0.1  # of a 5G downlink, for the uplink that nobody measured
ROUND_TRIPS_S = {"EVDO": 0.07, "UMTS": 0.07, "LTE": 0.05, "wifi": 0.02, "5g": 0.03}
MADE_MBIT = {"made-3g": 0.8, "made-lte": 4.0, "made-wan": 1.5, "made-5g": 20.0}
OTHER_ROUND_TRIP_S = 0.04


def ladder() -> list[Choice]:
    heads = np.linspace(*HEADS_S, len(LADDER_KB)).tolist()
    return [
        Choice(width=kb, bits=4, link_bytes=1024 * kb + FRAMING_BYTES, accuracy=accuracy, head_s=head_s)
        for kb, accuracy, head_s in zip(LADDER_KB, LADDER_ACCURACY, heads, strict=True)
    ]


def jpeg() -> Choice:
    return Choice(width=0, bits=0, link_bytes=1024 * JPEG_KB + FRAMING_BYTES, accuracy=JPEG_ACCURACY, head_s=0.002)


def ladder_of(bundle: Bundle) -> tuple[list[Choice], float]:
    """A bundle's front, and the accuracy of its exit."""
    if bundle.calibration.exit is None:
        raise ConfigError(f"bench control needs a bundle whose head has an exit, {bundle.name} has none")
    choices = [
        Choice(
            width=point.width,
            bits=point.bits,
            link_bytes=point.payload_bytes_mean + HEADER_BYTES,
            accuracy=point.accuracy,
            head_s=HEADS_S[0],
        )
        for point in bundle.calibration.front()
    ]
    return choices, bundle.calibration.exit.accuracy


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A world to play in."""

    trace: str
    kind: str
    deadline_s: float
    fps: float
    world: World


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A link's uplink as packets, with its name and kind."""

    name: str
    kind: str
    packets: Packets
    ways: Ways


def tracks(folder: Path | None, length_s: float, seed: int, every: int = 1) -> list[Track]:
    """Of every CSV below a folder, in the order of their names (or every so-manieth); of made ones without a folder."""
    if folder is None:
        return [_made(name, mbit, length_s, seed) for name, mbit in MADE_MBIT.items()]
    files = sorted(file for file in folder.rglob("*.csv") if file.name != "index.csv")
    if not files:
        raise ConfigError(f"the folder of traces must hold CSV files, {folder} has none")
    return [_read(file, length_s, seed) for file in files[::every]]


def cells(tracks: Sequence[Track], choices: Sequence[Choice], local_accuracy: float, length_s: float) -> Iterator[Cell]:
    for track in tracks:
        for deadline_s, fps in DEADLINES:
            world = world_of(
                choices,
                local_accuracy,
                track.packets,
                track.ways,
                deadline_s=deadline_s,
                fps=fps,
                length_s=length_s,
                draw=_draw(f"{track.name} {deadline_s}", 0),
            )
            yield Cell(trace=track.name, kind=track.kind, deadline_s=deadline_s, fps=fps, world=world)


def _read(file: Path, length_s: float, seed: int) -> Track:
    trace, draw = Trace.read_csv(file), _draw(file.stem, seed)
    kind = next((kind for kind in ROUND_TRIPS_S if kind.lower() in file.stem.lower()), "other")
    start_s = draw.uniform(0, max(0.0, trace.duration_s - length_s))
    packets = (
        expand(trace, "up", 1.0, start_s, length_s, draw)
        if trace.measures("up")
        else expand(trace, "down", DOWNLINK_SHARE, start_s, length_s, draw)
    )
    ways = Ways(round_trip_s=ROUND_TRIPS_S.get(kind, OTHER_ROUND_TRIP_S))
    return Track(name=file.stem, kind=kind, packets=packets, ways=ways)


def _made(name: str, mbit: float, length_s: float, seed: int) -> Track:
    """A walk of the log-rate, with outages of half a second in the mean."""
    draw = _draw(name, seed)
    rates, octaves, is_out = [], 0.0, False
    for _ in range(round(length_s * 10) + 50):
        octaves = 0.98 * octaves + draw.normal(0, 0.3)
        is_out = draw.random() < (0.8 if is_out else 0.01)
        rates.append(0.0 if is_out else mbit * BYTES_PER_S_OF_MBIT * 2**octaves)
    return Track(name=name, kind="made", packets=packets_of(np.array(rates), draw), ways=Ways(round_trip_s=0.04))


def _draw(name: str, seed: int) -> np.random.Generator:
    return np.random.default_rng([zlib.crc32(name.encode()), seed])
