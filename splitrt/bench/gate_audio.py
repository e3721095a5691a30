"""The gate on spoken digits: leave one speaker out x ten keywords.

Shape letters: N clips, B bands, T time, W words, C channels, H W space.
For each speaker a network of ten digits is trained on the three others, and asked for each digit in turn. The threshold
of a fold is certified on the scores that each of the three gets from a network that was trained without it (and without
the speaker who is left out): nobody is ever scored by a network, or judged at a threshold, that has met him.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splitrt.bench.gate import bytes_saved, cpu_ms, judged
from splitrt.bench.made import Silent
from splitrt.codec import parts
from splitrt.codec.parts import Part
from splitrt.manifest import Audio
from splitrt.nn.onnx import export_onnx
from splitrt.nn.spoken import Deployed, GateGraph, Spoken
from splitrt.onnx_session import open_session
from splitrt.partition.quantised import ranges_of
from splitrt.policy.guarantee import certify
from splitrt.train.gate import raised
from splitrt.train.keyword import measured
from splitrt.train.sounds import Clips, Float32, heard, read_clips
from splitrt.train.spoken import GatePhase, Sound, train_spoken

SOUND = Sound(rate_hz=8000, samples=6556, window=256, hop=100, bands=40, low_hz=60.0, high_hz=3900.0)
PHASE = GatePhase(epochs=70)
WORDS = 10
RECALL, STRICT, DELTA = 0.9, 0.97, 0.1  # certified for a fold's ten keywords together; alone each has 75 positives
BITS = 4
HEADER_BYTES = 46
SEED = 0
Bool = npt.NDArray[np.bool_]


def measure_audio(data: Path, quick: bool) -> dict[str, Any]:
    """The task's row."""
    clips = read_clips(data)
    phase = PHASE.model_copy(update={"epochs": 3, "width": 8}) if quick else PHASE
    left_out = clips.names[:1] if quick else clips.names
    models = {others: _train(clips, others, phase) for others in groups(clips.names, left_out)}
    folds = [_fold(clips, name, models, phase) for name in left_out]
    odds_NW = np.concatenate([fold["odds_NW"] for fold in folds])
    is_own_NW = np.concatenate([fold["is_own_NW"] for fold in folds])
    # A fold has its own threshold: odds are moved so that one threshold stands for all.
    found = judged(odds_NW.reshape(-1), is_own_NW.reshape(-1), 0.5)
    kept, stopped = found["positives_kept"], found["negatives_stopped"]
    strict_NW = np.concatenate([fold["strict_NW"] for fold in folds])
    sent, full = (float(np.mean([fold[key] for fold in folds])) for key in ("sent_bytes", "full_bytes"))
    return {
        "task": "audio",
        **found,
        "threshold": None,
        "certified_recall": RECALL,
        "delta": DELTA,
        f"positives_kept_certified_at_{STRICT:g}": float(strict_NW[is_own_NW].mean()),
        f"negatives_stopped_certified_at_{STRICT:g}": float(1 - strict_NW[~is_own_NW].mean()),
        "activation_kept": float(np.mean([fold["activation_kept"] for fold in folds])),
        "accuracy_change_pt": float(np.mean([fold["accuracy_change_pt"] for fold in folds])),
        "bytes_saved_gate": bytes_saved(kept, stopped, full, full),
        "bytes_saved_all": bytes_saved(kept, stopped, sent, full),
        "gates_share_of_whole": float(np.mean([fold["gates_share_of_whole"] for fold in folds])),
        "link_bytes": sent,
        "link_bytes_full": full,
        "folds": [{key: one for key, one in fold.items() if not key.endswith("_NW")} for fold in folds],
    }


def groups(names: Sequence[str], left_out: Sequence[str]) -> list[tuple[str, ...]]:
    """Speakers to train on: all but each who is left out, and those less one more."""
    found: dict[tuple[str, ...], None] = {}
    for name in left_out:
        others = tuple(one for one in names if one != name)
        found |= dict.fromkeys([others, *combinations(others, len(others) - 1)])
    return list(found)


def _train(clips: Clips, speakers: tuple[str, ...], phase: GatePhase) -> tuple[Spoken, Audio]:
    mine = clips.of(speakers)
    audio = measured(SOUND, mine)
    return train_spoken(mine, audio, WORDS, phase, SEED, Silent()), audio


