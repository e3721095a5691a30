"""What a frame's submitter gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splitrt.detections import nms
from splitrt.errors import BadFrame, SplitError
from splitrt.manifest import Output

Array = npt.NDArray[Any]
MAX_CANDIDATES = 1000  # suppression compares each with each

Source = Literal["gate", "exit", "remote", "fallback", "skipped"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """Class probabilities, in the order of the bundle's labels."""

    scores: npt.NDArray[np.float32]
    labels: tuple[str, ...]

    @property
    def label(self) -> str:
        """The most likely class: its name, or its number where the bundle names none."""
        best = int(self.scores.argmax())
        return self.labels[best] if self.labels else str(best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Boxes:
    """What was found, the most confident first; no row where nothing was."""

    boxes_N4: npt.NDArray[np.float32]  # x1, y1, x2, y2 as shares of the frame's width and height
    scores_N: npt.NDArray[np.float32]
    classes_N: npt.NDArray[np.int64]
    labels: tuple[str, ...]

    @property
    def label(self) -> str | None:
        """The most confident one's class: its name, or its number where the bundle names none."""
        if not len(self.classes_N):
            return None
        best = int(self.classes_N[self.scores_N.argmax()])
        return self.labels[best] if self.labels else str(best)


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """A gate was certain that there is nothing to answer."""

    certainty: float
    label: str  # what the bundle calls nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Where a frame's time went, in milliseconds; 0 where it did not pass.

    head is every network on the device, encode the quantiser and coder; decode is the server's side of it.
    uplink and downlink share what is left of the wait when the server's own durations are taken off: without
    clock synchronisation they cannot be told apart, so the small reply is given half the base round trip.
    """

    head: float = 0.0
    encode: float = 0.0
    uplink: float = 0.0
    queue: float = 0.0
    decode: float = 0.0
    tail: float = 0.0
    downlink: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One frame's end. `source` says who answered: `gate` the device because there was nothing to answer, `exit` the
    device because it was sure, `remote` the server, `fallback` the device because it had to (`degraded`), `skipped`
    nobody: a newer frame came first. `error` is set only by a stream, for a frame that nobody could answer.
    """

    seq: int
    source: Source
    output: Classes | Boxes | Nothing | Array | tuple[Array, ...] | None  # several tensors: of a captured network
    model: str
    version: str
    latency_ms: float
    degraded: bool = False
    width: int = 0
    bits: int = 0
    payload_bytes: int = 0
    link_bytes: int = 0
    timings: Timings = Timings()
    in_time: float | None = None  # of a frame that the policy sent: how likely it was held to be answered in time
    error: SplitError | None = None

    @property
    def label(self) -> str | None:
        return self.output.label if isinstance(self.output, Classes | Boxes | Nothing) else None

    @property
    def scores(self) -> npt.NDArray[np.float32] | None:
        """Of classes; a found box's are `output.scores_N`."""
        return self.output.scores if isinstance(self.output, Classes) else None


def softmax(logits_N: Array, temperature: float = 1.0) -> npt.NDArray[np.float32]:
    """Probabilities of one vector of logits."""
    scaled = (logits_N.astype(np.float64) - logits_N.max()) / temperature
    weights = np.exp(scaled)
    probabilities: npt.NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return probabilities


def found_classes(outputs_N: Array, output: Output, temperature: float = 1.0) -> Classes:
    """Raises BadFrame where there is not one logit a label, and where no probabilities can be made of them."""
    if outputs_N.ndim != 1 or not outputs_N.size or (output.labels and len(outputs_N) != len(output.labels)):
        wanted = len(output.labels) or "N"
        raise BadFrame(f"outputs must have shape ({wanted},), got {outputs_N.shape}", reason="outputs")
    if not np.isfinite(outputs_N.max()):
        raise BadFrame("outputs must have a finite largest logit, got NaN or infinity", reason="outputs")
    return Classes(scores=softmax(outputs_N, temperature), labels=output.labels)


def found_boxes(candidates_K6: Array, output: Output) -> Boxes:
    """Suppression as the manifest says. Raises BadFrame on another shape, and on numbers that no honest tail gives."""
    if candidates_K6.ndim != 2 or candidates_K6.shape[1] != 6 or len(candidates_K6) > MAX_CANDIDATES:
        wanted = f"(K, 6) with K up to {MAX_CANDIDATES}"
        raise BadFrame(f"outputs must have shape {wanted}, got {candidates_K6.shape}", reason="outputs")
    if not np.isfinite(candidates_K6).all():
        raise BadFrame("outputs must be finite, got NaN or infinity", reason="outputs")
    classes_K = candidates_K6[:, 5]
    is_number_K = (classes_K >= 0) & (classes_K % 1 == 0) & (classes_K < (len(output.labels) or 1 << 16))
    if not is_number_K.all():
        wanted = f"whole numbers below {len(output.labels) or 1 << 16}"
        raise BadFrame(f"outputs' classes must be {wanted}, got {classes_K[~is_number_K][0]:g}", reason="outputs")
    kept_N6 = nms(candidates_K6, output.nms_iou, output.min_score)
    return Boxes(
        boxes_N4=kept_N6[:, :4].astype(np.float32),
        scores_N=kept_N6[:, 4].astype(np.float32),
        classes_N=kept_N6[:, 5].astype(np.int64),
        labels=output.labels,
    )
