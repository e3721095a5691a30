"""What a bundle's own graphs see of photographs: its stem's features, and what its undivided model makes of them.

Shape letters: N photographs, F feature channels, H W space, C classes, K side of a map.
No family's module is needed, and nothing is trained here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from splitrt.bundle import Bundle
from splitrt.codec import pixels as codec_pixels
from splitrt.detections import nms
from splitrt.nn import finder
from splitrt.nn.filter import pooling
from splitrt.onnx_session import open_session
from splitrt.policy.confidence import softmax
from splitrt.train.data import Images

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
ANYTHING = "anything"  # a positive that every box is
TEMPERATURE = 2.0  # of the undivided model's answers as a filter learns them


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A split as a filter sees it: pooled features (half precision), classes, what the undivided model makes of it."""

    features_NFHW: npt.NDArray[np.float16]
    labels_N: Int64
    beliefs_NC: Float32 | None = None  # P(class)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searched:
    """A split as a finder sees it: pooled features (half precision), and the detector's best score of a positive whose
    box has its middle in a place; 0 where there is none.
    """

    features_NFHW: npt.NDArray[np.float16]
    scores_NKK: Float32

    @property
    def best_N(self) -> Float32:
        return np.asarray(self.scores_NKK.max((1, 2)))


class Eyes:
    """A bundle's stem, and the verdicts of its undivided model."""

    def __init__(self, bundle: Bundle, positives: tuple[str, ...]) -> None:
        self._manifest = bundle.manifest
        self._stem = open_session(bundle.path("head/stem.onnx"))
        self._whole = open_session(bundle.path("whole.onnx"))
        self.positives = positives
        self.labels, self.min_score = bundle.manifest.output.labels, bundle.manifest.output.min_score
        self.side: int = self._stem.get_outputs()[0].shape[2]

    def features(self, frame_HWC: UInt8) -> Float32:
        """(1, F, H, W)."""
        features_1FHW: Float32 = self._stem.run(None, {"frame": self._read(frame_HWC)})[0]
        return features_1FHW

    def pooled(self, frame_HWC: UInt8, pool: int) -> npt.NDArray[np.float16]:
        """(F, H, W), as a filter reads them."""
        return F.avg_pool2d(torch.from_numpy(self.features(frame_HWC)), pool)[0].numpy().astype(np.float16)

    def verdict(self, frame_HWC: UInt8) -> int:
        """1 where the undivided model finds a positive."""
        output = self._manifest.output
        answer = self._answer(frame_HWC)
        if output.kind != "boxes":
            return int(output.labels[int(answer.argmax())] in self.positives)
        found_N6 = nms(answer, output.nms_iou, output.min_score)
        named = {output.labels[int(number)] for number in found_N6[:, 5]}
        return int(bool(named) if ANYTHING in self.positives else not named.isdisjoint(self.positives))

    def belief(self, frame_HWC: UInt8) -> Float32:
        """P(class) by the undivided model, softened."""
        return np.asarray(softmax(self._answer(frame_HWC)[None], TEMPERATURE)[0], np.float32)

    def scores(self, frame_HWC: UInt8) -> Float32:
        """(K, K), see Searched."""
        side = finder.map_side(self.side)
        candidates_N6 = self._answer(frame_HWC)
        if ANYTHING not in self.positives:
            wanted = [self.labels.index(name) for name in self.positives]
            candidates_N6 = candidates_N6[np.isin(candidates_N6[:, 5], wanted)]
        return gathered(candidates_N6, side)

    def see(self, images: Images, mirrored: bool = False, with_beliefs: bool = False) -> Seen:
        """mirrored: with each photograph's mirror image behind."""
        frames, pool = _with_mirrors(images, mirrored), pooling(self.side)
        labels_N = np.concatenate([images.labels_B] * (2 if mirrored else 1))
        if not images.has_labels:
            labels_N = np.array([self.verdict(frame_HWC) for frame_HWC in images.frames_BHWC], np.int64)
            labels_N = np.concatenate([labels_N] * (2 if mirrored else 1))
        return Seen(
            features_NFHW=np.stack([self.pooled(frame_HWC, pool) for frame_HWC in frames]),
            labels_N=labels_N,
            beliefs_NC=np.stack([self.belief(frame_HWC) for frame_HWC in frames]) if with_beliefs else None,
        )

    def search(self, images: Images, mirrored: bool = False) -> Searched:
        """mirrored: with each photograph's mirror image behind, searched anew."""
        frames, pool = _with_mirrors(images, mirrored), finder.pooling(self.side)
        return Searched(
            features_NFHW=np.stack([self.pooled(frame_HWC, pool) for frame_HWC in frames]),
            scores_NKK=np.stack([self.scores(frame_HWC) for frame_HWC in frames]),
        )

    def _answer(self, frame_HWC: UInt8) -> Float32:
        answer: Float32 = self._whole.run(None, {"frame": self._read(frame_HWC)})[0][0]
        return answer

    def _read(self, frame_HWC: UInt8) -> Float32:
        wanted = self._manifest.photograph
        fitted = codec_pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
        return codec_pixels.normalise(fitted, wanted.mean, wanted.std)[None]


def gathered(candidates_N6: Float32, side: int) -> Float32:
    """(K, K): the best score among boxes whose middle lies in each place; boxes in shares of the frame."""
    middles_N2 = (candidates_N6[:, :2] + candidates_N6[:, 2:4]) / 2
    columns_N, rows_N = np.clip((middles_N2 * side).astype(int), 0, side - 1).T
    scores_KK = np.zeros((side, side), np.float32)
    np.maximum.at(scores_KK, (rows_N, columns_N), candidates_N6[:, 4])
    return scores_KK


def _with_mirrors(images: Images, mirrored: bool) -> list[UInt8]:
    frames = list(images.frames_BHWC)
    return [*frames, *(frame_HWC[:, ::-1] for frame_HWC in frames)] if mirrored else frames
