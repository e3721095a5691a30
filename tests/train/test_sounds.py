"""Sounds for training: voices are kept apart, and a made voice is still a sound of the declared shape."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

pytest.importorskip("torch")

from splitrt.codec.spectrogram import mel_centres
from splitrt.errors import ConfigError
from splitrt.manifest import Audio
from splitrt.train.keyword import measured
from splitrt.train.sounds import Clips, augmented, read_clips, spectrograms, statistics, virtual_speakers, voice
from splitrt.train.spoken import GatePhase, Sound, SpokenRecipe, asked, channels_allowed

pytestmark = pytest.mark.torch
SOUND = Sound(rate_hz=8000, samples=2000, window=256, hop=100, bands=12, low_hz=60.0, high_hz=3900.0)


def clips(count: int = 6) -> Clips:
    draws = np.random.default_rng(0)
    sounds = [draws.uniform(-0.5, 0.5, 900 + 300 * i).astype(np.float32) for i in range(count)]
    return Clips(sounds=sounds, labels_N=np.arange(count) % 3, speakers_N=np.arange(count) % 2, names=("ann", "bob"))


@pytest.fixture
def audio() -> Audio:
    return measured(SOUND, clips())


def test_clips_of_a_speaker_are_all_of_that_speaker() -> None:
    mine = clips().of(("bob",))
    assert (len(mine), set(mine.speakers_N.tolist())) == (3, {1})


def test_hearing_starts_from_what_the_training_speakers_are_like(audio: Audio) -> None:
    mean_B, deviation_B = statistics(spectrograms(clips(), audio))
    np.testing.assert_allclose(audio.mean, mean_B, rtol=1e-5)
    np.testing.assert_allclose(audio.deviation, deviation_B, rtol=1e-5)


def test_every_virtual_speaker_says_every_clip_and_each_voice_is_centred(audio: Audio) -> None:
    said_VNBT = virtual_speakers(clips(), audio, seed=0)
    assert said_VNBT.shape == (26, 6, audio.bands, audio.frames)
    assert np.isfinite(said_VNBT).all()
    plain = said_VNBT[0, clips().speakers_N == 0]
    loud = spectrograms(clips(), audio)[clips().speakers_N == 0].max(axis=1) > -6.9
    np.testing.assert_allclose(plain.transpose(0, 2, 1)[loud].mean(axis=0), 0, atol=0.05)


def test_augmented_sounds_are_of_the_chosen_clips_and_differ_from_draw_to_draw(audio: Audio) -> None:
    said_VNBT, draws = virtual_speakers(clips(), audio, seed=0), np.random.default_rng(1)
    one, other = (augmented(said_VNBT, np.array([0, 3, 3]), draws) for _ in range(2))
    assert one.shape == (3, 1, audio.bands, audio.frames)
    assert np.isfinite(one).all()
    assert not np.array_equal(one, other)


def test_a_voice_reads_every_band_at_so_many_times_its_frequency(audio: Audio) -> None:
    np.testing.assert_allclose(voice(audio, 1.0), np.eye(audio.bands), atol=1e-6)
    hz_B = mel_centres(audio.bands, audio.low_hz, audio.high_hz)
    np.testing.assert_allclose((voice(audio, 1.2) @ hz_B)[:10], 1.2 * hz_B[:10], rtol=1e-3)


def test_half_of_a_batch_is_asked_for_its_own_word_and_the_rest_for_another() -> None:
    labels_B: npt.NDArray[np.int64] = np.arange(2_000) % 5
    is_in_BN = asked(labels_B, 5, np.random.default_rng(0))
    assert (is_in_BN.sum(1) == 1).all()
    assert is_in_BN[np.arange(2_000), labels_B].mean() == pytest.approx(0.5, abs=0.04)
    assert (is_in_BN.mean(0) > 0.1).all()


def test_the_seam_narrows_to_its_share_while_beta_grows() -> None:
    allowed = [channels_allowed(64, 0.1, share) for share in np.linspace(0, 1, 21)]
    assert (allowed[0], allowed[-1]) == (64, 6)
    assert allowed == sorted(allowed, reverse=True)
    assert channels_allowed(4, 0.1, 1.0) == 1


@pytest.mark.parametrize("keywords", [("a", "b"), ("c",)])
def test_keywords_must_be_some_of_the_words(keywords: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="keywords must be some of words"):
        SpokenRecipe(name="x", version="1", words=("a", "b"), keywords=keywords, speakers=("ann", "bob"),
                     sound=SOUND, gate=GatePhase(epochs=1))  # fmt: skip


def test_recordings_that_are_not_there_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="spoken digits must be at"):
        read_clips(tmp_path)
