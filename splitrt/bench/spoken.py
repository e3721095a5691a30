"""Texts by the real client and server, through the link emulator; each is held to plain decoding as it is spoken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from splitrt.bench.profiles import PROFILES, Profile
from splitrt.bench.stories import Told
from splitrt.config import ClientConfig, ServerConfig
from splitrt.device.events import Done
from splitrt.device.language import LanguageClient
from splitrt.language.bundle import LanguageBundle
from splitrt.netem import Netem
from splitrt.netem.shape import Shape
from splitrt.server.serve import serve

SLOW = ("poor 4G", "satellite", "4G, outages")
OUTAGE_AT_S = 0.5  # after a text begins: every text of that profile meets one
WAYS: dict[str, dict[str, Any]] = {
    "split": {"mode": "split"},
    "request per token": {"mode": "split", "draft_tokens": 0},
    "stream": {"mode": "stream"},
    "server": {"mode": "server"},
    "auto": {"mode": "auto"},
    "split, trees": {"mode": "split", "draft_tokens": 5, "branches": 4},
}
SLOW_WAYS = ("split", "request per token", "stream", "auto")
BY_DRAFTER: dict[str, dict[str, Any]] = {
    f"split, {drafter}": {"mode": "split", "draft_tokens": 4, "drafter": drafter} for drafter in ("model", "moa")
}


async def spoken(
    bundle: LanguageBundle,
    told: Sequence[Told],
    tokens: int,
    *,
    profiles: Sequence[str],
    ways: dict[str, dict[str, Any]],
    regime: str = "wire",
) -> list[dict[str, Any]]:
    """A row a link and way, in real time: marked `real`."""
    rows = []
    config = ServerConfig(listen="127.0.0.1:0", bundles=(str(bundle.folder),), drain_grace_s=0.1)
    async with serve(config) as server:
        for profile in (one for one in PROFILES if one.name in profiles):
            outages = ((OUTAGE_AT_S, profile.outage_s),) if profile.outage_s else ()
            shape = Shape(rtt_ms=profile.rtt_ms, up_mbit=profile.up_mbit, down_mbit=profile.down_mbit, outages=outages)
            async with Netem(to=server.address, shape=shape) as link:
                for name, settings in ways.items():
                    row = await _talk(bundle, link, name, settings, profile, told, tokens)
                    rows.append({"regime": regime, "real": True, **row})
    return rows


async def _talk(
    bundle: LanguageBundle,
    link: Netem,
    name: str,
    settings: dict[str, Any],
    profile: Profile,
    told: Sequence[Told],
    tokens: int,
) -> dict[str, Any]:
    settings = dict(settings)
    client = LanguageClient(bundle, ClientConfig(servers=(link.address,)), settings.pop("drafter", "model"))
    done: list[Done] = []
    for text in told:
        link.restart_trace()
        async for event in client.generate(
            text.prompt,
            max_tokens=tokens,
            temperature=text.sampling.temperature,
            seed=text.sampling.seed,
            **settings,
        ):
            if isinstance(event, Done):
                done.append(event)
                ends = [place for place, token in enumerate(text.tokens) if token in client.bundle.manifest.ends]
                wanted = text.tokens[: min([tokens, *(place + 1 for place in ends)])]
                assert event.tokens == wanted, f"{name} on {profile.name} must say what plain decoding says"
    statistics = [one.statistics for one in done]
    said = sum(one.tokens for one in statistics)
    spoken_s = [one.seconds - (one.first_token_s or 0.0) for one in statistics]
    each_ms = [1e3 * seconds / max(1, one.tokens - 1) for seconds, one in zip(spoken_s, statistics, strict=True)]
    return {
        "profile": profile.name,
        "way": name,
        "token_ms": float(np.mean(each_ms)),
        "token_ms_p50": float(np.median(each_ms)),
        "token_ms_p95": float(np.percentile(each_ms, 95)),
        "first_ms": float(np.median([1e3 * (one.first_token_s or 0.0) for one in statistics])),
        "calls_per_token": sum(one.rounds for one in statistics) / said,
        "hopes_per_token": sum(one.hopes for one in statistics) / said,  # rounds sent ahead, met or not
        "up_bytes_per_token": sum(one.up_bytes for one in statistics) / said,
        "down_bytes_per_token": sum(one.down_bytes for one in statistics) / said,
        "state_bytes_per_token": sum(one.state_bytes for one in statistics) / said,
        "connections": sum(one.connections for one in statistics),
        "server_ms_per_token": 1e3 * sum(one.server_s for one in statistics) / said,
        "provisional": sum(one.provisional for one in statistics),
        "retracted": sum(one.retracted for one in statistics),
        "accepted": sum(one.accepted for one in statistics),
        "drafted": sum(one.drafted for one in statistics),
    }
