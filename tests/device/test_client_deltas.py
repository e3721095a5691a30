"""Which frames a client sends as differences, and to which: never to one that the server cannot have."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from splitrt import errors
from splitrt.bundle import Bundle
from splitrt.codec.payload import Codec
from splitrt.config import ClientConfig
from splitrt.device.client import AsyncClient
from splitrt.device.head import OnnxHead
from splitrt.device.link import ScriptedLink
from splitrt.device.local import BottleneckDevice, Device, Encoded, Looked
from splitrt.device.strategy import Fixed
from splitrt.errors import SplitError
from splitrt.policy.decision import Choice
from splitrt.policy.link import LinkEstimate
from splitrt.rpc.frames import MOST_BACK, Frame, Reply

UInt8 = npt.NDArray[np.uint8]
Script = Callable[[Frame], tuple[float, Reply | None]]

OUTPUTS = np.array([0, 0, 9, 0, 0, 0], np.float32)


def good(frame: Frame) -> tuple[float, Reply | None]:
    return 0.0, Reply(seq=frame.seq, outputs=(OUTPUTS,))


class Wilful(Fixed):
    """Does what its fields say at the moment."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.width, self.bits, self.stays = 8, 4, False

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        return self.stays

    def encode(self, device: Device, frame_HWC: UInt8, looked: Looked, choice: Choice) -> Encoded:
        if not self.width:
            return device.photograph(frame_HWC, 80)
        return device.encode(looked, self.width, self.bits)


@asynccontextmanager
async def client_of(
    bundle: Bundle, script: Script = good, **settings: Any
) -> AsyncIterator[tuple[AsyncClient, list[Frame], Wilful]]:
    config = ClientConfig(**({"deadline_ms": 20_000, "deltas": True} | settings))
    async with ScriptedLink(script) as link:
        strategy = Wilful()
        client = AsyncClient(
            BottleneckDevice(bundle, OnnxHead(bundle)), link, LinkEstimate(), config=config, strategy=strategy
        )
        yield client, link.sent, strategy
        await client.aclose()


def kinds(frames: list[Frame]) -> list[tuple[int, int]]:
    """Seq, and how far back: 0 for a whole frame."""
    for frame in frames:
        assert (frame.codec is Codec.DELTA) == (frame.back > 0)
    return [(frame.seq, frame.back) for frame in frames]


async def test_a_still_scene_is_sent_as_differences_to_the_frame_before(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos) as (client, sent, _):
        results = [await client.infer(frame_HWC) for _ in range(3)]
    assert kinds(sent) == [(1, 0), (2, 1), (3, 1)]
    assert {result.source for result in results} == {"remote"}
    assert sent[1].payload_bytes < sent[0].payload_bytes / 3
    assert [result.payload_bytes for result in results] == [frame.payload_bytes for frame in sent]


async def test_a_scene_that_changes_entirely_is_sent_whole(photos: Bundle, frame_HWC: UInt8) -> None:
    noise_HWC = np.random.default_rng(0).integers(0, 256, frame_HWC.shape, dtype=np.uint8)
    async with client_of(photos) as (client, sent, _):
        for one in (frame_HWC, noise_HWC, frame_HWC):
            await client.infer(one)
    assert kinds(sent) == [(1, 0), (2, 0), (3, 0)]


async def test_a_client_that_was_not_asked_to_sends_no_differences(photos: Bundle, frame_HWC: UInt8) -> None:
    async with client_of(photos, deltas=False) as (client, sent, _):
        for _ in range(3):
            await client.infer(frame_HWC)
    assert kinds(sent) == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize(("width", "bits"), [(4, 4), (8, 3), (0, 0)], ids=["width", "depth", "photograph"])
async def test_a_frame_at_another_point_is_sent_whole(photos: Bundle, frame_HWC: UInt8, width: int, bits: int) -> None:
    async with client_of(photos) as (client, sent, strategy):
        await client.infer(frame_HWC)
        strategy.width, strategy.bits = width, bits
        await client.infer(frame_HWC)
        strategy.width, strategy.bits = 8, 4
        await client.infer(frame_HWC)
    assert kinds(sent) == [(1, 0), (2, 0), (3, 0)]


@pytest.mark.parametrize(
    "error",
    [errors.ReferenceGone("gone"), errors.IntegrityError("no"), errors.LinkLost("no"), errors.ServerDraining("no")],
    ids=lambda error: str(error.code),
)
async def test_a_difference_that_fails_is_sent_again_whole_and_answered(
    photos: Bundle, frame_HWC: UInt8, error: SplitError
) -> None:
    def refuses_differences(frame: Frame) -> tuple[float, Reply | None]:
        return (0.0, Reply(seq=frame.seq, error=error)) if frame.back else good(frame)

    async with client_of(photos, refuses_differences) as (client, sent, _):
        results = [await client.infer(frame_HWC) for _ in range(2)]
    assert kinds(sent) == [(1, 0), (2, 1), (2, 0)]
    assert [result.source for result in results] == ["remote", "remote"]


async def test_after_a_frame_that_failed_the_next_is_sent_whole(photos: Bundle, frame_HWC: UInt8) -> None:
    def refuses_the_second(frame: Frame) -> tuple[float, Reply | None]:
        return (0.0, Reply(seq=frame.seq, error=errors.BadFrame("no"))) if frame.seq == 2 else good(frame)

    async with client_of(photos, refuses_the_second) as (client, sent, _):
        for _ in range(4):
            await client.infer(frame_HWC)
    assert kinds(sent) == [(1, 0), (2, 1), (3, 0), (4, 1)]


async def test_a_frame_that_was_overtaken_is_no_difference_to_the_one_that_did(
    photos: Bundle, frame_HWC: UInt8
) -> None:
    """Frame 2 is refused and waits; frame 3 is answered meanwhile; then 2 is sent again."""

    def the_second_is_refused_once(frame: Frame) -> tuple[float, Reply | None]:
        tries.append(frame.seq)
        if frame.seq == 2 and tries.count(2) == 1:
            return 0.0, Reply(seq=2, error=errors.Overloaded("busy", retry_after_ms=400))
        return good(frame)

    tries: list[int] = []
    async with client_of(photos, the_second_is_refused_once) as (client, sent, _):
        await client.infer(frame_HWC)
        refused = client.submit(frame_HWC)
        while tries.count(2) == 0:
            await asyncio.sleep(0)
        assert (await client.infer(frame_HWC)).source == "remote"
        assert tries.count(2) == 1
        assert (await refused).source == "remote"
    assert [frame.seq for frame in sent] == [1, 2, 3, 2]
    assert kinds(sent)[-1] == (2, 0)


@pytest.mark.parametrize(("alone", "back"), [(MOST_BACK - 1, MOST_BACK), (MOST_BACK, 0)])
async def test_a_reference_too_far_back_is_not_referred_to(
    photos: Bundle, frame_HWC: UInt8, alone: int, back: int
) -> None:
    """So many frames in between the device answered by itself."""
    async with client_of(photos) as (client, sent, strategy):
        await client.infer(frame_HWC)
        strategy.stays = True
        for _ in range(alone):
            assert (await client.infer(frame_HWC)).source == "exit"
        strategy.stays = False
        assert (await client.infer(frame_HWC)).source == "remote"
    assert kinds(sent) == [(1, 0), (alone + 2, back)]
