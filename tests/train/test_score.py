"""Accuracy where images have labels, else agreement. Shape letters: B images, K candidates, N outputs."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

import torch
from tiny import CLASSES, images_of, recipe_of

from splitrt.manifest import Output
from splitrt.train.score import BATCH, outputs_of, score, score_of

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

PIXELS, CLASSES_OUTPUT = recipe_of().pixels, Output(kind="classes")


def one_hot(labels_B: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
    rows_BN: npt.NDArray[np.float32] = np.eye(CLASSES, dtype=np.float32)[labels_B]
    return rows_BN


def test_accuracy_is_the_share_that_is_right_whatever_the_whole_says() -> None:
    images = images_of("tune", 20)
    given_BN = one_hot(np.concatenate([images.labels_B[:15], (images.labels_B[15:] + 1) % CLASSES]))
    whole_BN = one_hot((images.labels_B + 1) % CLASSES)
    assert score_of(given_BN, whole_BN, images, CLASSES_OUTPUT) == 0.75
    assert score_of(given_BN, None, images, CLASSES_OUTPUT) == 0.75


def test_agreement_is_the_share_that_the_whole_says_too() -> None:
    images = images_of("tune", 20, is_labelled=False)
    whole_BN = one_hot(np.arange(20) % CLASSES)
    given_BN = np.concatenate([whole_BN[:5], np.roll(whole_BN[5:], 1, axis=1)])
    assert score_of(given_BN, whole_BN, images, CLASSES_OUTPUT) == 0.25


def test_a_detector_agrees_with_itself_and_not_with_one_that_sees_nothing() -> None:
    images = images_of("tune", 2, is_labelled=False)
    row = [0.1, 0.1, 0.5, 0.5, 0.9, 3]
    seen = np.array([[row, [0, 0, 0, 0, 0, 0]]] * 2, np.float32)
    nothing = np.zeros_like(seen)
    boxes = Output(kind="boxes")
    assert score_of(seen, seen, images, boxes) == 1
    assert score_of(nothing, seen, images, boxes) == 0


def test_outputs_come_in_order_whatever_the_batches() -> None:
    images = images_of("tune", BATCH + 7)
    given = outputs_of(lambda x_BCHW: x_BCHW.mean((2, 3)), images, PIXELS)
    assert given.shape == (BATCH + 7, 3)
    last = outputs_of(lambda x_BCHW: x_BCHW.mean((2, 3)), images.some(BATCH + 7), PIXELS)[-1]
    np.testing.assert_array_equal(given[-1], last)
    np.testing.assert_allclose(
        given[:, 0], ((images.frames_BHWC[..., 0] / 255).mean((1, 2)) - 0.5) / 0.25, rtol=1e-4, atol=1e-5
    )


def test_the_whole_agrees_with_itself_on_images_without_labels() -> None:
    torch.manual_seed(0)
    whole = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, CLASSES))
    assert score(whole, whole, images_of("tune", is_labelled=False), PIXELS, CLASSES_OUTPUT) == 1
