"""A sound from the caller: checked, and turned into float samples.

Shape letters: S samples.
Takes numpy int16, or float in -1..1, mono; also a torch tensor of these, without importing torch. At which rate it was
recorded an array does not say: the bundle's manifest says which is wanted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.errors import InvalidInput

Float32 = npt.NDArray[np.float32]

MAX_SAMPLES = 1 << 24
WANTED = "a sound must be mono int16, or float in -1..1, of shape (S,)"


def to_sound(given: Any) -> Float32:
    """float32 (S,), a copy. Raises InvalidInput with what was given."""
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    if not isinstance(given, np.ndarray):
        raise InvalidInput(f"{WANTED}, got {type(given).__module__}.{type(given).__qualname__}")
    if given.ndim != 1 or not 1 <= len(given) <= MAX_SAMPLES:
        raise InvalidInput(f"{WANTED} with 1 to {MAX_SAMPLES} samples, got shape {given.shape}")
    if given.dtype == np.int16:
        return given.astype(np.float32) / np.float32(32768)
    if given.dtype.kind != "f":
        raise InvalidInput(f"{WANTED}, got dtype {given.dtype.str}")
    if not np.abs(given).max() <= 1:  # also NaN
        raise InvalidInput(f"{WANTED}, got values beyond, or NaN")
    return given.astype(np.float32)
