"""Claim `speculate`: drafting here and verifying there says what plain decoding says, and where it pays.

Three parts. Texts against plain decoding through a link that fails at random (`lossless`). The real client and server
behind the link emulator. And every way of saying a text in virtual time (`turns`), on the real pair's verdicts, under
two regimes of cost: the pair's CPU time as measured here, and a large target whose costs are stated. A way's row says
where it loses: a server that streams pays the round trip once, and one that speculates by itself is hard to beat.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.course import up_size
from splitrt.bench.crowd import alone_s_p95, capacity
from splitrt.bench.drafters import compare, told_by
from splitrt.bench.lossless import check
from splitrt.bench.profiles import PROFILES, Costs
from splitrt.bench.report import Asked, Claim
from splitrt.bench.spoken import BY_DRAFTER, SLOW, SLOW_WAYS, WAYS, spoken
from splitrt.bench.stories import Told, measured_costs, prompts, stories_bundle, tell
from splitrt.bench.ways import LENGTHS, simulate, two_in_flight_ratio
from splitrt.errors import ConfigError
from splitrt.language.bundle import LanguageBundle, find_language
from splitrt.language.context import Context
from splitrt.language.draft import ModelDrafter, chain
from splitrt.language.sampling import Sampling, log_softmax

LARGE = Costs(pass_s=0.030, node_s=0.0005, draft_s=0.010, server_draft_s=0.004)  # stated, not measured
QUALITY_TOKENS = 32


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench speculate needs lm_stories260k: give the data folder with --data or SPLITRT_DATA")
    import torch

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        bundle = stories_bundle(asked.data, Path(scratch))
        told = _texts(bundle, asked)
        pass_s, node_s, draft_s = measured_costs(bundle)
        regimes = {
            "stories": Costs(pass_s=pass_s, node_s=node_s, draft_s=draft_s, server_draft_s=draft_s),
            "large": LARGE,
        }
        rows = [row for name, costs in regimes.items() for row in simulate(name, costs, told)]
        crowds = {name: _crowd(costs, told) for name, costs in regimes.items()}
        wire = asyncio.run(_wire(bundle, told, asked))
        proof = check(bundle, told, 50 if asked.quick else 1_200, 32)
        quality = _quality(bundle, told[: 4 if asked.quick else 16])
    drafters, by_drafter = compare(asked.data, *((8, 32) if asked.quick else (128, 96)))
    mixed = find_language("shakespeare")
    mixed_told = told_by(mixed, asked.data, 2 if asked.quick else 12, 32)
    proof_moa = check(mixed, mixed_told, 8 if asked.quick else 200, 32, ("moa",))
    if not asked.quick:
        wire += asyncio.run(
            spoken(
                mixed, mixed_told, 32, profiles=("4G", "poor 4G", "4G, outages"), ways=BY_DRAFTER,
                regime="wire, shakespeare",
            )
        )  # fmt: skip
    own = {row["way"]: row for row in wire if row["profile"] == "4G"}
    summary = {
        **{
            key: proof[key] + proof_moa[key]
            for key in ("mismatches", "outage_mismatches", "generations", "outage_generations")
        },
        "generations_moa": proof_moa["generations"] + proof_moa["outage_generations"],
        "chaos": proof["chaos"],
        "calls_per_token": own["split"]["calls_per_token"],
        "calls_to_formula": max(row["calls_to_formula"] for row in rows if row["way"] == "split"),
        "regret_best_mode": max(row["regret"] for row in rows if row["way"] == "auto"),
        "regret_best_k": max(row["regret"] for row in rows if row["way"] == "split"),
        "draft_bytes_per_node": (up_size(32) - up_size(0)) / 32,
        "round_bytes": up_size(0),
        "capacity_gain": crowds["stories"]["gain"],
        "capacity_gain_large": crowds["large"]["gain"],
        "ratio_request_per_token_4g": own["split"]["token_ms"] / own["request per token"]["token_ms"],
        "ratio_auto_4g": own["auto"]["token_ms"] / own["request per token"]["token_ms"],
        **drafters,
        "acceptance_stories": _acceptance(told),
        "two_in_flight_ratio": two_in_flight_ratio(rows),
        "reach_by_depth": _reach(told),
        "costs_stories_ms": {"pass": 1e3 * pass_s, "node": 1e3 * node_s, "draft": 1e3 * draft_s},
        "capacity": crowds,
        **quality,
    }
    return Claim(summary=summary, rows=[*rows, *wire, *by_drafter], draw=lambda file: _draw(rows, file))


def _texts(bundle: LanguageBundle, asked: Asked) -> list[Told]:
    assert asked.data is not None
    count, tokens = (6, 48) if asked.quick else (32, 128)
    ways = [Sampling(), Sampling(temperature=1.0)]
    return [
        tell(bundle, prompt, replace(ways[number % 2], seed=number), tokens)
        for number, prompt in enumerate(prompts(asked.data, count))
    ]


async def _wire(bundle: LanguageBundle, told: Sequence[Told], asked: Asked) -> list[dict[str, Any]]:
    tokens, texts = (24, 2) if asked.quick else (64, 6)
    rows = await spoken(bundle, told[:texts], tokens, profiles=("LAN", "Wi-Fi", "5G", "4G"), ways=WAYS)
    names = ("split", "stream") if asked.quick else SLOW_WAYS
    slow = {name: WAYS[name] for name in names}
    return rows + await spoken(bundle, told[: texts // 2], tokens // 2, profiles=SLOW, ways=slow)


def _reach(told: Sequence[Told]) -> list[float]:
    """The chance by depth that a chain is accepted so far, over all places of all texts."""
    runs = [text.accepted(place, 16) for text in told for place in range(len(text.met) - 16)]
    return [float(np.mean([run > depth for run in runs])) for depth in range(16)]


def _acceptance(told: Sequence[Told]) -> float:
    """Tokens a round with drafts of four."""
    return 1 + sum(_reach(told)[:4])


def _crowd(costs: Costs, told: Sequence[Told]) -> dict[str, float]:
    """Clients that one server carries on 4G, at 1.5 times the p95 of one that drafts itself; lengths best for each."""
    profile = next(one for one in PROFILES if one.name == "4G")
    reach = _reach(told)

    def cheapest(draft_s: float) -> int:
        return min(LENGTHS, key=lambda k: (costs.verify_s(k) + k * draft_s) / (1 + sum(reach[:k])))

    alone, here = cheapest(costs.server_draft_s), cheapest(0.0)
    bound_s = 1.5 * alone_s_p95(told, profile, costs, here, split=True)
    ours = capacity(bound_s, told, profile, costs, here, split=True)
    theirs = capacity(bound_s, told, profile, costs, alone, split=False)
    plain = capacity(bound_s, told, profile, costs, 0, split=False)
    return {
        "bound_ms": 1e3 * bound_s,
        "split": ours,
        "split_length": here,
        "colocated": theirs,
        "colocated_length": alone,
        "streaming": plain,
        "gain": ours / theirs if theirs else float("inf"),
    }


def _quality(bundle: LanguageBundle, told: Sequence[Told]) -> dict[str, float]:
    """Nats a token under the target, of what the drafter says alone from the middle of a text, and of the target's."""
    target, draft = bundle.model("target"), bundle.model("draft")
    alone, own = [], []
    for text in told:
        half = len(text.tokens) // 2
        prefix = [*text.prompt, *text.tokens[:half]]
        free = Sampling(temperature=1.0, seed=text.sampling.seed + 1_000)
        said = chain(ModelDrafter(draft), prefix, free, QUALITY_TOKENS).ids
        alone.append(_nats(Context(target), prefix, said))
        own.append(_nats(Context(target), prefix, text.tokens[half : half + QUALITY_TOKENS]))
    return {"nats_alone": float(np.mean(alone)), "nats_target": float(np.mean(own))}


