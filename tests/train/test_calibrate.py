"""The exit's threshold and temperature, on made logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from splitrt.train.calibrate import exit_threshold, fit_temperature

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
def test_frames_that_exit_are_right_as_often_as_the_remote_answer(seed: int) -> None:
    exit_BN, labels_B = made(seed)
    remote_BN, _ = made(seed, skill=3.0)
    rule, curve = exit_threshold(exit_BN, remote_BN, labels_B)
    if curve.accuracy_at_threshold is None:
        assert rule.threshold > 1
        return
    count = round(curve.share_at_threshold * len(labels_B))
    scaled = exit_BN / rule.temperature
    weights = np.exp(scaled - scaled.max(1, keepdims=True))
    confidence_B = (weights / weights.sum(1, keepdims=True)).max(1)
    chosen = np.argsort(-confidence_B, kind="stable")[:count]
    exit_right = (exit_BN.argmax(1) == labels_B)[chosen].sum()
    assert exit_right >= (remote_BN.argmax(1) == labels_B)[chosen].sum()


def test_an_exit_that_is_always_wrong_never_exits() -> None:
    exit_BN, labels_B = made(0)
    remote_BN = np.eye(6, dtype=np.float32)[labels_B]
    rule, curve = exit_threshold(np.roll(remote_BN, 1, axis=1) * 9, remote_BN, labels_B)
    assert rule.threshold > 1
    assert curve.share_at_threshold == 0


def test_overconfident_logits_get_a_temperature_that_undoes_it() -> None:
    logits_BN, labels_B = made(3, images=4000)
    fitted = fit_temperature(logits_BN, labels_B)
    assert fit_temperature(logits_BN * 4, labels_B) == pytest.approx(4 * fitted, rel=0.02)
