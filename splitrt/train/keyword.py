"""From a recipe of spoken words to a bundle: train, certify on voices that were left out, cut, put the gates before it.

Shape letters: N clips or words, B bands, T time.
One network is trained on all of the recipe's speakers. Its threshold comes from as many others, each of which was
trained without one speaker and scores that one: so every score is of a voice its network never met. Those networks met
one voice fewer than the one that is served, so it is taken to be no worse; that, and that a new speaker is like these,
is what the certificate rests on.
"""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError

from splitrt.bundle import new_folder
from splitrt.errors import ConfigError
from splitrt.manifest import Audio, Gate
from splitrt.nn.gate import class_set
from splitrt.nn.spoken import Deployed, GateGraph, Spoken
from splitrt.partition.bundle import Order, split_captured
from splitrt.partition.capture import capture
from splitrt.partition.cuts import cuts, find_cut
from splitrt.train.gate import attach, certified, check_apart, split_digest
from splitrt.train.sounds import Clips, Float32, heard, read_clips, spectrograms, statistics
from splitrt.train.spoken import Sound, SpokenRecipe, train_spoken
from splitrt.watch import Watch

BITS = (4, 8)
SAMPLES = 64  # sounds that ranges come from


def read_spoken_recipe(path: Path) -> SpokenRecipe:
    """Raises ConfigError with the file, the key, what was given and wanted."""
    try:
        return SpokenRecipe.model_validate(tomllib.loads(path.read_text()))
    except (tomllib.TOMLDecodeError, OSError) as error:
        raise ConfigError(f"recipe must be a readable TOML file, got {path}: {error}") from error
    except ValidationError as error:
        problem = error.errors()[0]
        raise ConfigError(f"{path}: {'.'.join(map(str, problem['loc']))}: {problem['msg']}") from error


def make_keyword(recipe: SpokenRecipe, data: Path, out: Path, watch: Watch) -> Path:
    """The bundle's folder under `out`. Raises ConfigError, CalibrationRefused, TrainingFailed."""
    folder = new_folder(out, recipe.name, recipe.version)
    clips = read_clips(data).of(recipe.speakers)
    if clips.labels_N.max() >= len(recipe.words):
        raise ConfigError(f"words must name {clips.labels_N.max() + 1} labels, got {len(recipe.words)}")
    is_in_N = class_set(recipe.keywords, recipe.words)
    is_positive_N = is_in_N.numpy()[clips.labels_N]
    model = trained(recipe, clips, recipe.speakers, watch)
    threshold, record = certified(
        left_out_odds(recipe, clips, is_in_N, watch),
        is_positive_N,
        recipe.gate.recall,
        recipe.gate.delta,
        split_digest(clips.sounds),
        recipe.gate.stops,
    )
    watch.line(f"gate: {record.lost} of {record.positives} positives and {record.stopped} of {record.negatives} others "
               f"stopped at P(nothing) {threshold:.4f}")  # fmt: skip
    audio = measured(recipe.sound, clips)
    x_N1BT = heard(clips, audio, recipe.seed)
    plain = split_off(recipe, model, audio, x_N1BT, out, watch)
    rule = Gate(reads=("frame", "carried"), threshold=threshold, positives=recipe.keywords)
    graphs = [GateGraph(model, k, is_in_N, recipe.gate.handicaps[k]) for k in range(2)]
    x_11BT = torch.from_numpy(x_N1BT[:1])
    made = attach(plain, folder, rule, record, graphs, [x_11BT, graphs[0](x_11BT)[1].detach()])
    for path in sorted(plain.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    plain.rmdir()
    watch.line(f"written: {made}")
    return made


def trained(recipe: SpokenRecipe, clips: Clips, speakers: tuple[str, ...], watch: Watch) -> Spoken:
    """On some of the speakers."""
    mine = clips.of(speakers)
    watch.line(f"gate: training on {', '.join(speakers)} ({len(mine)} clips)")
    return train_spoken(mine, measured(recipe.sound, mine), len(recipe.words), recipe.gate, recipe.seed, watch)


def left_out_odds(recipe: SpokenRecipe, clips: Clips, is_in_N: torch.Tensor, watch: Watch) -> Float32:
    """(N,): the row's odds of every clip, by a network that never met its speaker."""
    found = np.empty(len(clips), np.float32)
    for name in recipe.speakers:
        others = tuple(one for one in recipe.speakers if one != name)
        unheard = clips.of((name,))
        check_apart(clips.of(others).sounds, unheard.sounds)
        model = trained(recipe, clips, others, watch)
        x_N1BT = heard(unheard, measured(recipe.sound, clips.of(others)), recipe.seed)
        found[clips.speakers_N == clips.names.index(name)] = model.odds(
            torch.from_numpy(x_N1BT), is_in_N, recipe.gate.handicaps
        ).numpy()
    return found


def measured(sound: Sound, clips: Clips) -> Audio:
    """The manifest's [audio], where hearing starts from what these speakers are like."""
    zeros, ones = (0.0,) * sound.bands, (1.0,) * sound.bands
    audio = Audio(**sound.model_dump(), mean=zeros, deviation=ones)
    mean_B, deviation_B = statistics(spectrograms(clips, audio))
    return audio.model_copy(
        update={"mean": tuple(map(float, mean_B)), "deviation": tuple(map(float, np.maximum(deviation_B, 1e-3)))}
    )


def split_off(recipe: SpokenRecipe, model: Spoken, audio: Audio, x_N1BT: Float32, out: Path, watch: Watch) -> Path:
    """The network with its masks, cut at the seam, as a bundle without gates."""
    captured = capture(Deployed(model).eval(), (torch.from_numpy(x_N1BT[:1]),))
    order = Order(
        name=f"{recipe.name}-plain",
        version=recipe.version,
        kind="classes",
        labels=recipe.words,
        audio=audio,
        bits=BITS,
        samples=[(one[None],) for one in x_N1BT[:: max(1, len(x_N1BT) // SAMPLES)]],
    )
    return split_captured(captured, find_cut(cuts(captured), "seam"), order, out, watch)
