"""How well a network answers: accuracy where images have labels, else agreement with the undivided model.

Shape letters: B batch, C H W frames, N outputs.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from splitrt.detections import agreement, nms
from splitrt.manifest import Output, Pixels
from splitrt.train.data import Images, to_tensor

Float32 = npt.NDArray[np.float32]
Predict = Callable[[Tensor], Tensor]
BATCH = 50
FAINT = 0.01  # score from which a candidate is a detection: a precision-recall curve needs the weak ones too


@torch.inference_mode()
def outputs_of(predict: Predict, images: Images, pixels: Pixels) -> Float32:
    """What `predict` gives for every image, in eval mode."""
    rows = [
        predict(to_tensor(images.frames_BHWC[start : start + BATCH], pixels)).float().numpy()
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(rows)


def score(predict: Predict, whole: Predict, images: Images, pixels: Pixels, output: Output) -> float:
    """Of `predict` on these images, 0 to 1."""
    given = outputs_of(predict, images, pixels)
    reference = None if images.has_labels else outputs_of(whole, images, pixels)
    return score_of(given, reference, images, output)


def score_of(given_BN: Float32, whole_BN: Float32 | None, images: Images, output: Output) -> float:
    """The same from outputs; `whole_BN` may be None where the images have labels."""
    if output.kind == "boxes":
        assert whole_BN is not None
        found, reference = ([nms(one, output.nms_iou, FAINT) for one in side] for side in (given_BN, whole_BN))
        return agreement(found, reference)
    right_B = images.labels_B if whole_BN is None or images.has_labels else whole_BN.argmax(1)
    return float((given_BN.argmax(1) == right_B).mean())
