"""What was measured when a bundle was made: bytes and accuracy at every operating point.

From the split `calibrate`, which training did not see. The exit's rule is chosen on it, so the exit's curve
here is no held-out figure; test images appear in benchmarks only.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

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


class ExitCurve(Table):
    """The early exit on the same images: its accuracy, and how often it would answer at its threshold."""

    accuracy: float
    share_at_threshold: float
    accuracy_at_threshold: float | None  # None: nothing exits


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

    def front(self) -> list[Point]:
        """Points that no cheaper point matches, cheapest first: the only ones worth choosing from."""
        best: list[Point] = []
        for point in sorted(self.points, key=lambda p: (p.payload_bytes_mean, -p.accuracy)):
            if not best or point.accuracy > best[-1].accuracy:
                best.append(point)
        return best


def parse_calibration(data: bytes) -> Calibration:
    """Raises BundleError where the file is not what `write_calibration` makes."""
    try:
        return Calibration.model_validate(json.loads(data))
    except (ValueError, ValidationError, RecursionError) as error:
        raise BundleError(f"calibration.json does not hold a calibration: {error}") from error


def write_calibration(calibration: Calibration) -> bytes:
    table: dict[str, Any] = calibration.model_dump(mode="json")
    return (json.dumps(table, indent=1) + "\n").encode()
