"""The always-on gate end to end: real recordings, a network trained here, a real server and client."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("onnxscript", reason="needs the torch extra")

import torch
from loopback import serving

import splitrt
from splitrt.bundle import Bundle, load_bundle
from splitrt.device.captured import CapturedDevice
from splitrt.device.result import Classes, Nothing, Result
from splitrt.device.strategy import Fixed
from splitrt.errors import ConfigError, InvalidInput
from splitrt.halves import open_half
from splitrt.train.keyword import make_keyword, read_spoken_recipe
from splitrt.train.sounds import Clips, heard, read_clips
from splitrt.train.spoken import SpokenRecipe

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread"), pytest.mark.slow]
Float32 = npt.NDArray[np.float32]
ROOT = Path(__file__).resolve().parents[2]
UNHEARD = "nicolas"


class Unwatched:
    def line(self, text: str) -> None:
        return

    def step(self, phase: str, done: int, total: int) -> None:
        return


@pytest.fixture(scope="module")
def recipe() -> SpokenRecipe:
    """The repository's, shortened: what it learns here is little, how it is certified and served is the same."""
    whole = read_spoken_recipe(ROOT / "recipes/keyword.toml")
    short = whole.gate.model_copy(update={"epochs": 3, "width": 8})
    return whole.model_copy(update={"speakers": ("george", "lucas"), "gate": short})


@pytest.fixture(scope="module")
def keyword(recipe: SpokenRecipe, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    torch.set_num_threads(1)
    return load_bundle(make_keyword(recipe, data, tmp_path_factory.mktemp("keyword"), Unwatched()))


@pytest.fixture(scope="module")
def unheard(data: Path) -> Clips:
    return read_clips(data).of((UNHEARD,))


async def test_each_sound_is_stopped_here_or_answered_by_the_server(keyword: Bundle, unheard: Clips) -> None:
    sounds = unheard.sounds[::5]
    async with serving(bundles=(str(keyword.folder),)) as server:
        strategy = lambda bundle: Fixed(bundle.manifest.seam.widths[0], 4)  # noqa: E731
        async with splitrt.connect_async(
            server.address, bundle=str(keyword.folder), deadline_ms=20_000, strategy=strategy
        ) as client:
            results: list[Result] = [await client.infer(sound_S) for sound_S in sounds]
            share = client.metrics.share(keyword.manifest.name, "gate")
    stopped = [result for result in results if result.source == "gate"]
    assert {result.source for result in results} == {"gate", "remote"}
    assert share == len(stopped) / len(results)
    for result in results:
        if result.source == "gate":
            assert (result.link_bytes, result.label) == (0, "nothing")
            assert isinstance(result.output, Nothing)
        else:
            assert result.link_bytes > 0
            assert isinstance(result.output, Classes)
            assert result.label in keyword.manifest.output.labels


def test_a_device_hears_as_training_heard(keyword: Bundle, unheard: Clips, recipe: SpokenRecipe) -> None:
    audio = keyword.manifest.audio
    assert audio is not None
    few = Clips(
        sounds=unheard.sounds[:20],
        labels_N=unheard.labels_N[:20],
        speakers_N=unheard.speakers_N[:20],
        names=unheard.names,
    )
    wanted, hearing = heard(few, audio, recipe.seed), audio.hearing()
    for place in np.random.default_rng(recipe.seed).permutation(20):
        np.testing.assert_allclose(hearing.hear(audio.log_mel(few.sounds[place])), wanted[place, 0], atol=1e-5)


def test_the_bundle_says_on_what_its_promise_rests(keyword: Bundle) -> None:
    record = keyword.calibration.gate
    assert record is not None
    assert (record.recall, record.delta, record.positives, record.negatives) == (0.9, 0.1, 50, 450)
    assert keyword.manifest.gate is not None
    assert keyword.manifest.gate.positives == ("seven",)
    assert record.lost <= 0.1 * record.positives


def test_a_bundle_of_sounds_refuses_photographs(keyword: Bundle, frame_HWC: npt.NDArray[np.uint8]) -> None:
    device = CapturedDevice(keyword, open_half(keyword, "head"))
    with pytest.raises(InvalidInput, match="a sound must be mono"):
        device.take(frame_HWC)
    with pytest.raises(InvalidInput, match="takes sounds, got a photograph"):
        device.photograph(frame_HWC, 50)


def test_no_recipe_hears_the_speaker_that_is_kept_for_tests() -> None:
    assert UNHEARD not in read_spoken_recipe(ROOT / "recipes/keyword.toml").speakers


def test_a_speaker_that_is_not_there_is_refused(data: Path) -> None:
    with pytest.raises(ConfigError, match="speakers must be among george"):
        read_clips(data).of(("anna",))
