"""Sound to spectrogram: loudness says nothing, and a voice is heard against itself."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from splitrt.codec import spectrogram
from splitrt.manifest import Audio

Float32 = npt.NDArray[np.float32]
BANDS = 12


def audio_of(**changes: object) -> Audio:
    fields = {"rate_hz": 8000, "samples": 2000, "window": 256, "hop": 100, "bands": BANDS, "low_hz": 60.0,
              "high_hz": 3900.0, "mean": (-4.0,) * BANDS, "deviation": (2.0,) * BANDS} | changes  # fmt: skip
    return Audio.model_validate(fields)


AUDIO = audio_of()


def sound(seed: int, samples: int = 2000) -> Float32:
    """Noise that comes and goes."""
    draws = np.random.default_rng(seed)
    envelope = np.sin(np.linspace(0, 9, samples)) ** 2
    return (0.2 * envelope * draws.standard_normal(samples)).clip(-1, 1).astype(np.float32)


@given(st.integers(1, 9000))
def test_a_sound_of_any_length_gives_the_declared_shape(samples: int) -> None:
    log_BT = AUDIO.log_mel(sound(1, samples))
    assert log_BT.shape == (AUDIO.bands, AUDIO.frames) == (12, 18)
    assert np.isfinite(AUDIO.hearing().hear(log_BT)).all()


@given(st.floats(0.05, 4.0))
def test_loudness_says_nothing(gain: float) -> None:
    one, other = AUDIO.log_mel(sound(2)), AUDIO.log_mel(sound(2) * np.float32(gain))
    np.testing.assert_allclose(one, other, atol=1e-2)


@pytest.mark.parametrize("silence", [0.0, 1e-12])
def test_silence_is_heard_without_a_warning(silence: float) -> None:
    found = AUDIO.hearing().hear(AUDIO.log_mel(np.full(2000, silence, np.float32)))
    assert np.isfinite(found).all()


def test_a_microphone_that_favours_some_bands_is_soon_heard_through() -> None:
    tilt_B = np.linspace(-2, 2, BANDS)[:, None].astype(np.float32)
    straight, tilted = audio_of(memory=10).hearing(), audio_of(memory=10).hearing()
    apart = []
    for seed in range(40):
        log_BT = AUDIO.log_mel(sound(seed))
        apart.append(float(np.abs(straight.hear(log_BT) - tilted.hear(log_BT + tilt_B)).mean()))
    assert apart[-1] < 0.2 * apart[0]


def test_hearing_forgets_the_voice_before() -> None:
    high, fresh = AUDIO.hearing(), AUDIO.hearing()
    for seed in range(100):
        high.hear(AUDIO.log_mel(sound(seed)) + 3)
    for seed in range(900):
        log_BT = AUDIO.log_mel(sound(seed))
        one, other = high.hear(log_BT), fresh.hear(log_BT)
    np.testing.assert_allclose(one, other, atol=0.1)


def test_every_frequency_between_the_edges_reaches_a_band() -> None:
    bank_BF = spectrogram.mel_bank(8000, 256, 40, 60, 3900)
    hz_F = np.fft.rfftfreq(256, 1 / 8000)
    inside = (hz_F > 120) & (hz_F < 3800)
    assert (bank_BF[:, inside].sum(0) > 0).all()
    assert not bank_BF[:, hz_F > 3900].any()


@pytest.mark.parametrize(
    "changes",
    [{"window": 4000}, {"high_hz": 5000.0}, {"low_hz": 3900.0}, {"mean": (0.0,)}, {"deviation": (0.0,) * BANDS}],
)
def test_an_audio_table_that_cannot_be_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="audio"):
        audio_of(**changes)
