"""Claim `serve`: what a server does under load, and what a Ray cluster adds to it and costs.

Both engines run in processes of their own beside each other, and are measured by turns; so are the peers, FastAPI and
LitServe, with the same tail, bytes, deadline and loads. Every tail has one thread. All of it shares the machine with
the generator: ratios mean something here, frames a second do not.
"""

from __future__ import annotations

import asyncio
import tempfile
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.idle import added_rounds, idle_rounds
from splitrt.bench.kills import kill_drill
from splitrt.bench.load import Ask, End
from splitrt.bench.loads import DEADLINE_S, capacity, goodputs, grid, kept_at_most_load
from splitrt.bench.made import make_several
from splitrt.bench.peers import peer_process
from splitrt.bench.post import Poster
from splitrt.bench.process import Started, started
from splitrt.bench.report import Asked, Claim
from splitrt.bench.scaling import gain, rates, scale_up
from splitrt.bench.serveplot import draw
from splitrt.bench.stream import Payload
from splitrt.bundle import load_bundle
from splitrt.errors import RemoteFailure

WIDE = {"widths": (8, 120), "width": 0.5, "resolution": 128, "decoder_hidden": 16}  # 30 KB a frame, a tail of little
HEAVY = {"widths": (4, 8), "width": 4.5, "resolution": 160, "decoder_hidden": 256}  # the tail is what takes time
SMALL_MAP = {"widths": (4, 8), "width": 4.0, "resolution": 96, "decoder_hidden": 16}  # eager torch gains by batches
REPLICA_CPUS = 0.5
BATCH_MS = 500.0  # as long as 16 frames take here, and longer
RAY_START_S = 120.0
ENGINES = ("embedded", "ray")


@dataclass(frozen=True, slots=True)
class Scale:
    rounds: int
    idle: int
    clients: tuple[int, ...]
    shares: tuple[float, ...]
    cell_s: float
    gain_rounds: int
    kills: int
    is_whole: bool  # with batches, a second cluster, scaling and the peers


FULL = Scale(40, 1_000, (1, 4, 16, 64), (0.5, 0.8, 1.0, 1.5, 3.0), 2.0, 6, 20, True)
QUICK = Scale(8, 250, (16,), (0.8, 1.5, 3.0), 1.0, 1, 1, False)


def measure(asked: Asked) -> Claim:
    scale = QUICK if asked.quick else FULL
    with tempfile.TemporaryDirectory(prefix="splitrt-") as scratch:
        folder = Path(scratch)
        sizes = {"wide": WIDE, "heavy": HEAVY} | ({"batched": SMALL_MAP} if scale.is_whole else {})
        bundles = make_several(folder, sizes)
        summary, rows = asyncio.run(_Run(folder, bundles, scale, asked.litserve_python).run())
    loads = [row for row in rows if row["kind"] == "load"]
    return Claim(summary=summary, rows=rows, draw=lambda file: draw(loads, file))


