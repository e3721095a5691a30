from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from splitrt.bundle import Bundle
from splitrt.calibration import Calibration, ExitCurve, Point, parse_calibration, write_calibration
from splitrt.errors import BundleError

POINTS = st.lists(
    st.builds(
        Point,
        width=st.integers(1, 64),
        bits=st.integers(1, 8),
        payload_bytes_mean=st.integers(1, 12).map(float),  # few values: ties are met
        payload_bytes_p95=st.floats(1, 1e6),
        accuracy=st.integers(0, 12).map(lambda n: n / 12),
    ),
    min_size=1,
    max_size=12,
)
relaxed = settings(deadline=None)


def curve(accuracy: float = 0.8, epsilon: float = 0.02, edges: Sequence[float] = (0.0, 0.5), **more: Any) -> ExitCurve:
    right = (0.5,) * len(edges)
    table = {
        "accuracy": accuracy,
        "epsilon": epsilon,
        "delta": 0.1,
        "digest": "0f" * 32,
        "share": 0.5,
        "risk": 0.01,
        "shares": (0.2, 0.3),
        "unsure": 0.5,
        "differing": 0.05,
        "curve": ({"threshold": 0.9, "share": 0.4, "risk": 0.01},),
        "edges": edges,
        "own": right,
        "remote": (),
    }
    return ExitCurve.model_validate(table | more)


def remote(points: list[Point], bins: int) -> list[dict[str, Any]]:
    """Of each point; where no exit is sure, the narrow and shallow do best."""
    return [
        {"width": p.width, "bits": p.bits, "right": (0.5,) * bins, "unsure": 1 / (p.width + p.bits)} for p in points
    ]


def calibration(points: list[Point], exit: ExitCurve | None = None) -> Calibration:
    return Calibration(
        data="scenes", images=500, score="agreement", whole_accuracy=0.8, exit=exit, points=tuple(points)
    )


@relaxed
@given(POINTS)
def test_the_front_rises_in_bytes_and_in_accuracy(points: list[Point]) -> None:
    front = calibration(points).front()
    for cheap, dear in zip(front[:-1], front[1:], strict=True):
        assert cheap.payload_bytes_mean < dear.payload_bytes_mean
        assert cheap.accuracy < dear.accuracy


@relaxed
@given(POINTS)
def test_no_point_beats_the_front(points: list[Point]) -> None:
    front = calibration(points).front()
    assert set(front) <= set(points)
    for point in points:
        assert any(
            best.payload_bytes_mean <= point.payload_bytes_mean and best.accuracy >= point.accuracy for best in front
        )


@relaxed
@given(POINTS, st.randoms())
def test_the_front_does_not_depend_on_the_order_of_measuring(points: list[Point], draw: Any) -> None:
    shuffled = list(points)
    draw.shuffle(shuffled)

    def costs(front: list[Point]) -> list[tuple[float, float]]:
        return [(point.payload_bytes_mean, point.accuracy) for point in front]

    assert costs(calibration(shuffled).front()) == costs(calibration(points).front())


@relaxed
@given(points=POINTS, has_exit=st.booleans(), edges=st.sets(st.floats(0, 1), min_size=1, max_size=5).map(sorted))
def test_what_is_parsed_is_what_was_written(points: list[Point], has_exit: bool, edges: list[float]) -> None:
    some = calibration(points, curve(edges=edges, remote=remote(points, len(edges))) if has_exit else None)
    assert parse_calibration(write_calibration(some)) == some


@relaxed
@given(POINTS)
def test_what_is_sent_is_chosen_by_how_the_server_does_on_what_no_exit_is_sure_of(points: list[Point]) -> None:
    some = calibration(points, curve(remote=remote(points, 2)))
    front = some.front_when_unsure()
    assert [point.accuracy for point in front] == sorted({1 / (point.width + point.bits) for point in front})
    cheapest = min(point.payload_bytes_mean for point in points)
    assert front[0].payload_bytes_mean == cheapest
    assert max(1 / (p.width + p.bits) for p in points) == front[-1].accuracy
    assert calibration(points).front_when_unsure() == calibration(points).front()


def test_a_point_without_its_curve_is_refused() -> None:
    points = [Point(width=1, bits=4, payload_bytes_mean=1, payload_bytes_p95=1, accuracy=0.5)]
    with pytest.raises(
        ValidationError, match=r"exit\.remote must have every point, width and bits \(1, 4\) are missing"
    ):
        calibration(points, curve(remote=()))


def test_the_built_in_front_is_not_empty(photos: Bundle) -> None:
    assert photos.calibration.front()


SOUND: dict[str, Any] = {
    "data": "scenes",
    "images": 1,
    "whole_accuracy": 0.5,
    "points": [{"width": 1, "bits": 4, "payload_bytes_mean": 1, "payload_bytes_p95": 1, "accuracy": 0.5}],
}


@pytest.mark.parametrize(
    "change",
    [
        {"points": []},
        {"points": [{}]},
        {"surprise": 1},
        {"images": "many"},
        {"score": "precision"},
        *({"points": [SOUND["points"][0] | {"payload_bytes_mean": odd}]} for odd in (0, -1, float("nan"))),
        *({"points": [SOUND["points"][0] | {"accuracy": odd}]} for odd in (-0.1, 1.1, float("nan"))),
        {"points": [SOUND["points"][0] | {"payload_bytes_p95": float("inf")}]},
        {"whole_accuracy": float("nan")},
    ],
    ids=str,
)
def test_a_value_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    parse_calibration(json.dumps(SOUND).encode())
    with pytest.raises(BundleError, match=r"calibration\.json"):
        parse_calibration(json.dumps(SOUND | change).encode())


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ({"edges": (0.5, 0.0)}, "must rise strictly"),
        ({"edges": (0.0, 0.0)}, "must rise strictly"),
        ({"own": (0.5,)}, "a number for each of 2 bins"),
        ({"remote": ({"width": 1, "bits": 4, "right": (0.5,) * 3, "unsure": 0.5},)}, "a number for each of 2 bins"),
        ({"digest": "0f"}, "digest"),
        ({"epsilon": 0.0}, "epsilon"),
        ({"edges": (), "own": (), "remote": ()}, "edges"),
    ],
    ids=str,
)
def test_an_exit_s_curve_that_cannot_be_is_refused(more: dict[str, Any], named: str) -> None:
    assert curve()
    with pytest.raises(ValidationError, match=named):
        curve(**more)


def test_a_calibration_that_does_not_say_is_of_accuracy() -> None:
    assert parse_calibration(json.dumps(SOUND).encode()).score == "accuracy"


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 100_000])
def test_what_is_no_calibration_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"calibration\.json"):
        parse_calibration(data)