def _nats(context: Context, prefix: list[int], said: Sequence[int]) -> float:
    logits_TV = context.look(prefix, said, range(-1, len(said) - 1)).numpy().astype(np.float64)
    return -float(np.mean([log_softmax(logits_TV[place])[token] for place, token in enumerate(said)]))


def _draw(rows: list[dict[str, Any]], file: Path) -> None:
    from splitrt.bench.plots import figure, save

    names = ("request per token", "stream", "server 4", "fixed 4", "transformers' default", "split", "auto", "local")
    regimes = ("stories", "large")
    drawing, axes = figure(len(regimes), 3.2)
    places = np.arange(len(PROFILES))
    for axis, regime in zip(axes[:, 0], regimes, strict=True):
        for number, name in enumerate(names):
            values = [
                row["token_ms"]
                for profile in PROFILES
                for row in rows
                if (row["regime"], row["profile"], row["way"]) == (regime, profile.name, name)
            ]
            axis.bar(places + 0.1 * (number - 3.5), values, 0.1, label=name)
        axis.set_yscale("log")
        axis.set_ylabel(f"{regime}: ms a token")
    axes[0, 0].legend(ncols=4, fontsize=8)
    axes[-1, 0].set_xticks(places, [profile.name for profile in PROFILES])
    save(drawing, file)
