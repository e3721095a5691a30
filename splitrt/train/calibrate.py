"""Measure a split model on the calibration split: bytes and accuracy at every point, and the exit's threshold.

Shape letters: B images, N classes, Z bottleneck channels, H W space.
The bytes are those of the codec that will run, not an estimate.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from splitrt.calibration import Calibration, ExitCurve, Point
from splitrt.codec.payload import encode
from splitrt.codec.quantise import Ranges, dequantise, quantise
from splitrt.manifest import Exit
from splitrt.nn.bottleneck import widen
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.data import Images, to_tensor
from splitrt.train.loop import Pixels
from splitrt.train.recipe import SeamTable

Array = npt.NDArray[np.float32]
BATCH = 100
MOST_CHANGED = 0.005  # share of exiting frames that the undivided model would have answered otherwise


@torch.inference_mode()
def calibrate(
    head: Head,
    tail: Tail,
    whole: Whole,
    images: Images,
    pixels: Pixels,
    ranges: Ranges,
    seam: SeamTable,
    data: str,
) -> tuple[Calibration, Exit]:
    """Every (width, bits) of the seam on `images`, and the exit's temperature and threshold."""
    whole_BN = _logits(whole, images, pixels)
    exit_BN = _logits(lambda x: head.exit(head.stem(x)), images, pixels)
    z_BZHW = _logits(lambda x: head.encoder(head.stem(x), max(seam.widths)), images, pixels)
    points = []
    for width in seam.widths:
        for bits in seam.bits:
            logits_BN, sizes = _send(tail, z_BZHW[:, :width], ranges, bits)
            points.append(
                Point(
                    width=width,
                    bits=bits,
                    payload_bytes_mean=float(np.mean(sizes)),
                    payload_bytes_p95=float(np.percentile(sizes, 95)),
                    accuracy=float((logits_BN.argmax(1) == images.labels_B).mean()),
                )
            )
    exit_rule, curve = exit_threshold(exit_BN, whole_BN, images.labels_B)
    whole_accuracy = float((whole_BN.argmax(1) == images.labels_B).mean())
    calibration = Calibration(
        data=data, images=len(images), whole_accuracy=whole_accuracy, exit=curve, points=tuple(points)
    )
    return calibration, exit_rule


def exit_threshold(exit_BN: Array, whole_BN: Array, labels_B: npt.NDArray[np.int64]) -> tuple[Exit, ExitCurve]:
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


def fit_temperature(logits_BN: Array, labels_B: npt.NDArray[np.int64]) -> float:
    """The temperature of least cross entropy (Guo et al., ICML 2017, arXiv:1706.04599), by golden-section search."""
    logits, labels = torch.from_numpy(logits_BN), torch.from_numpy(labels_B)

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(logits / float(np.exp(log_temperature)), labels))

    low, high, ratio = np.log(0.1), np.log(10.0), (5**0.5 - 1) / 2
    for _ in range(40):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        low, high = (low, right) if loss(left) < loss(right) else (left, high)
    return float(np.exp((low + high) / 2))


def _logits(predict: Callable[[Tensor], Tensor], images: Images, pixels: Pixels) -> Array:
    rows = [
        predict(to_tensor(images.frames_BHWC[start : start + BATCH], *pixels)).float().numpy()
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(rows)


def _send(tail: Tail, z_BZHW: Array, ranges: Ranges, bits: int) -> tuple[Array, list[int]]:
    """Through quantiser, coder and tail, frame by frame for the bytes."""
    symbols = [quantise(z_ZHW, ranges, bits) for z_ZHW in z_BZHW]
    sizes = [len(encode(one, bits)[1]) for one in symbols]
    seen = torch.from_numpy(np.stack([dequantise(one, ranges, bits) for one in symbols]))
    rows = [tail(widen(part, ranges.channels)).numpy() for part in torch.split(seen, BATCH)]
    return np.concatenate(rows), sizes
