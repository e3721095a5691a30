"""Sound to a stem's input: a log-mel spectrogram, as the bundle's manifest declares it.

Shape letters: N sounds, S samples, T frames in time, F frequencies, B mel bands.
Done on the device for the head; training and calibration call the same lines.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Float32 = npt.NDArray[np.float32]

SILENCE = 1e-8  # power under which there is nothing to hear
FAINT = 1e-5  # of the loudest point's power: quieter is as if it were this
VOICED = -6.9  # a frame whose loudest band is within 30 dB of the sound's loudest
LEAST_SPREAD = 0.1  # of a band's logarithm: one that is always alike is not blown up
LOWEST = -4.0
LONGEST = 40  # memories: what is older is forgotten


def placed(sound_S: Array, samples: int) -> Float32:
    """Its middle, or all of it between silence."""
    sound_S = np.asarray(sound_S, np.float32)
    spare = len(sound_S) - samples
    if spare >= 0:
        return np.ascontiguousarray(sound_S[spare // 2 : spare // 2 + samples])
    return np.pad(sound_S, (-spare // 2, -spare - (-spare // 2)))


def power(sound_NS: Float32, window: int, hop: int) -> Float32:
    """Of windows (Hann) a hop apart: (N, T, F) with T = 1 + (S - window) // hop and F = 1 + window // 2."""
    cut_NTW = np.lib.stride_tricks.sliding_window_view(sound_NS, window, axis=1)[:, ::hop]
    spectrum_NTF = np.fft.rfft(cut_NTW * np.hanning(window).astype(np.float32), axis=2)
    powers: Float32 = np.square(np.abs(spectrum_NTF)).astype(np.float32)
    return powers


def log_mel(power_NTF: Float32, bank_BF: Float32) -> Float32:
    """(N, B, T), natural logarithm, each sound's loudest point at 0: distance says nothing."""
    mel_NBT = (power_NTF @ bank_BF.T).transpose(0, 2, 1)
    peak_N11 = mel_NBT.max(axis=(1, 2), keepdims=True) + SILENCE
    logs: Float32 = np.log(np.maximum(mel_NBT / peak_N11, FAINT))
    return logs


def voiced(log_NBT: Float32) -> npt.NDArray[np.bool_]:
    """(N, T): frames that are loud enough to be of the voice rather than of the room."""
    loud: npt.NDArray[np.bool_] = log_NBT.max(axis=1) > VOICED
    return loud


def centred(log_NBT: Float32, mean_B: Float32, deviation_B: Float32) -> Float32:
    """Against the spectrum of whoever speaks: what a stem reads."""
    scaled_NBT = (log_NBT - mean_B[:, None]) / deviation_B[:, None]
    found: Float32 = np.ascontiguousarray(np.maximum(scaled_NBT, LOWEST), np.float32)
    return found


class Hearing:
    """The mean and the deviation of each band in the voice that has been heard so far. They differ from speaker to
    speaker and from microphone to microphone more than words do, so a network reads what is left when they are taken
    out (running normalisation: Viikki and Laurila, Speech Communication 25, 1998).

    Starts from the training speakers', which count for `memory` frames; what is old is forgotten as more comes.
    Nothing else is kept of what was heard: no labels, no sounds, no weights.
    """

    def __init__(self, mean_B: Float32, deviation_B: Float32, memory: int) -> None:
        self._mean_B = np.asarray(mean_B, np.float32)
        self._square_B = np.square(deviation_B, dtype=np.float32) + np.square(self._mean_B)
        self._weight, self._most = float(memory), float(LONGEST * memory)

    def hear(self, log_BT: Float32) -> Float32:
        """One sound, itself included in mean and deviation: (B, T)."""
        voiced_BV = log_BT[:, voiced(log_BT[None])[0]]
        count = voiced_BV.shape[1]
        if count:
            self._weight = min(self._weight + count, self._most)
            gain = np.float32(min(1.0, count / self._weight))
            self._mean_B = self._mean_B + gain * (voiced_BV.mean(axis=1) - self._mean_B)
            self._square_B = self._square_B + gain * (np.square(voiced_BV).mean(axis=1) - self._square_B)
        deviation_B = np.sqrt(np.maximum(self._square_B - np.square(self._mean_B), LEAST_SPREAD**2))
        return np.asarray(centred(log_BT[None], self._mean_B, deviation_B)[0])


@lru_cache(maxsize=8)
def mel_bank(rate_hz: int, window: int, bands: int, low_hz: float, high_hz: float) -> Float32:
    """Triangles over the frequencies of a window, even in mel (O'Shaughnessy's 2595 log10(1 + f / 700)): (B, F)."""
    edges = _edges(bands, low_hz, high_hz)
    bins_F = np.fft.rfftfreq(window, 1 / rate_hz)
    rising_BF = (bins_F - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling_BF = (edges[2:, None] - bins_F) / (edges[2:] - edges[1:-1])[:, None]
    bank_BF: Float32 = np.maximum(0, np.minimum(rising_BF, falling_BF)).astype(np.float32)
    bank_BF.setflags(write=False)
    return bank_BF


def mel_centres(bands: int, low_hz: float, high_hz: float) -> npt.NDArray[np.float64]:
    """In hertz, (B,)."""
    return _edges(bands, low_hz, high_hz)[1:-1]


def _edges(bands: int, low_hz: float, high_hz: float) -> npt.NDArray[np.float64]:
    low, high = (2595 * math.log10(1 + hz / 700) for hz in (low_hz, high_hz))
    edges: npt.NDArray[np.float64] = 700 * (10 ** (np.linspace(low, high, bands + 2) / 2595) - 1)
    return edges
