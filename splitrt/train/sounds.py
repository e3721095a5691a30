"""Spoken words for training: clips by speaker, and virtual speakers made of real ones.

Shape letters: V virtual speakers, N clips, B bands, T time, S samples.
Speech is split by speaker, never by take: two takes of one voice are nearly the same sound. A virtual speaker is a real
one with another tempo and pitch (the clip resampled) and another vocal tract (bands shifted along frequency: Jaitly and
Hinton, 2013), in noise; it is heard, as a real one is on a device, against its own mean and deviation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitrt.codec.spectrogram import centred, mel_centres, voiced
from splitrt.errors import ConfigError
from splitrt.manifest import Audio

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]

FILE = "speech_digits/digits_8khz.npz"
RATES = tuple(np.geomspace(0.8, 1.25, 5))
TRACTS = tuple(np.geomspace(0.85, 1.18, 5))
VOICE = 1.16  # of the gates' hearing: so many times as long a vocal tract
QUIET_DB, LOUD_DB = 50.0, 12.0  # speech over noise


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    sounds: list[Float32]  # in -1..1
    labels_N: Int64
    speakers_N: Int64
    names: tuple[str, ...]  # of the speakers

    def __len__(self) -> int:
        return len(self.sounds)

    def of(self, speakers: Sequence[str]) -> Clips:
        """Those of some speakers. Raises ConfigError on one that is not there."""
        unknown = [name for name in speakers if name not in self.names]
        if unknown:
            raise ConfigError(f"speakers must be among {', '.join(self.names)}, got {unknown[0]!r}")
        places = np.flatnonzero(np.isin(self.speakers_N, [self.names.index(name) for name in speakers]))
        return Clips(
            sounds=[self.sounds[i] for i in places],
            labels_N=self.labels_N[places],
            speakers_N=self.speakers_N[places],
            names=self.names,
        )


def read_clips(folder: Path) -> Clips:
    """Every clip of the spoken digits. Raises ConfigError where they are not there."""
    path = folder / FILE
    if not path.is_file():
        raise ConfigError(f"spoken digits must be at {path}; give the data folder with --data or SPLITRT_DATA")
    with np.load(path, allow_pickle=False) as archive:
        pcm, offset = archive["pcm"], archive["offset"]
        labels_N, speakers_N = archive["digit"].astype(np.int64), archive["speaker"].astype(np.int64)
        names = tuple(str(name) for name in archive["speaker_names"])
    sounds = [pcm[a:b].astype(np.float32) / 32768 for a, b in zip(offset[:-1], offset[1:], strict=True)]
    return Clips(sounds=sounds, labels_N=labels_N, speakers_N=speakers_N, names=names)


def voice(audio: Audio, tract: float = VOICE) -> Float32:
    """(B, B): reads every band at `tract` times its frequency."""
    hz_B, places_B = mel_centres(audio.bands, audio.low_hz, audio.high_hz), np.arange(audio.bands)
    hats_BB = np.interp(hz_B * tract, hz_B, places_B)[:, None] - places_B
    return np.asarray(np.maximum(0, 1 - np.abs(hats_BB)), np.float32)


def statistics(log_NBT: Float32) -> tuple[Float32, Float32]:
    """mean_B and deviation_B over voiced frames."""
    voiced_VB = log_NBT.transpose(0, 2, 1)[voiced(log_NBT)]
    return voiced_VB.mean(axis=0), voiced_VB.std(axis=0)


def spectrograms(clips: Clips, audio: Audio) -> Float32:
    """(N, B, T), as they are."""
    return np.stack([audio.log_mel(sound_S) for sound_S in clips.sounds])


def virtual_speakers(clips: Clips, audio: Audio, seed: int) -> Float32:
    """(V, N, B, T): every clip as each virtual speaker of its own would say it, and as it is; all centred."""
    draws = np.random.default_rng(seed)
    plain = spectrograms(clips, audio)
    said = [_centred_by_speaker(plain, clips.speakers_N)]
    for rate in RATES:
        noisy = [_in_noise(_resampled(sound_S, rate), draws) for sound_S in clips.sounds]
        log_NBT = np.stack([audio.log_mel(sound_S) for sound_S in noisy])
        said += [_centred_by_speaker(_shifted(log_NBT, audio, tract), clips.speakers_N) for tract in TRACTS]
    return np.stack(said)


def augmented(said_VNBT: Float32, chosen: Int64, draws: np.random.Generator) -> Float32:
    """(len(chosen), 1, B, T): each by a virtual speaker, at another tempo, in another place, with parts missing."""
    log_BT = said_VNBT[draws.integers(len(said_VNBT), size=len(chosen)), chosen]
    count, bands, length = log_BT.shape
    steps = np.arange(length) - length / 2
    places = steps * draws.uniform(0.75, 1.35, (count, 1)) + length / 2 + draws.uniform(-8, 8, (count, 1))
    moved = _interpolated(log_BT.transpose(0, 2, 1), places + 2.5 * _smooth(count, length, draws)).transpose(0, 2, 1)
    moved = np.ascontiguousarray(moved + 0.15 * draws.standard_normal((count, 1, 1)), np.float32)
    for one_BT in moved:  # Park et al., 2019, arXiv:1904.08779
        for _ in range(2):
            high, wide = draws.integers(0, 7), draws.integers(0, 9)
            band, start = draws.integers(0, bands - high), draws.integers(0, length - wide)
            one_BT[band : band + high] = 0
            one_BT[:, start : start + wide] = one_BT.min() if draws.random() < 0.5 else 0
    return moved[:, None]


def heard(clips: Clips, audio: Audio, seed: int) -> Float32:
    """(N, 1, B, T) as a device hears them that has never met these speakers: each speaker's clips in some order, one
    after the other, against what was heard before.
    """
    log_NBT = spectrograms(clips, audio)
    order, found = np.random.default_rng(seed).permutation(len(clips)), np.empty_like(log_NBT)
    for speaker in np.unique(clips.speakers_N):
        hearing = audio.hearing()
        for place in order[clips.speakers_N[order] == speaker]:
            found[place] = hearing.hear(log_NBT[place])
    return found[:, None]


def _centred_by_speaker(log_NBT: Float32, speakers_N: Int64) -> Float32:
    found = np.empty_like(log_NBT)
    for speaker in np.unique(speakers_N):
        mine = speakers_N == speaker
        found[mine] = centred(log_NBT[mine], *statistics(log_NBT[mine]))
    return found


def _resampled(sound_S: Float32, rate: float) -> Float32:
    places = np.linspace(0, len(sound_S) - 1, int(len(sound_S) / rate))
    return np.asarray(np.interp(places, np.arange(len(sound_S)), sound_S), np.float32)


def _in_noise(sound_S: Float32, draws: np.random.Generator) -> Float32:
    level = np.sqrt(np.mean(np.square(sound_S))) * 10 ** (-draws.uniform(LOUD_DB, QUIET_DB) / 20)
    return np.asarray(sound_S + level * draws.standard_normal(len(sound_S)), np.float32)


def _shifted(log_NBT: Float32, audio: Audio, tract: float) -> Float32:
    """Every band read at `tract` times its frequency."""
    hz_B = mel_centres(audio.bands, audio.low_hz, audio.high_hz)
    places_B = np.interp(hz_B * tract, hz_B, np.arange(audio.bands))
    return _interpolated(log_NBT, np.broadcast_to(places_B, log_NBT.shape[:2]))


def _interpolated(values_NPX: Float32, places_NQ: npt.NDArray[np.float64]) -> Float32:
    """(N, Q, X): along the second axis, its ends held."""
    most = values_NPX.shape[1] - 1
    places_NQ = np.clip(places_NQ, 0, most - 1e-3)
    low_NQ = places_NQ.astype(np.int64)
    share_NQ1 = (places_NQ - low_NQ).astype(np.float32)[..., None]
    rows_N1 = np.arange(len(values_NPX))[:, None]
    found: Float32 = values_NPX[rows_N1, low_NQ] * (1 - share_NQ1) + values_NPX[rows_N1, low_NQ + 1] * share_NQ1
    return found


def _smooth(count: int, length: int, draws: np.random.Generator) -> npt.NDArray[np.float64]:
    """(count, length): noise that changes slowly, through five knots."""
    knots = draws.standard_normal((count, 5))
    place = np.linspace(0, 4 - 1e-6, length)
    low = place.astype(int)
    share = 0.5 - 0.5 * np.cos(np.pi * (place - low))
    return np.asarray(knots[:, low] * (1 - share) + knots[:, low + 1] * share)