def _fold(
    clips: Clips, name: str, models: dict[tuple[str, ...], tuple[Spoken, Audio]], phase: GatePhase
) -> dict[str, Any]:
    others = tuple(one for one in clips.names if one != name)
    own, foreign = [], []
    for other in others:
        less = tuple(one for one in others if one != other)
        unheard = clips.of((other,))
        odds_NW = _odds(models[less], unheard, phase)
        is_own_NW = np.eye(WORDS, dtype=np.bool_)[unheard.labels_N]
        own.append(odds_NW[is_own_NW])
        foreign.append(odds_NW[~is_own_NW])
    nothing_P, nothing_Q = (np.exp(-np.logaddexp(0, np.concatenate(one).astype(np.float64))) for one in (own, foreign))
    rule, strict = (certify(nothing_P, np.ones(len(nothing_P), np.bool_), 1 - one, DELTA) for one in (RECALL, STRICT))
    threshold = raised(rule.threshold, nothing_Q, phase.stops)
    model, audio = models[others]
    test = clips.of((name,))
    is_own_NW = np.eye(WORDS, dtype=np.bool_)[test.labels_N]
    odds_NW = _odds((model, audio), test, phase)
    moved_NW = odds_NW + _odds_of(threshold)
    passes_NW = moved_NW > 0
    x_N1BT = torch.from_numpy(heard(test, audio, SEED))
    with torch.no_grad():
        said_NW = np.eye(WORDS, dtype=np.bool_)[model(x_N1BT).argmax(1).numpy()]
        whole_NCHW = model.row.plain(x_N1BT).numpy()
        core = model.row.blocks[1](model.row.layer(0).compress(model.row.blocks[0](x_N1BT))).numpy()
    kept = model.row.layer(1).kept()
    right = {"gated": ((said_NW & passes_NW) == is_own_NW).mean(), "open": (said_NW == is_own_NW).mean()}
    stops_N1 = ~passes_NW
    return {
        "speaker": name,
        "threshold": threshold,
        "threshold_certified": rule.threshold,
        "calibration_positives": rule.samples,
        "calibration_kept": float((nothing_P < threshold).mean()),
        "calibration_stopped": float((nothing_Q >= threshold).mean()),
        "positives_kept": float(passes_NW[is_own_NW].mean()),
        "negatives_stopped": float(stops_N1[~is_own_NW].mean()),
        "digits_right": float((said_NW & is_own_NW).any(1).mean()),
        "activation_kept": len(kept) / whole_NCHW.shape[1],
        "accuracy_change_pt": float(100 * (right["gated"] - right["open"])),
        "sent_bytes": _link_bytes(whole_NCHW[:, kept]),
        "full_bytes": _link_bytes(core),
        "odds_NW": moved_NW,
        "is_own_NW": is_own_NW,
        "strict_NW": odds_NW + _odds_of(strict.threshold) > 0,
        **_times(model),
    }


def _odds(trained: tuple[Spoken, Audio], clips: Clips, phase: GatePhase) -> Float32:
    """(N, W): of every clip, asked for every word."""
    model, audio = trained
    x_N1BT = torch.from_numpy(heard(clips, audio, SEED))
    asked = torch.eye(WORDS, dtype=torch.bool)
    return np.stack([model.odds(x_N1BT, is_in_N, phase.handicaps).numpy() for is_in_N in asked], axis=1)


def _odds_of(threshold: float) -> float:
    return float(np.log(threshold) - np.log1p(-threshold))


def _link_bytes(sent_NCHW: Float32) -> float:
    """Mean, with a header, of the tensors at BITS under ranges of their own."""
    part = Part(dtype="float32", shape=(1, *sent_NCHW.shape[1:]), order=(0, 1, 2, 3))
    tensors = [(np.ascontiguousarray(one[None]),) for one in sent_NCHW]
    _, tables = ranges_of([part], tensors, (BITS,))
    sizes = [len(parts.encode(one, [part], BITS, tables.ranges_at(BITS))[1]) for one in tensors]
    return float(np.mean(sizes)) + HEADER_BYTES


def _times(model: Spoken) -> dict[str, float]:
    """CPU milliseconds of each gate and of the whole network, as a device runs them, a clip at a time."""
    x_11BT, is_in_N = torch.randn(1, 1, SOUND.bands, 64), torch.eye(WORDS, dtype=torch.bool)[0]
    first, second = (GateGraph(model, k, is_in_N, handicap).eval() for k, handicap in enumerate(PHASE.handicaps))
    graphs: list[tuple[str, torch.nn.Module, torch.Tensor, list[str]]] = [
        ("gate_1", first, x_11BT, ["odds", "carried"]),
        ("gate_2", second, first(x_11BT)[1].detach(), ["odds"]),
        ("whole", Deployed(model).eval(), x_11BT, ["logits"]),
    ]
    sessions = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name, graph, x, outputs in graphs:
            export_onnx(graph, (x,), Path(scratch) / f"{name}.onnx", ["x"], outputs)
            sessions[name] = open_session(Path(scratch) / f"{name}.onnx"), {"x": x.numpy()}
        found = cpu_ms(sessions)
    found["gates_share_of_whole"] = (found["gate_1_ms"] + found["gate_2_ms"]) / found["whole_ms"]
    return found
