"""The built-in bundle's drafter that sees the target's states against independent ones, at equal cost to the device.

Texts of the target's behind beginnings out of the last twentieth of the text, which neither training nor card has read.
`draft`, what the bundle drafts with by default, is as large as the drafter without what reads states, began at the same
weights and was trained on the same windows for as many steps. All say the same texts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.stories import Told, tell
from splitrt.errors import ConfigError
from splitrt.language.acceptance import Played, play
from splitrt.language.bundle import LanguageBundle, find_language
from splitrt.language.decoder import Decoder
from splitrt.language.draft import Drafter, ModelDrafter
from splitrt.language.moa import MoaDrafter
from splitrt.language.sampling import Sampling

TEXT = "text/tinyshakespeare.txt"
UNREAD = 0.95  # of the text: from here on nothing was read
PROMPT_CHARS = 80
DRAFTED = 4
RESAMPLED = 2_000


@dataclass(frozen=True, slots=True)
class Beginning:
    prompt: tuple[int, ...]
    sampling: Sampling


def beginnings(data: Path, bundle: LanguageBundle, count: int) -> list[Beginning]:
    """Half greedy, half at temperature 1. Raises ConfigError where the text is not in the data folder."""
    try:
        text = (data / TEXT).read_text()
    except OSError as error:
        raise ConfigError(f"bench speculate needs {TEXT} in the data folder: {error}") from error
    text, tokenizer = text[int(UNREAD * len(text)) :], bundle.tokenizer()
    starts = [number * (len(text) - PROMPT_CHARS) // count for number in range(count)]
    return [
        Beginning(
            tuple(tokenizer.encode(text[start : start + PROMPT_CHARS])),
            Sampling(temperature=float(number % 2), seed=number),
        )
        for number, start in enumerate(starts)
    ]


def told_by(bundle: LanguageBundle, data: Path, count: int, tokens: int) -> list[Told]:
    return [tell(bundle, one.prompt, one.sampling, tokens) for one in beginnings(data, bundle, count)]


def compare(data: Path, count: int, tokens: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Summary and a row a drafter."""
    bundle = find_language("shakespeare")
    target, (config, weights) = bundle.model("target"), bundle.moa()
    maker = bundle.state_maker(target)
    independent = bundle.model("draft")
    assert isinstance(independent, Decoder)
    makers: dict[str, Callable[[], Drafter]] = {
        "moa": partial(MoaDrafter, config, weights),
        "moa without states": partial(MoaDrafter, config, weights),
        "draft": partial(ModelDrafter, independent),
    }
    played: dict[str, list[Played]] = {name: [] for name in makers}
    for one in beginnings(data, bundle, count):
        for name, make in makers.items():
            with_states = maker if name == "moa" else None
            played[name].append(play(target, make(), one.prompt, one.sampling, tokens, DRAFTED, with_states))
    touched = {name: config.touched for name in ("moa", "moa without states")}
    touched["draft"] = sum(weight.numel() for weight in independent.named().values())
    state_ms, rows = _state_ms(bundle), []
    for name, texts in played.items():
        rows.append(
            {
                "regime": "acceptance", "way": name, "tokens_per_round": _rate(texts), "texts": count,
                "parameters_touched": touched[name],
                "cpu_ms_per_drafted_token": _drafted_ms(makers[name], is_told=name == "moa"),
                "state_bytes_per_token": config.state_bytes if name == "moa" else 0,
            }
        )  # fmt: skip
    low, high = _interval(played["moa"], played["draft"])
    cost = {row["way"]: row["cpu_ms_per_drafted_token"] for row in rows}
    return {
        "acceptance_moa": _rate(played["moa"]),
        "acceptance_independent": _rate(played["draft"]),
        "acceptance_moa_without_states": _rate(played["moa without states"]),
        "acceptance_difference_95": [low, high],
        "state_bytes_per_token": config.state_bytes,
        "state_ms_per_token": state_ms,
        "parameters_touched": touched,
        "cpu_ms_per_drafted_token": cost,
    }, rows


def _rate(texts: list[Played]) -> float:
    return sum(text.tokens for text in texts) / sum(text.rounds for text in texts)


def _interval(ours: list[Played], theirs: list[Played]) -> tuple[float, float]:
    """95 % of the difference in tokens a round, texts drawn again with replacement."""
    draw = np.random.default_rng(0)
    differences = []
    for _ in range(RESAMPLED):
        chosen = draw.integers(0, len(ours), len(ours))
        differences.append(_rate([ours[one] for one in chosen]) - _rate([theirs[one] for one in chosen]))
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def _drafted_ms(make: Callable[[], Drafter], *, is_told: bool) -> float:
    """CPU of this machine a token, behind a hundred of them, noise and law included. Median."""
    drafter, tokens, sampling = make(), [1, *[300 + place for place in range(100)]], Sampling(temperature=1.0)
    if is_told and isinstance(drafter, MoaDrafter):
        drafter.hear(100, bytes(drafter.config.window * drafter.config.state_bytes))
    drafter.step(tokens, sampling)
    times = []
    for place in range(60):
        started_at = time.thread_time()
        drafter.step([*tokens, *[7] * (place + 1)], sampling)
        times.append(time.thread_time() - started_at)
    return 1e3 * float(np.median(times))


def _state_ms(bundle: LanguageBundle) -> float:
    """The server's CPU a state, made three at a time, as after a round."""
    target = bundle.model("target")
    maker, cache = bundle.state_maker(target), target.cache()
    assert maker is not None
    target.read([300 + place for place in range(64)], cache)
    times = []
    for start in range(60):
        started_at = time.thread_time()
        maker.make(cache, start, start + 3)
        times.append(time.thread_time() - started_at)
    return 1e3 * float(np.median(times)) / 3
