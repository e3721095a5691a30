"""The integer tables and ranges that encoder and decoder must share, and their digest.

`tables.npz` of a bundle. The digest is over the arrays' names, dtypes, shapes and bytes, not over the
file, so that re-zipping it changes nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec.npz import read_npz
from splitrt.codec.quantise import Ranges
from splitrt.errors import BundleError, ConfigError

MAX_TABLES_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Tables:
    """Ranges of every bottleneck channel."""

    ranges: Ranges

    def digest(self) -> bytes:
        """SHA-256 over the content: 32 bytes."""
        sha = hashlib.sha256()
        for name, array in sorted(self._arrays().items()):
            sha.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.digest()

    def save(self, path: Path) -> None:
        arrays: dict[str, Any] = dict(self._arrays())  # numpy's stub takes named arrays for its own options
        np.savez(path, **arrays)

    def _arrays(self) -> dict[str, npt.NDArray[Any]]:
        return {"range_low": self.ranges.low_C, "range_high": self.ranges.high_C}


def load_tables(path: Path) -> Tables:
    """Read tables.npz. Raises BundleError on anything else."""
    arrays = read_npz(path, MAX_TABLES_BYTES)
    try:
        return Tables(ranges=Ranges(low_C=arrays["range_low"], high_C=arrays["range_high"]))
    except (KeyError, ConfigError) as error:
        raise BundleError(f"{path.name} must hold range_low and range_high of every channel: {error}") from error
