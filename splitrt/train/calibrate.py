"""Measure a split model on the calibration split: bytes and accuracy at every point, and the exits' threshold.

Shape letters: B images, K widths, N outputs, Z bottleneck channels, h w space.
The bytes are those of the codec that will run, not an estimate.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from splitrt.calibration import Calibration, Point
from splitrt.codec.payload import encode
from splitrt.codec.quantise import dequantise, quantise
from splitrt.codec.tables import Tables
from splitrt.errors import ConfigError
from splitrt.manifest import Exits
from splitrt.nn.bottleneck import widen
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.certify import certify_exits
from splitrt.train.data import Images
from splitrt.train.recipe import Recipe
from splitrt.train.score import Predict, outputs_of, score_of

Float32 = npt.NDArray[np.float32]
BATCH = 50


@torch.inference_mode()
def calibrate(
    head: Head,
    tail: Tail,
    whole: Whole | Predict,
    tables: Tables,
    images: Images,
    recipe: Recipe,
    others: Sequence[Images] = (),
) -> tuple[Calibration, Exits | None]:
    """Every (width, bits) of the seam on `images`, and the exits' temperatures and threshold where there are any.

    others: the splits that training and choices saw; exits ask for them. Raises ConfigError on images of another
    split than `calibrate`, CalibrationRefused on images that can give no guarantee (see splitrt.train.certify).
    """
    if images.split != "calibrate":
        raise ConfigError(f"a bundle is calibrated on images that training did not see, got split {images.split!r}")
    whole_BN = outputs_of(whole, images, recipe.pixels)
    points, every, answers = [], bottlenecks(head, images, recipe), {}
    for place, (width, z_BZhw) in enumerate(zip(recipe.seam.widths, every, strict=True)):
        for bits in recipe.seam.bits:
            outputs_BN, sizes = _send(tail, z_BZhw, place, tables, bits)
            answers[width, bits] = outputs_BN.argmax(1)
            points.append(
                Point(
                    width=width,
                    bits=bits,
                    payload_bytes_mean=float(np.mean(sizes)),
                    payload_bytes_p95=float(np.percentile(sizes, 95)),
                    accuracy=score_of(outputs_BN, whole_BN, images, recipe.output),
                )
            )
    curve, exits = None, None
    if head.exits is not None:
        curve, exits = certify_exits(head, whole, images, others, whole_BN, answers, recipe)
    calibration = Calibration(
        data=recipe.data,
        images=len(images),
        score="accuracy" if images.has_labels else "agreement",
        whole_accuracy=score_of(whole_BN, whole_BN, images, recipe.output),
        exit=curve,
        points=tuple(points),
    )
    return calibration, exits


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
