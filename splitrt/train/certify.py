"""The exits' part of a calibration: temperatures, the certified threshold, and what the server adds at each confidence.

Temperatures are chosen on the tune split, so that the confidences which are certified on the calibrate split owe
nothing to it. See splitrt.policy.cascade for what is promised, and why one path of thresholds is enough.

Shape letters: E exits, S images, N classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from splitrt.calibration import ExitCurve, Level, Remote
from splitrt.errors import CalibrationRefused
from splitrt.manifest import Exit, Exits
from splitrt.nn.split import Head, Whole
from splitrt.policy.cascade import Cascade, cascade_of, certify_cascade
from splitrt.policy.guarantee import GRID_L, binomial_tail
from splitrt.policy.price import binned, edges
from splitrt.train.data import Images
from splitrt.train.recipe import ExitsPhase, Recipe
from splitrt.train.score import Predict, outputs_of

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

BINS = 16
SHOWN = GRID_L[::35]  # thresholds of the curve that the bundle keeps


def certify_exits(
    head: Head,
    whole: Whole | Predict,
    images: Images,
    others: Sequence[Images],
    whole_BN: Float32,
    points: Mapping[tuple[int, int], Int64],
    recipe: Recipe,
) -> tuple[ExitCurve, Exits]:
    """points: the server's answers to `images` at (width, bits). others: what training and choices saw, tune among it.

    Raises CalibrationRefused where `images` holds an image of theirs, or too few for the recipe's epsilon and delta.
    """
    phase = recipe.exits
    assert phase is not None
    check_unseen(images, others)
    tune = next((one for one in others if one.split == "tune"), None)
    if tune is None:
        raise CalibrationRefused("temperatures of exits are chosen on the tune split, which was not given")
    tune_whole_BN = outputs_of(whole, tune, recipe.pixels)
    temperatures = [
        fit_temperature(logits_SN, right_answers(tune, tune_whole_BN)) for logits_SN in exit_logits(head, tune, recipe)
    ]
    right_S, whole_S = right_answers(images, whole_BN), whole_BN.argmax(1)
    logits = exit_logits(head, images, recipe)
    cascade = cascade_of(logits, temperatures, phase.confidence, whole_S, right_S)
    certified = certify_cascade(cascade, phase.epsilon, phase.delta)
    chain = tuple(
        Exit(temperature=temperature, **sizes.model_dump())
        for temperature, sizes in zip(temperatures, phase.chain, strict=True)
    )
    rule = Exits(confidence=phase.confidence, threshold=certified.threshold, classes=logits[0].shape[1], chain=chain)
    return _curve(cascade, certified.threshold, phase, right_S, points, _digest(images)), rule


def _curve(
    cascade: Cascade,
    level: float,
    phase: ExitsPhase,
    right_S: Int64,
    points: Mapping[tuple[int, int], Int64],
    digest: str,
) -> ExitCurve:
    each_S, samples = np.arange(cascade.samples), cascade.samples
    own_S = cascade.answer_ES[cascade.own_S(level), each_S]
    sure_S = np.nan_to_num(cascade.confidence_ES[cascade.own_S(level), each_S], nan=0.0)
    place_S = cascade.place_S(level)
    exits_S = place_S < len(cascade.answer_ES)
    edge_K = edges(sure_S, BINS)
    unsure_S = ~exits_S if not exits_S.all() else exits_S  # where none is sent, of all
    other = max(int((exits_S & (own_S != answer_S)).sum()) for answer_S in points.values())
    return ExitCurve(
        accuracy=float((own_S == right_S).mean()),
        epsilon=phase.epsilon,
        delta=phase.delta,
        digest=digest,
        share=cascade.share(level),
        risk=cascade.risk(level),
        shares=tuple(float((place_S == place).mean()) for place in range(len(cascade.answer_ES))),
        unsure=float((own_S == right_S)[unsure_S].mean()),
        differing=upper_bound(other, samples, phase.delta),
        curve=tuple(Level(threshold=float(one), share=cascade.share(one), risk=cascade.risk(one)) for one in SHOWN),
        edges=tuple(edge_K.tolist()),
        own=tuple(binned(sure_S, own_S == right_S, edge_K).tolist()),
        remote=tuple(
            Remote(
                width=width,
                bits=bits,
                right=tuple(binned(sure_S, answer_S == right_S, edge_K).tolist()),
                unsure=float((answer_S == right_S)[unsure_S].mean()),
            )
            for (width, bits), answer_S in points.items()
        ),
    )


def check_unseen(images: Images, others: Sequence[Images]) -> None:
    """Raises CalibrationRefused where one of the images is among the others, by its bytes."""
    wanted = set(images.digests())
    for one in others:
        if both := len(wanted & set(one.digests())):
            raise CalibrationRefused(
                f"calibration images must be ones that nothing was trained or chosen on, got {both} of {len(images)} "
                f"that are in split {one.split!r} as well"
            )


@torch.inference_mode()
def exit_logits(head: Head, images: Images, recipe: Recipe) -> list[Float32]:
    """(S, N) of every exit, asked for every image."""
    exits = head.exits
    assert exits is not None
    logits_SEN = outputs_of(lambda x: torch.stack(exits(head.stem(x)), dim=1), images, recipe.pixels)
    return list(logits_SEN.swapaxes(0, 1))


def right_answers(images: Images, whole_BN: Float32) -> Int64:
    """Labels, else the undivided model's answers."""
    return images.labels_B if images.has_labels else whole_BN.argmax(1)


def fit_temperature(logits_BN: Float32, labels_B: Int64) -> float:
    """The temperature of least cross entropy (Guo et al., ICML 2017, arXiv:1706.04599), by golden-section search."""
    logits, labels = torch.from_numpy(logits_BN), torch.from_numpy(labels_B)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / float(np.exp(log_temperature)), labels))

    low, high, ratio = np.log(0.1), np.log(10.0), (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def upper_bound(losses: int, samples: int, delta: float) -> float:
    """The share that so few losses rule out at delta, with all above it (Clopper and Pearson, 1934)."""
    low, high = losses / samples, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        is_out = middle >= 1 or binomial_tail(losses, samples, middle) <= delta
        low, high = (low, middle) if is_out else (middle, high)
    return high


def _digest(images: Images) -> str:
    together = hashlib.sha256(images.labels_B.astype("<i8").tobytes())
    for one in images.digests():
        together.update(one)
    return together.hexdigest()
