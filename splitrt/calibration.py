"""What was measured when a bundle was made: bytes and accuracy at every operating point.

From the split `calibrate`, which training did not see. The exits' threshold is chosen on it: their curve here is no
held-out figure, what is certified of it is. Test images appear in benchmarks only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from splitrt.errors import BundleError


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Point(Table):
    """One way to send a frame: width and bits, with payload bytes and accuracy as measured.

    Where the images have no labels, accuracy is agreement with the undivided model (see `Calibration.score`).
    """

    width: int = Field(ge=1)
    bits: int
    payload_bytes_mean: float = Field(gt=0)
    payload_bytes_p95: float = Field(gt=0)
    accuracy: float = Field(ge=0, le=1)


class Level(Table):
    """A threshold that was looked at: what share of the images exits there, and what share is lost by it."""

    threshold: float
    share: float
    risk: float


class Remote(Table):
    """How often the server is right at a point: in each bin of the device's confidence, and where no exit is sure."""

    width: int
    bits: int
    right: tuple[float, ...]
    unsure: float = Field(ge=0, le=1)


class ExitCurve(Table):
    """The exits on the same images, and what is promised of them at the threshold of the manifest.

    With probability at least 1 - delta over the draw of these images, exits lose at most a share epsilon of all frames
    like them. A loss: an exit answers otherwise than the label where the undivided model answers like it. Without
    labels the undivided model's answer is the label.
    """

    accuracy: float  # of the device's own answer, asked for every frame: of the first exit that is sure, else the last
    epsilon: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")  # SHA-256 of the images' bytes and labels
    share: float
    risk: float
    shares: tuple[float, ...]  # that each exit answers
    unsure: float = Field(ge=0, le=1)  # accuracy of the device's own answer where no exit is sure: what is sent is that
    differing: float = Field(
        ge=0, le=1
    )  # upper bound, at delta: share that exits and that the server answers otherwise
    curve: tuple[Level, ...]
    edges: tuple[float, ...] = Field(min_length=1)  # lower ends of bins of confidence
    own: tuple[float, ...]  # in each bin: how often the device's own answer is right
    remote: tuple[Remote, ...]

    @model_validator(mode="after")
    def _sound(self) -> ExitCurve:
        if list(self.edges) != sorted(set(self.edges)):
            raise ValueError(f"exit.edges must rise strictly, got {list(self.edges)[:4]}")
        if any(len(one) != len(self.edges) for one in (self.own, *(point.right for point in self.remote))):
            raise ValueError(f"exit.own and exit.remote must have a number for each of {len(self.edges)} bins")
        return self


class GatePoint(Table):
    """A threshold that keeps this share of the calibration positives, and the share of negatives that it stops."""

    kept: float
    stopped: float | None  # None: there were no negatives


class GateRecord(Table):
    """With probability 1 - delta the row of gates keeps at least `recall` of positives: on what that rests."""

    recall: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    positives: int = Field(ge=1)
    lost: int = Field(ge=0)  # of the positives, at the threshold
    negatives: int = Field(ge=0)
    stopped: int = Field(ge=0)  # of the negatives
    digest: str = Field(pattern=r"^[0-9a-f]{64}$")  # of the calibration split
    curve: tuple[GatePoint, ...] = Field((), max_length=256)


class Calibration(Table):
    data: str
    images: int
    score: Literal["accuracy", "agreement"] = "accuracy"
    whole_accuracy: float
    exit: ExitCurve | None = None
    gate: GateRecord | None = None
    points: tuple[Point, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _whole(self) -> Calibration:
        if self.exit is not None:
            missing = {(p.width, p.bits) for p in self.points} - {(p.width, p.bits) for p in self.exit.remote}
            if missing:
                raise ValueError(f"exit.remote must have every point, width and bits {min(missing)} are missing")
        return self

    def front(self) -> list[Point]:
        """Points that no cheaper point matches, cheapest first: the only ones worth choosing from."""
        return _front(self.points)

    def front_when_unsure(self) -> list[Point]:
        """The same by accuracy on images that no exit is sure of."""
        return _front(self.points_when_unsure())

    def points_when_unsure(self) -> Sequence[Point]:
        """All by their accuracy on images that no exit is sure of: those are the ones that are sent, and harder. Of all
        images where there are no exits.
        """
        if self.exit is None:
            return self.points
        found = {(one.width, one.bits): one.unsure for one in self.exit.remote}
        return [point.model_copy(update={"accuracy": found[point.width, point.bits]}) for point in self.points]


def parse_calibration(data: bytes) -> Calibration:
    """Raises BundleError where the file is not what `write_calibration` makes."""
    try:
        return Calibration.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError) as error:
        raise BundleError(f"calibration.json does not hold a calibration: {error}") from error


def write_calibration(calibration: Calibration) -> bytes:
    table: dict[str, Any] = calibration.model_dump(mode="json")
    return (json.dumps(table, indent=1) + "\n").encode()


def _front(points: Sequence[Point]) -> list[Point]:
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.payload_bytes_mean, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best
