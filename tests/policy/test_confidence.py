"""How sure an answer is: three measures with the same ends, and nothing sure of NaN."""

from __future__ import annotations

from typing import get_args

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from splitrt.errors import InvalidInput
from splitrt.policy.confidence import Measure, confidence
from splitrt.policy.guarantee import certify

MEASURES = get_args(Measure)
LOGITS = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=6), elements=st.floats(-50, 50))
relaxed = settings(deadline=None)


@pytest.mark.parametrize("measure", MEASURES)
@relaxed
@given(logits_SN=LOGITS, temperature=st.floats(0.1, 10))
def test_it_lies_between_0_and_1_and_no_class_s_place_matters(
    measure: Measure, logits_SN: npt.NDArray[np.float64], temperature: float
) -> None:
    sure_S = confidence(measure, logits_SN, temperature)
    assert sure_S.shape == logits_SN.shape[:1]
    assert ((sure_S > -1e-9) & (sure_S < 1 + 1e-9)).all()
    np.testing.assert_allclose(confidence(measure, logits_SN[:, ::-1], temperature), sure_S, atol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_the_ends_are_one_class_for_sure_and_all_alike(measure: Measure) -> None:
    sure, alike = confidence(measure, [[90.0, 0.0, 0.0, 0.0], [1.0] * 4])
    assert sure == pytest.approx(1)
    assert alike == pytest.approx(0.25 if measure == "top1" else 0)


@pytest.mark.parametrize("measure", MEASURES)
def test_a_higher_temperature_is_less_sure(measure: Measure) -> None:
    logits_SN = np.array([[2.0, 1.0, 0.0]])
    assert confidence(measure, logits_SN, 3.0)[0] < confidence(measure, logits_SN, 1.0)[0]


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_logits_that_are_no_numbers_reach_no_threshold(measure: Measure, odd: float) -> None:
    sure_S = confidence(measure, np.array([[odd, 0.0, 1.0], [odd, odd, odd], [0.0, 9.0, 0.0]]))
    assert (sure_S >= 0.0).tolist() == [False, False, True]
    assert certify(np.repeat(sure_S[:1], 200), np.zeros(200), 0.02, 0.1).passed == 0


@pytest.mark.parametrize("measure", MEASURES)
def test_a_single_class_is_always_sure(measure: Measure) -> None:
    assert confidence(measure, [[3.0], [-7.0]]).tolist() == [1, 1]


def test_a_class_that_is_out_of_the_question_is_no_nan() -> None:
    assert confidence("entropy", [[0.0, -np.inf]])[0] == pytest.approx(1)


@pytest.mark.parametrize("logits", [[1.0, 2.0], [[]], [[[1.0]]]])
def test_another_shape_is_refused(logits: list[float]) -> None:
    with pytest.raises(InvalidInput, match=r"logits must have shape \(samples, classes\), got"):
        confidence("top1", logits)


def test_another_name_is_refused() -> None:
    with pytest.raises(InvalidInput, match="must be top1, entropy or margin, got 'hope'"):
        confidence("hope", [[1.0]])  # type: ignore[arg-type]
