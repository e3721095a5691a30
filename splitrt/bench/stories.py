"""The real pair that benchmarks of language models run on, out of the data folder, and what its drafter gets right.

For the coupled rule and for greedy decoding, a chain's verdict at any place of a text follows from one bit a token:
whether the drafter, behind the true prefix, says what the target says. One pass over a text gives the outcome of every
draft length and every policy.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from splitrt.errors import ConfigError
from splitrt.language.bundle import LanguageBundle, load_language, make_language
from splitrt.language.context import Context
from splitrt.language.draft import ModelDrafter
from splitrt.language.plain import plain_tokens
from splitrt.language.sampling import Sampling

PARTS = (("target", "stories260k"), ("draft", "draft40k"))
PROMPT_TOKENS = 8


@dataclass(frozen=True, slots=True)
class Told:
    """A text of the target's, and the drafter against it token by token."""

    prompt: tuple[int, ...]
    tokens: tuple[int, ...]
    sampling: Sampling
    met: tuple[bool, ...]
    confidences: tuple[float, ...]

    def accepted(self, place: int, length: int) -> int:
        """Of a chain of this length drafted behind `place` tokens."""
        run = 0
        while run < length and place + run < len(self.met) and self.met[place + run]:
            run += 1
        return run


def stories_bundle(data: Path | None, folder: Path) -> LanguageBundle:
    """Made in `folder`. Raises ConfigError where there is no data."""
    source = data / "lm_stories260k" if data is not None else None
    if source is None or not source.is_dir():
        raise ConfigError("bench speculate needs lm_stories260k: give the data folder with --data or SPLITRT_DATA")
    for half, name in PARTS:
        (folder / half).mkdir(parents=True)
        shutil.copyfile(source / f"{name}.config.json", folder / half / "config.json")
        shutil.copyfile(source / f"{name}.safetensors", folder / half / "model.safetensors")
    tokenizer = source / "tokenizer.json"
    parts = {half: folder / half for half, _ in PARTS}
    return load_language(
        make_language(
            folder, name="stories", version="1", tokenizer=tokenizer, ends=(1, 2), target=parts["target"],
            draft=parts["draft"],
        )
    )  # fmt: skip


def prompts(data: Path, count: int) -> list[tuple[int, ...]]:
    """Beginnings of texts that the target itself once said."""
    import numpy as np

    ids = np.load(data / "lm_stories260k" / "samples_ids.npz", allow_pickle=False)["ids"]
    return [tuple(int(one) for one in row[:PROMPT_TOKENS]) for row in ids[:count]]


def tell(bundle: LanguageBundle, prompt: tuple[int, ...], sampling: Sampling, tokens: int) -> Told:
    target, drafter = bundle.model("target"), ModelDrafter(bundle.model("draft"))
    said = [*islice(plain_tokens(target, prompt, sampling), tokens)]
    met: list[bool] = []
    confidences: list[float] = []
    for place, token in enumerate(said):
        step = drafter.step([*prompt, *said[:place]], sampling)
        met.append(step is not None and step[0] == token)
        confidences.append(step[1] if step is not None else 0.0)
    return Told(prompt, tuple(said), sampling, tuple(met), tuple(confidences))


def measured_costs(bundle: LanguageBundle) -> tuple[float, float, float]:
    """Seconds of this machine's CPU, which other work does not stretch: a pass of the target with no draft, a further
    node, a token of the drafter. Medians.
    """
    context, drafter = Context(bundle.model("target")), ModelDrafter(bundle.model("draft"))
    tokens = [1, *[300 + place for place in range(100)]]
    for _ in range(20):
        context.look(tokens)
        drafter.step(tokens, Sampling())

    def timed(nodes: int) -> float:
        times = []
        for _ in range(25):
            started_at = time.thread_time()
            context.look(tokens, [5] * nodes, range(-1, nodes - 1))
            times.append(time.thread_time() - started_at)
        return sorted(times)[12]

    drafts = []
    for place in range(25):
        started_at = time.thread_time()
        drafter.step([*tokens, *[7] * (place + 1)], Sampling(temperature=1))
        drafts.append(time.thread_time() - started_at)
    alone, long = timed(0), timed(8)
    return alone, max(0.0, (long - alone) / 8), sorted(drafts)[12]
