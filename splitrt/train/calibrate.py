"""Measure a split model on the calibration split: bytes and accuracy at every point, and the exit's threshold.

Shape letters: B images, K widths, N outputs, Z bottleneck channels, h w space.
The bytes are those of the codec that will run, not an estimate.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from splitrt.calibration import Calibration, ExitCurve, Point
from splitrt.codec.payload import encode
from splitrt.codec.quantise import dequantise, quantise
from splitrt.codec.tables import Tables
from splitrt.errors import ConfigError
from splitrt.manifest import Exit
from splitrt.nn.bottleneck import widen
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.data import Images
from splitrt.train.recipe import Recipe
from splitrt.train.score import outputs_of, score_of

Float32 = npt.NDArray[np.float32]
BATCH = 50
MOST_CHANGED = 0.005  # share of exiting frames that the undivided model would have answered otherwise


@torch.inference_mode()
def calibrate(
    head: Head, tail: Tail, whole: Whole, tables: Tables, images: Images, recipe: Recipe
) -> tuple[Calibration, Exit | None]:
    """Every (width, bits) of the seam on `images`, and the exit's temperature and threshold where there is one.

    Raises ConfigError on images of another split than `calibrate`.
    """
    if images.split != "calibrate":
        raise ConfigError(f"a bundle is calibrated on images that training did not see, got split {images.split!r}")
    whole_BN = outputs_of(whole, images, recipe.pixels)
    points, every = [], bottlenecks(head, images, recipe)
    for place, (width, z_BZhw) in enumerate(zip(recipe.seam.widths, every, strict=True)):
        for bits in recipe.seam.bits:
            outputs_BN, sizes = _send(tail, z_BZhw, place, tables, bits)
            points.append(
                Point(
                    width=width,
                    bits=bits,
                    payload_bytes_mean=float(np.mean(sizes)),
                    payload_bytes_p95=float(np.percentile(sizes, 95)),
                    accuracy=score_of(outputs_BN, whole_BN, images, recipe.output),
                )
            )
    exit_rule, curve, exit_branch = None, None, head.exit
    if exit_branch is not None:
        exit_BN = outputs_of(lambda x: exit_branch(head.stem(x)), images, recipe.pixels)
        right_B = images.labels_B if images.has_labels else whole_BN.argmax(1)
        exit_rule, curve = exit_threshold(exit_BN, whole_BN, right_B)
    calibration = Calibration(
        data=recipe.data,
        images=len(images),
        score="accuracy" if images.has_labels else "agreement",
        whole_accuracy=score_of(whole_BN, whole_BN, images, recipe.output),
        exit=curve,
        points=tuple(points),
    )
    return calibration, exit_rule


def bottlenecks(head: Head, images: Images, recipe: Recipe) -> list[Float32]:
    """z_BZhw of every image at every width, narrow to wide."""
    widest = len(recipe.seam.widths) - 1
    if recipe.seam.form == "ensemble":
        return [
            outputs_of(lambda x, width=width: head.encoder(head.stem(x), width), images, recipe.pixels)  # type: ignore[misc]
            for width in recipe.seam.widths
        ]
    z_BZhw = outputs_of(lambda x: head.encoder(head.stem(x), recipe.seam.widths[widest]), images, recipe.pixels)
    return [z_BZhw[:, :width] for width in recipe.seam.widths]


def exit_threshold(exit_BN: Float32, whole_BN: Float32, labels_B: npt.NDArray[np.int64]) -> tuple[Exit, ExitCurve]:
    """The lowest confidence from which on at most MOST_CHANGED of the answers differ from the undivided model's.

    First version: an empirical threshold with no guarantee beyond the images it was found on.
    """
    temperature = fit_temperature(exit_BN, labels_B)
    confidence_B = torch.softmax(torch.from_numpy(exit_BN) / temperature, dim=1).amax(1).numpy()
    order = np.argsort(-confidence_B, kind="stable")
    changed = np.cumsum((exit_BN.argmax(1) != whole_BN.argmax(1))[order])
    fine = np.flatnonzero(changed <= MOST_CHANGED * np.arange(1, len(order) + 1))
    count = int(fine[-1]) + 1 if len(fine) else 0
    right_B = exit_BN.argmax(1) == labels_B
    curve = ExitCurve(
        accuracy=float(right_B.mean()),
        share_at_threshold=count / len(labels_B),
        accuracy_at_threshold=float(right_B[order[:count]].mean()) if count else None,
    )
    threshold = float(confidence_B[order[count - 1]]) if count else 1.01
    return Exit(temperature=temperature, threshold=threshold), curve


def fit_temperature(logits_BN: Float32, labels_B: npt.NDArray[np.int64]) -> float:
    """The temperature of least cross entropy (Guo et al., ICML 2017, arXiv:1706.04599), by golden-section search."""
    logits, labels = torch.from_numpy(logits_BN), torch.from_numpy(labels_B)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / float(np.exp(log_temperature)), labels))

    low, high, ratio = np.log(0.1), np.log(10.0), (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def _send(tail: Tail, z_BZhw: Float32, place: int, tables: Tables, bits: int) -> tuple[Float32, list[int]]:
    """Through quantiser, coder and tail, frame by frame for the bytes."""
    ranges, prior = tables.ranges_at(bits), tables.prior_at(bits)
    symbols = [quantise(z_Zhw, ranges, bits) for z_Zhw in z_BZhw]
    sizes = [len(encode(one, bits, prior)[1]) for one in symbols]
    seen = torch.from_numpy(np.stack([dequantise(one, ranges, bits) for one in symbols]))
    rows = [
        tail(widen(part, tables.channels), torch.full((len(part),), place)).numpy() for part in torch.split(seen, BATCH)
    ]
    return np.concatenate(rows), sizes
