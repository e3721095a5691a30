"""Quantiser ranges and priors that encoder and decoder must share, by bits, and their digest.

`tables.npz` of a bundle. The digest is over the arrays' names, dtypes, shapes and bytes, not over the
file, so that re-zipping it changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec import prior as priors
from splitrt.codec.npz import read_npz
from splitrt.codec.prior import Prior
from splitrt.codec.quantise import BITS, Ranges
from splitrt.errors import BundleError, ConfigError, WidthUnsupported

MAX_TABLES_BYTES = 16 << 20

Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tables:
    """Ranges of every bottleneck channel for each bit depth (rate tiers scale channels apart), and its prior if any."""

    ranges: Mapping[int, Ranges]
    priors: Mapping[int, Prior]

    def __post_init__(self) -> None:
        if not self.ranges or not set(self.priors) <= set(self.ranges) <= set(BITS):
            raise ConfigError(
                f"tables must have ranges for some bits of {BITS} and priors for those only, "
                f"got {sorted(self.ranges)} and {sorted(self.priors)}"
            )
        for bits, ranges in self.ranges.items():
            if ranges.channels != self.channels:
                raise ConfigError(f"ranges at {bits} bits must have {self.channels} channels, got {ranges.channels}")
        for bits, prior in self.priors.items():
            if (prior.bits, prior.channels) != (bits, self.channels):
                raise ConfigError(
                    f"the prior at {bits} bits must have {bits} bits and {self.channels} channels, "
                    f"got {prior.bits} and {prior.channels}"
                )

    @property
    def channels(self) -> int:
        return next(iter(self.ranges.values())).channels

    def ranges_at(self, bits: int) -> Ranges:
        """Raises WidthUnsupported on bits that these tables do not have."""
        if bits not in self.ranges:
            raise WidthUnsupported(f"bits must be one of {sorted(self.ranges)}, got {bits}")
        return self.ranges[bits]

    def prior_at(self, bits: int) -> Prior | None:
        """None where nothing was fitted. Raises WidthUnsupported on bits that these tables do not have."""
        self.ranges_at(bits)
        return self.priors.get(bits)

    def digest(self) -> bytes:
        """SHA-256 over the content: 32 bytes."""
        sha = hashlib.sha256()
        for name, array in sorted(self.to_arrays().items()):
            sha.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.digest()

    def save(self, path: Path) -> None:
        np.savez_compressed(path, **self.to_arrays())

    def to_arrays(self) -> dict[str, Any]:
        """What the file holds; each array's name begins with its bits."""
        arrays: Arrays = {}
        for bits, ranges in self.ranges.items():
            arrays |= {f"bits{bits}_range_low_C": ranges.low_C, f"bits{bits}_range_high_C": ranges.high_C}
        for bits, prior in self.priors.items():
            arrays |= prior.to_arrays(f"bits{bits}_prior_")
        return arrays


def load_tables(path: Path) -> Tables:
    """Read tables.npz. Raises BundleError on anything else."""
    arrays = read_npz(path, MAX_TABLES_BYTES)
    try:
        tables = Tables(
            ranges={bits: _ranges(arrays, bits) for bits in BITS if f"bits{bits}_range_low_C" in arrays},
            priors={
                bits: priors.from_arrays(arrays, f"bits{bits}_prior_")
                for bits in BITS
                if f"bits{bits}_prior_rows_RA" in arrays
            },
        )
    except (KeyError, ConfigError) as error:
        raise BundleError(f"{path.name} must hold sound ranges of every channel, by bits: {error}") from error
    unknown = sorted(set(arrays) - set(tables.to_arrays()))
    if unknown:  # the digest would not cover them
        raise BundleError(f"{path.name} must hold ranges and priors only, got {', '.join(unknown)}")
    return tables


def _ranges(arrays: Arrays, bits: int) -> Ranges:
    return Ranges(low_C=arrays[f"bits{bits}_range_low_C"], high_C=arrays[f"bits{bits}_range_high_C"])