class _Run:
    """One run: what was measured so far."""

    def __init__(self, folder: Path, bundles: dict[str, Path], scale: Scale, litserve_python: Path | None) -> None:
        self._folder, self._bundles, self._scale, self._litserve_python = folder, bundles, scale, litserve_python
        self._payloads = {name: Payload.of(load_bundle(place)) for name, place in bundles.items()}
        self._summary: dict[str, Any] = {}
        self._rows: list[dict[str, Any]] = []
        self._capacity_fps = 0.0

    async def run(self) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        async with AsyncExitStack() as stack:
            alive = 1 if self._scale.is_whole else 2
            embedded, ray = await asyncio.gather(
                stack.enter_async_context(self._server(("wide", "heavy"))),
                stack.enter_async_context(self._ray(("wide", "heavy"), "--replicas", str(alive))),
            )
            await self._streams(embedded, ray)
            await self._loads(embedded, ray)
            if self._scale.is_whole:
                await self._replicas(embedded, ray)
            else:
                await self._kills(ray, 2, self._scale.kills)
        if self._scale.is_whole:
            await self._batches()
            await self._scaling()
        else:
            self._summary |= dict.fromkeys(("batch_gain", "two_replica_gain", "scale_up_s"))  # not with --quick
        return self._summary, self._rows

    def _server(self, names: tuple[str, ...], *options: str, **settings: Any) -> Any:
        lines = "".join(f"{key} = {value!r}\n" for key, value in settings.items())
        file = self._folder / f"{'-'.join(f'{key}_{value}' for key, value in settings.items()) or 'plain'}.toml"
        file.write_text(f"[server]\n{lines}")
        return started(
            [str(self._bundles[name]) for name in names], "--config", str(file), *options, start_s=RAY_START_S
        )

    def _ray(self, names: tuple[str, ...], *options: str) -> Any:
        return self._server(names, "--engine", "ray", *options, replica_cpus=REPLICA_CPUS)

    async def _streams(self, embedded: Started, ray: Started) -> None:
        """One stream: what the cluster adds, what idle streams add."""
        rows = await added_rounds(embedded, ray, self._payloads["wide"], self._scale.rounds)
        self._add("added", rows)
        added_ms = [row["added_ms"] for row in rows]
        self._summary |= {
            "ray_added_ms_p50": float(np.median(added_ms)),
            "ray_added_ms_quartiles": [float(np.percentile(added_ms, share)) for share in (25, 75)],
            "ray_ms_p50": float(np.median([row["ray_ms"] for row in rows])),
            "payload_bytes": len(self._payloads["wide"].data),
        }
        idle = await idle_rounds(ray, self._payloads["wide"], self._scale.idle, 3)
        self._add("idle", [{"added_ms": one} for one in idle.pop("idle_added_ms_all")])
        self._summary |= idle

    async def _loads(self, embedded: Started, ray: Started) -> None:
        payload, scale = self._payloads["heavy"], self._scale
        self._capacity_fps = await capacity(embedded.address, payload, 2 * scale.cell_s)
        async with AsyncExitStack() as stack:
            peers = await self._peers(stack) if scale.is_whole else {}
            rows = await grid(
                {"embedded": embedded.address, "ray": ray.address},
                peers,
                payload,
                self._capacity_fps,
                clients=scale.clients,
                shares=scale.shares,
                seconds=scale.cell_s,
            )
        ours = [row for row in rows if row["server"] in ENGINES]
        by_server = {name: goodputs(rows, name) for name in (*ENGINES, *peers)}
        kept = {name: kept_at_most_load(by_share) for name, by_share in by_server.items()}
        best = {name: max(by_share.values()) for name, by_share in by_server.items()}
        worst_ms = [row["refusal_ms_p99"] for row in ours if row["refusal_ms_p99"] is not None]
        refusals_ms = {name: _refusals_ms(rows, name) for name in ENGINES}
        self._add("load", [{key: value for key, value in row.items() if key != "refusals_ms"} for row in rows])
        self._summary |= {
            "goodput_at_300": min(kept[name] for name in ENGINES),
            # Of all an engine's refusals at all loads, the worse engine; the worst load's own is beside it.
            "refusal_ms_p99": max((float(np.percentile(one, 99)) for one in refusals_ms.values() if one), default=None),
            "refusal_ms_p50": max((float(np.median(one)) for one in refusals_ms.values() if one), default=None),
            "refusal_ms_p99_worst_load": max(worst_ms, default=None),
            "refused_without_time": sum(row["refused_without_time"] for row in ours),
            "capacity_fps": self._capacity_fps,
            "goodput_kept": kept,
            "goodput_best_fps": best,
            "goodput_at_most_load_fps": {name: by_share[max(by_share)] for name, by_share in by_server.items()},
            "goodput_winner": max(best, key=lambda name: by_server[name][max(by_server[name])]),
            "litserve": "measured" if "litserve" in peers else "left out: --litserve-python was not given",
        }

    async def _peers(self, stack: AsyncExitStack) -> dict[str, Ask]:
        words = (str(self._bundles["heavy"]), f"{DEADLINE_S * 1e3:g}")
        ports = {"fastapi": await stack.enter_async_context(peer_process("http", *words))}
        if self._litserve_python is not None:
            python = str(self._litserve_python)
            litserve = peer_process(*words, module="splitrt.bench.litserving", python=python)
            ports["litserve"] = await stack.enter_async_context(litserve)
        asks: dict[str, Ask] = {}
        for name, port in ports.items():
            poster = Poster(port, self._payloads["heavy"], is_json=name == "litserve")
            stack.push_async_callback(poster.close)
            await _answers(name, poster)
            asks[name] = poster.ask
        return asks

    async def _replicas(self, embedded: Started, ray: Started) -> None:
        """A second replica, and a second server without a cluster: what the machine has to give."""
        payload, scale = self._payloads["heavy"], self._scale
        async with self._server(("heavy",)) as other, self._ray(("heavy",), "--replicas", "2") as ray_2:
            ways = [[ray.address], [ray_2.address], [embedded.address], [embedded.address, other.address]]
            rounds = await rates(ways, payload, scale.gain_rounds, scale.cell_s)
            names = ("ray_1_fps", "ray_2_fps", "process_1_fps", "process_2_fps")
            self._add("replicas", [dict(zip(names, row, strict=True)) for row in rounds])
            two, ceiling = gain(rounds, 1, 0), gain(rounds, 3, 2)
            self._summary |= {
                "two_replica_gain": two["gain"],
                "two_replica_gain_quartiles": two["quartiles"],
                "two_process_gain": ceiling["gain"],  # the most that this machine allows
                "two_process_gain_quartiles": ceiling["quartiles"],
            }
            await self._kills(ray_2, 2, scale.kills)
        drill = await kill_drill(ray, payload, self._capacity_fps / 2, 1, 1)
        self._add("kills", [drill])
        self._summary |= {f"one_replica_{key}": drill[key] for key in ("recovery_s", "lost", "duplicated")}

    async def _kills(self, ray: Started, alive: int, kills: int) -> None:
        drill = await kill_drill(ray, self._payloads["heavy"], self._capacity_fps / 2, kills, alive)
        self._add("kills", [drill])
        self._summary |= {
            "kills": kills,
            "lost_on_kill": drill["lost"],
            "duplicated_on_kill": drill["duplicated"],
            "failed_on_kill": drill[End.FAILED.value],
            "recovery_s": drill["recovery_s"],
            "recovery_s_p50": drill["recovery_s_p50"],
            "replica_back_s_p50": drill["replica_back_s_p50"],
        }

    async def _batches(self) -> None:
        async with AsyncExitStack() as stack:
            servers = await asyncio.gather(
                *(
                    stack.enter_async_context(
                        self._server(("batched",), "--runner", "torch", max_batch=most, max_batch_ms=BATCH_MS)
                    )
                    for most in (16, 1)
                )
            )
            ways = [[server.address] for server in servers]
            rounds = await rates(ways, self._payloads["batched"], self._scale.gain_rounds, self._scale.cell_s)
        self._add("batches", [{"batch_16_fps": many, "batch_1_fps": one} for many, one in rounds])
        found = gain(rounds, 0, 1)
        self._summary |= {"batch_gain": found["gain"], "batch_gain_quartiles": found["quartiles"]}

    async def _scaling(self) -> None:
        async with self._ray(("heavy",), "--replicas", "1", "--max-replicas", "2") as server:
            figures = await scale_up(server, self._payloads["heavy"], 1.5 * self._capacity_fps)
        self._summary |= figures

    def _add(self, kind: str, rows: list[dict[str, Any]]) -> None:
        self._rows += [{"kind": kind, **row} for row in rows]


def _refusals_ms(rows: list[dict[str, Any]], server: str) -> list[float]:
    return [one for row in rows if row["server"] == server for one in row["refusals_ms"]]


async def _answers(name: str, poster: Poster) -> None:
    """Wait until a peer has loaded its tail."""
    try:
        async with asyncio.timeout(RAY_START_S):
            while (await poster.ask(0, 5.0)).end is not End.OUTPUTS:
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise RemoteFailure(f"{name} must answer within {RAY_START_S:g} s") from None
