"""When an answer of the device's own is final: never below the certified threshold, at the link's price above it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from splitrt.bundle import Bundle
from splitrt.config import ClientConfig
from splitrt.device.client import AsyncClient
from splitrt.device.head import OnnxHead
from splitrt.device.link import ScriptedLink
from splitrt.device.local import BottleneckDevice, Looked
from splitrt.device.result import Classes
from splitrt.device.strategy import Adaptive, choices_of
from splitrt.policy.decision import Choice
from splitrt.policy.link import LinkEstimate
from splitrt.policy.queue import InFlight
from splitrt.rpc.frames import Frame, Reply

UInt8 = npt.NDArray[np.uint8]
FREE = {"price_per_s": 0.0, "price_per_kb": 0.0}
OTHER, SAME = np.eye(6, dtype=np.float32)[:2] * 9


def floor_of(bundle: Bundle) -> float:
    assert bundle.manifest.exits is not None
    return bundle.manifest.exits.threshold


def sent(bundle: Bundle, in_time: float = 0.99) -> Choice:
    return replace(choices_of(bundle)[-1], in_time=in_time)


def threshold(bundle: Bundle, choice: Choice | None, **settings: Any) -> float:
    found = Adaptive(bundle, ClientConfig(**settings)).threshold(LinkEstimate(), choice)
    assert found is not None
    return found


def looked(is_sure: bool) -> Looked:
    answer = Classes(scores=np.array([0.9, 0.1], np.float32), labels=("a", "b"))
    return Looked(features=None, answer=answer, is_sure=is_sure, head_s=0.0)


def test_a_link_that_costs_nothing_asks_for_more_than_the_certified_threshold(photos: Bundle) -> None:
    assert threshold(photos, sent(photos), **FREE) > floor_of(photos)


@pytest.mark.parametrize("dear", [{"price_per_s": 1e3}, {"price_per_kb": 1e3}, {"price_per_joule": 1e3}])
def test_a_dear_link_asks_for_the_certified_threshold_and_never_less(photos: Bundle, dear: dict[str, float]) -> None:
    assert threshold(photos, sent(photos), **(FREE | dear)) == floor_of(photos)


def test_a_link_that_is_down_or_hopeless_makes_no_answer_below_it_voluntary(photos: Bundle) -> None:
    assert threshold(photos, None, **FREE) == floor_of(photos)
    assert threshold(photos, sent(photos, in_time=1e-9), **FREE) == floor_of(photos)


def test_a_bundle_without_exits_has_no_threshold(photos: Bundle) -> None:
    manifest = photos.manifest.model_copy(update={"exits": None})
    calibration = photos.calibration.model_copy(update={"exit": None})
    bare = replace(photos, manifest=manifest, calibration=calibration)
    strategy = Adaptive(bare)
    assert strategy.threshold(LinkEstimate(), sent(photos)) is None
    assert not strategy.is_final(looked(False), sent(photos))


def test_sure_frames_are_final_but_for_the_audited_share(photos: Bundle) -> None:
    strategy = Adaptive(photos, ClientConfig(audit_share=0.25, audit_seed=4))
    final = [strategy.is_final(looked(True), sent(photos)) for _ in range(400)]
    assert 0.15 < 1 - np.mean(final) < 0.35
    assert not any(strategy.is_final(looked(False), sent(photos)) for _ in range(20))
    assert all(strategy.is_final(looked(True), None) for _ in range(100))  # nothing can be sent


def test_drift_raises_the_threshold_and_agreement_does_not(photos: Bundle) -> None:
    for output, is_drift in (("a", False), ("b", True)):
        strategy = Adaptive(photos, ClientConfig(audit_share=1.0))
        reply = Classes(scores=np.array([output == "a", output == "b"], np.float32), labels=("a", "b"))
        for _ in range(60):
            strategy.is_final(looked(True), sent(photos))
            strategy.answered(looked(True), reply)
        found = strategy.threshold(LinkEstimate(), None)
        assert found is not None
        assert (found > floor_of(photos)) == is_drift


async def test_audited_frames_are_answered_by_the_server_and_counted(photos: Bundle, frame_HWC: UInt8) -> None:
    def good(frame: Frame) -> tuple[float, Reply | None]:
        return 0.0, Reply(seq=frame.seq, outputs=(OTHER,))

    assert photos.manifest.exits is not None
    rule = photos.manifest.exits.model_copy(update={"threshold": 0.0})
    always = replace(photos, manifest=photos.manifest.model_copy(update={"exits": rule}))
    config = ClientConfig(audit_share=0.5, audit_seed=1, deadline_ms=20_000, price_per_s=1e6)
    async with ScriptedLink(good) as link:
        client = AsyncClient(BottleneckDevice(always, OnnxHead(always)), link, LinkEstimate(), config=config)
        sources = [(await client.infer(frame_HWC)).source for _ in range(20)]
        await client.aclose()
    audited = sources.count("remote")
    assert 0 < audited < 20
    assert sources.count("exit") == 20 - audited
    text = client.metrics.snapshot()
    assert f"splitrt_exits_audited {audited}.0" in text
    assert f'splitrt_device_frames_total{{bundle="photos",outcome="exit"}} {20 - audited}.0' in text
    assert f'splitrt_device_frames_total{{bundle="photos",outcome="remote"}} {audited}.0' in text
    assert "splitrt_exit_share_ratio 1.0" in text


def test_a_later_exit_is_asked_only_where_the_one_before_is_not_sure(photos: Bundle, frame_HWC: UInt8) -> None:
    class Counting(OnnxHead):
        asked = 0

        def exits(self, features_1FHW: Any) -> Any:
            for logits_N in super().exits(features_1FHW):
                self.asked += 1
                yield logits_N

    head = Counting(photos)
    device = BottleneckDevice(photos, head)
    assert device.look(frame_HWC, threshold=0.0).is_sure
    assert head.asked == 1
    assert not device.look(frame_HWC, threshold=1.01).is_sure
    assert head.asked == 3


@pytest.mark.parametrize(
    ("broken", "has_answer", "is_sure"), [((0, 1), False, False), ((1,), True, False), ((0,), True, True)]
)
def test_logits_that_are_no_numbers_are_no_answer(
    photos: Bundle, frame_HWC: UInt8, broken: tuple[int, ...], has_answer: bool, is_sure: bool
) -> None:
    class Broken(OnnxHead):
        def exits(self, features_1FHW: Any) -> Any:
            for place, logits_N in enumerate(super().exits(features_1FHW)):
                yield np.full_like(logits_N, np.nan) if place in broken else np.eye(6, dtype=np.float32)[0] * 20 * place

    looked = BottleneckDevice(photos, Broken(photos)).look(frame_HWC)
    assert (looked.answer is not None, looked.is_sure) == (has_answer, is_sure)


def test_a_service_level_holds_frames_back_after_misses_and_without_one_none_is_held_back(photos: Bundle) -> None:
    for most_misses, is_held in ((0.01, True), (None, False)):
        strategy = Adaptive(photos, ClientConfig(most_misses=most_misses))
        in_flight, link = InFlight(at=0.0), LinkEstimate()
        first = strategy.choose(link, 0.5, in_flight)
        assert first is not None
        for _ in range(40):
            strategy.ended(replace(first, is_probe=False), False)
        later = strategy.choose(link, 0.5, in_flight)
        assert (later is None or later.is_probe) == is_held
