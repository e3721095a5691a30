"""The synchronous client's `submit`: what was given is the caller's again when it returns."""

from __future__ import annotations

import numpy as np
import pytest

import splitrt
from splitrt.bundle import Bundle
from splitrt.device.strategy import Alone
from splitrt.device.sync import Client
from splitrt.errors import ClientClosed, InvalidInput

SIZE = (96, 96, 3)


def alone(bundle: Bundle) -> Alone:
    return Alone()


def connected() -> Client:
    return splitrt.connect("127.0.0.1:9", bundle="photos", strategy=alone, connect_timeout_s=0.05)


def test_a_cameras_buffer_may_be_written_again_as_soon_as_its_frame_was_submitted() -> None:
    dark, buffer = np.zeros(SIZE, np.uint8), np.empty(SIZE, np.uint8)
    with connected() as client:
        wanted = client.infer(dark, deadline_ms=5_000).scores
        for _ in range(10):
            buffer[:] = dark
            submitted = client.submit(buffer, deadline_ms=5_000)
            buffer[:] = 255
            np.testing.assert_array_equal(submitted.result().scores, wanted)


def test_what_is_no_frame_is_refused_in_its_future_and_a_closed_client_at_once() -> None:
    with connected() as client:
        refused = client.submit(np.zeros(SIZE, np.float32))
        with pytest.raises(InvalidInput, match="must be numpy uint8"):
            refused.result()
    with pytest.raises(ClientClosed):
        client.submit(np.zeros(SIZE, np.uint8))
