"""The card of a bundle that was given a Mixture of Attentions drafter, and what rounds say with it and without.

Rounds of four on what the target says behind beginnings out of the part of the text that nothing was trained on and
benchmarks do not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from splitrt.language.acceptance import Played, play
from splitrt.language.bundle import LanguageBundle, load_language
from splitrt.language.draft import Drafter, ModelDrafter
from splitrt.language.moa import MoaDrafter
from splitrt.language.sampling import Sampling
from splitrt.language.tokens import STORIES_BOS
from splitrt.train.language_card import imitation_lines, parameters
from splitrt.train.reader import reader_of

if TYPE_CHECKING:
    from splitrt.train.moa import MoaRecipe

TEXTS, PROMPT_TOKENS, TOKENS, DRAFTED = 24, 24, 96, 4


def write_moa_card(folder: Path, before: LanguageBundle, recipe: MoaRecipe, held: Sequence[int], tokens: int) -> None:
    """held: the tokens of that part; tokens: how many were trained on."""
    made = load_language(folder)
    target, (config, weights) = made.model("target"), made.moa()
    maker = made.state_maker(target)
    sums: dict[str, Played] = {}
    texts = min(TEXTS, max(1, len(held) // PROMPT_TOKENS))
    room = target.config.context - PROMPT_TOKENS - 2
    for number in range(texts):
        start = number * (len(held) // texts)
        prompt = [STORIES_BOS, *held[start : start + PROMPT_TOKENS]]
        sampling = Sampling(temperature=float(number % 2), seed=number)
        drafters: dict[str, Drafter] = {
            "draft": ModelDrafter(made.model("draft")),
            "moa": MoaDrafter(config, weights),
        }
        for name, drafter in drafters.items():
            played = play(target, drafter, prompt, sampling, min(TOKENS, room), DRAFTED, maker)
            sums[name] = sums.get(name, Played(0, 0)) + played
        alone = play(target, MoaDrafter(config, weights), prompt, sampling, min(TOKENS, room), DRAFTED)
        sums["without"] = sums.get("without", Played(0, 0)) + alone
    rate = {name: f"{played.tokens_per_round:.2f}" for name, played in sums.items()}
    gain = sums["moa"].tokens_per_round - sums["draft"].tokens_per_round
    reader, draft = reader_of(made, "target"), reader_of(made, "draft")
    lines = [
        f"# {recipe.name} {recipe.version}",
        "",
        f"A target of {parameters(reader):,} parameters and a drafter of {parameters(draft):,}, made by `splitrt "
        f"train` on `{recipe.text}` ({tokens:,} tokens of a vocabulary of {target.config.vocabulary}). The target is "
        f"that of {before.name}, byte for byte; the drafter is that of {before.name}, distilled from the target for "
        f"{recipe.steps} steps more, seed {recipe.seed}. It shows how drafting works, and writes no sense.",
        "",
        *imitation_lines(reader, draft, torch.tensor(held), recipe.batch, recipe.seed),
        "## A drafter that sees the target's states",
        "",
        f"Mixture of Attentions (arXiv:2410.03804), {recipe.steps} steps by `splitrt train`, on the same text and no "
        "other. "
        f"{config.touched:,} parameters are touched a drafted token, as of an independent drafter of its width; "
        f"{config.state_bytes} bytes of state a verified token, at most the last {config.window} at once. Not as in "
        "the paper: the second block attends to states and to its own tokens together, and embedding and head are the "
        "drafter's own.",
        "",
        f"Tokens a round with drafts of {DRAFTED}, on {texts} texts of the target's behind beginnings out of the same "
        "twentieth, half greedy and half at temperature 1:",
        "",
        "| drafter | tokens a round |",
        "|---|---|",
        f"| Mixture of Attentions | {rate['moa']} |",
        f"| independent, as dear, trained alike (`draft`) | {rate['draft']} |",
        f"| Mixture of Attentions without states, as in an outage | {rate['without']} |",
        "",
        f"So states are worth {gain:+.2f} tokens a round here. `splitrt bench speculate` says on text "
        "that this card does not read whether that is more than chance.",
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
