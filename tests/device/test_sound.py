"""What a caller may give as a sound, and that everything else is refused before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from splitrt.device.sound import to_sound
from splitrt.errors import InvalidInput


def test_int16_and_float_are_the_same_sound() -> None:
    pcm = np.array([0, 16384, -32768], np.int16)
    np.testing.assert_array_equal(to_sound(pcm), [0, 0.5, -1])
    np.testing.assert_array_equal(to_sound(np.array([0, 0.5, -1], np.float64)), to_sound(pcm))


def test_the_callers_buffer_is_copied() -> None:
    given = np.zeros(4, np.float32)
    taken = to_sound(given)
    given += 1
    assert not taken.any()


@pytest.mark.parametrize(
    "given",
    [
        np.zeros((2, 8), np.int16),
        np.zeros(0, np.int16),
        np.zeros(8, np.uint8),
        np.array([0.0, np.nan]),
        np.array([0.0, 1.5]),
        [0.0, 0.1],
        "seven",
    ],
)
def test_anything_else_is_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="a sound must be mono"):
        to_sound(given)
