"""Rows: x1, y1, x2, y2, score, class; true boxes without the score. Shape letters: K N T rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from splitrt.detections import agreement, average_precision, nms, overlap
from splitrt.device.result import Boxes, Result, found_boxes
from splitrt.errors import BadFrame, InvalidInput
from splitrt.manifest import Output

Float32 = npt.NDArray[np.float32]

LEFT, RIGHT = (0.0, 0.0, 0.4, 0.4), (0.6, 0.6, 1.0, 1.0)
NEAR_LEFT = (0.0, 0.0, 0.4, 0.36)  # overlaps LEFT by 0.9


def rows(*given_rows: tuple[float, ...]) -> Float32:
    return np.asarray(given_rows, np.float32)


NOTHING_N6, NOTHING_T5 = np.zeros((0, 6), np.float32), np.zeros((0, 5), np.float32)


# ── suppression ─────────────────────────────────────────────────────────────────────────────────────


def test_of_two_that_overlap_the_better_is_kept() -> None:
    kept_N6 = nms(rows((*LEFT, 0.5, 1), (*NEAR_LEFT, 0.8, 1), (*RIGHT, 0.6, 1)), 0.45, 0.25)
    np.testing.assert_array_equal(kept_N6, rows((*NEAR_LEFT, 0.8, 1), (*RIGHT, 0.6, 1)))


def test_another_class_is_not_suppressed() -> None:
    assert len(nms(rows((*LEFT, 0.5, 1), (*LEFT, 0.8, 2)), 0.45, 0.25)) == 2


def test_what_a_suppressed_box_overlaps_is_kept_if_the_better_does_not() -> None:
    chain_K6 = rows(
        (0, 0, 0.4, 1, 0.9, 0), (0.1, 0, 0.5, 1, 0.8, 0), (0.2, 0, 0.6, 1, 0.7, 0)
    )  # overlaps .6, .6 and .33
    np.testing.assert_array_equal(nms(chain_K6, 0.45, 0), chain_K6[[0, 2]])


def test_the_least_score_is_kept_and_below_it_none() -> None:
    assert len(nms(rows((*LEFT, 0.25, 1)), 0.45, 0.25)) == 1
    assert nms(rows((*LEFT, 0.24, 1)), 0.45, 0.25).shape == (0, 6)
    assert nms(NOTHING_N6, 0.45, 0.25).shape == (0, 6)


finite_rows = hnp.arrays(
    np.float32,
    st.tuples(st.integers(0, 12), st.just(6)),
    elements=st.floats(width=32, allow_nan=False, allow_infinity=False),
)


@given(candidates_K6=finite_rows, iou=st.floats(0, 1))
def test_what_is_kept_is_sorted_does_not_overlap_and_stays_kept(candidates_K6: Float32, iou: float) -> None:
    kept_N6 = nms(candidates_K6, iou, 0.0)
    assert (np.diff(kept_N6[:, 4]) <= 0).all()
    for place, row_6 in enumerate(kept_N6):
        same_N6 = kept_N6[place + 1 :][kept_N6[place + 1 :, 5] == row_6[5]]
        assert (overlap(row_6[:4], same_N6[:, :4]) <= iou).all()
    np.testing.assert_array_equal(nms(kept_N6, iou, 0.0), kept_N6)


def test_a_box_inside_out_overlaps_nothing() -> None:
    inside_out_4 = np.asarray([0.4, 0.4, 0.0, 0.0], np.float32)
    assert overlap(inside_out_4, np.stack([inside_out_4, rows(LEFT)[0]])).tolist() == [0, 0]


@pytest.mark.parametrize("hostile", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", range(6))
def test_values_that_are_not_finite_are_refused(hostile: float, column: int) -> None:
    candidates_K6 = rows((*LEFT, 0.5, 1))
    candidates_K6[0, column] = hostile
    with pytest.raises(InvalidInput, match="candidates must be finite"):
        nms(candidates_K6, 0.45, 0.25)


@pytest.mark.parametrize("shape", [(6,), (3, 5), (1, 3, 6), ()])
def test_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"candidates must have shape \(N, 6\), got"):
        nms(np.zeros(shape, np.float32), 0.45, 0.25)


# ── average precision ───────────────────────────────────────────────────────────────────────────────

TRUTH = [rows((*LEFT, 1), (*RIGHT, 2)), rows((*LEFT, 1))]
SAME = [rows((*LEFT, 0.9, 1), (*RIGHT, 0.3, 2)), rows((*LEFT, 0.7, 1))]


def test_what_was_found_exactly_scores_one_and_nothing_found_none() -> None:
    assert average_precision(SAME, TRUTH) == 1
    assert average_precision([NOTHING_N6, NOTHING_N6], TRUTH) == 0


def test_a_known_curve() -> None:
    """Hit, miss, hit of two true boxes: precision 1 up to recall 0.5 (51 of the 101 points), 2/3 up to 1 (50)."""
    found_N6 = rows((*LEFT, 0.9, 1), (0.4, 0.0, 0.6, 0.2, 0.8, 1), (*RIGHT, 0.7, 1))
    truth_T5 = rows((*LEFT, 1), (*RIGHT, 1))
    assert average_precision([found_N6], [truth_T5]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_true_box_is_matched_once() -> None:
    """The double is a miss: precision 1, 1/2, 2/3 as above."""
    found_N6 = rows((*LEFT, 0.9, 1), (*NEAR_LEFT, 0.8, 1), (*RIGHT, 0.7, 1))
    assert average_precision([found_N6], [rows((*LEFT, 1), (*RIGHT, 1))]) == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_a_miss_below_the_last_hit_costs_nothing_and_one_above_it_does() -> None:
    miss = (0.4, 0.0, 0.6, 0.2)
    assert average_precision([rows((*LEFT, 0.9, 1), (*miss, 0.1, 1))], [rows((*LEFT, 1))]) == 1
    assert average_precision([rows((*LEFT, 0.9, 1), (*miss, 0.95, 1))], [rows((*LEFT, 1))]) == 0.5


def test_a_box_of_another_frame_or_class_is_no_match() -> None:
    assert average_precision([NOTHING_N6, SAME[1]], [rows((*LEFT, 1)), NOTHING_T5]) == 0
    assert average_precision([rows((*LEFT, 0.9, 2))], [rows((*LEFT, 1))]) == 0


def test_a_class_that_truth_lacks_does_not_count() -> None:
    assert average_precision([np.concatenate([SAME[0], rows((*LEFT, 1.0, 7))]), SAME[1]], TRUTH) == 1


def test_an_overlap_must_reach_the_bound() -> None:
    half_N6, truth_T5 = rows((0, 0, 0.4, 0.2, 0.9, 1)), rows((*LEFT, 1))
    assert average_precision([half_N6], [truth_T5], iou=0.49) == 1
    assert average_precision([half_N6], [truth_T5], iou=0.51) == 0


def test_frames_must_be_as_many_and_truth_must_hold_a_box() -> None:
    with pytest.raises(InvalidInput, match="as many frames, got 1 and 2"):
        average_precision([SAME[0]], TRUTH)
    with pytest.raises(InvalidInput, match="truth must hold a box"):
        average_precision([SAME[0]], [NOTHING_T5])
    with pytest.raises(InvalidInput, match=r"true boxes must have shape \(N, 5\), got \(2, 6\)"):
        average_precision([SAME[0]], [SAME[0]])


def test_agreement_asks_only_for_what_the_reference_is_sure_of() -> None:
    without = [SAME[0][:1], SAME[1]]
    assert agreement(SAME, SAME) == 1
    assert agreement(without, SAME, min_score=0.25) == 0.5
    assert agreement(without, SAME, min_score=0.35) == 1


# ── a device's answer ───────────────────────────────────────────────────────────────────────────────

OUTPUT = Output(kind="boxes", labels=("cat", "dog", "hen"))


def result(boxes: Boxes) -> Result:
    return Result(seq=0, source="remote", output=boxes, model="m", version="1", latency_ms=1.0)


def test_an_answer_holds_what_is_kept_and_is_named_after_the_surest() -> None:
    boxes = found_boxes(rows((*LEFT, 0.5, 1), (*NEAR_LEFT, 0.8, 1), (*RIGHT, 0.6, 2), (*RIGHT, 0.2, 0)), OUTPUT)
    np.testing.assert_array_equal(boxes.boxes_N4, rows(NEAR_LEFT, RIGHT))
    np.testing.assert_array_equal(boxes.scores_N, np.asarray([0.8, 0.6], np.float32))
    assert boxes.classes_N.tolist() == [1, 2]
    assert result(boxes).label == "dog"
    assert result(boxes).scores is None


def test_an_answer_without_boxes_has_no_label_and_without_names_a_number() -> None:
    assert result(found_boxes(NOTHING_N6, OUTPUT)).label is None
    assert found_boxes(rows((*LEFT, 0.5, 7)), Output(kind="boxes")).label == "7"


def test_the_manifest_s_bounds_decide() -> None:
    pair_K6 = rows((*LEFT, 0.5, 1), (*NEAR_LEFT, 0.2, 1))
    assert len(found_boxes(pair_K6, OUTPUT.model_copy(update={"min_score": 0.1})).scores_N) == 1
    assert len(found_boxes(pair_K6, OUTPUT.model_copy(update={"min_score": 0.1, "nms_iou": 0.95})).scores_N) == 2


@pytest.mark.parametrize(
    ("candidates_K6", "wanted"),
    [
        (np.zeros(6, np.float32), r"shape \(K, 6\)"),
        (np.zeros((3, 5), np.float32), r"shape \(K, 6\)"),
        (np.zeros((1001, 6), np.float32), "K up to 1000"),
        (rows((*LEFT, np.nan, 1)), "finite"),
        (rows((np.inf, 0, 0, 0, 0.5, 1)), "finite"),
        (rows((*LEFT, 0.5, 3)), "whole numbers below 3, got 3"),
        (rows((*LEFT, 0.5, -1)), "whole numbers below 3, got -1"),
        (rows((*LEFT, 0.5, 0.5)), "whole numbers below 3, got 0.5"),
    ],
)
def test_outputs_that_no_honest_tail_gives_are_refused(candidates_K6: Float32, wanted: str) -> None:
    with pytest.raises(BadFrame, match=wanted) as raised:
        found_boxes(candidates_K6, OUTPUT)
    assert raised.value.reason == "outputs"
