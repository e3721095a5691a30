"""The exit's threshold and temperature, on made logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from splitrt.train.calibrate import MOST_CHANGED, exit_threshold, fit_temperature

pytestmark = pytest.mark.torch
Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


def made(seed: int, images: int = 400, skill: float = 1.5) -> tuple[Float32, Int64]:
    """Noisy logits that favour the right class by `skill`."""
    draws = np.random.default_rng(seed)
    labels_B = draws.integers(0, 6, images)
    logits_BN = draws.normal(size=(images, 6))
    logits_BN[np.arange(images), labels_B] += skill
    return logits_BN.astype(np.float32), labels_B


@pytest.mark.parametrize("seed", range(5))
def test_hardly_a_frame_that_exits_would_have_been_answered_otherwise(seed: int) -> None:
    exit_BN, labels_B = made(seed, skill=4.0)
    whole_BN, _ = made(seed, skill=6.0)
    rule, curve = exit_threshold(exit_BN, whole_BN, labels_B)
    scaled = exit_BN / rule.temperature
    weights = np.exp(scaled - scaled.max(1, keepdims=True))
    exits_B = (weights / weights.sum(1, keepdims=True)).max(1) >= rule.threshold - 1e-6
    assert exits_B.mean() == pytest.approx(curve.share_at_threshold, abs=0.01)
    assert exits_B.any()
    changed = (exit_BN.argmax(1) != whole_BN.argmax(1))[exits_B]
    assert changed.sum() <= MOST_CHANGED * exits_B.sum() + 1


def test_an_exit_that_always_differs_never_exits() -> None:
    _, labels_B = made(0)
    whole_BN = np.eye(6, dtype=np.float32)[labels_B]
    rule, curve = exit_threshold(np.roll(whole_BN, 1, axis=1) * 9, whole_BN, labels_B)
    assert rule.threshold > 1
    assert curve.share_at_threshold == 0


def test_overconfident_logits_get_a_temperature_that_undoes_it() -> None:
    logits_BN, labels_B = made(3, images=4000)
    fitted = fit_temperature(logits_BN, labels_B)
    assert fit_temperature(logits_BN * 4, labels_B) == pytest.approx(4 * fitted, rel=0.02)
