"""What a frame's submitter gets back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from splitrt.errors import SplitError

Array = npt.NDArray[Any]
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
    """One frame's end. `source` says who answered: `exit` and `gate` the device because it was sure, `remote`
    the server, `fallback` the device because it had to (`degraded`), `skipped` nobody: a newer frame came first.
    `error` is set only by a stream, for a frame that nobody could answer.
    """

    seq: int
    source: Source
    output: Classes | Array | None
    model: str
    version: str
    latency_ms: float
    degraded: bool = False
    width: int = 0
    bits: int = 0
    payload_bytes: int = 0
    link_bytes: int = 0
    timings: Timings = Timings()
    error: SplitError | None = None

    @property
    def label(self) -> str | None:
        return self.output.label if isinstance(self.output, Classes) else None

    @property
    def scores(self) -> npt.NDArray[np.float32] | None:
        return self.output.scores if isinstance(self.output, Classes) else None


def softmax(logits_N: Array, temperature: float = 1.0) -> npt.NDArray[np.float32]:
    """Probabilities of one vector of logits."""
    scaled = (logits_N.astype(np.float64) - logits_N.max()) / temperature
    weights = np.exp(scaled)
    probabilities: npt.NDArray[np.float32] = (weights / weights.sum()).astype(np.float32)
    return probabilities
