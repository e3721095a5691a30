from __future__ import annotations

import numpy as np
import pytest

from splitrt.bench.codec import _bytes, _times, measure
from splitrt.bench.report import Asked
from splitrt.codec.fitting import fit
from splitrt.errors import ConfigError

SYMBOLS = np.random.default_rng(0).binomial(15, 0.3, (6, 2, 8, 8)).astype(np.uint8)
PRIOR = fit(SYMBOLS, 4)


def test_ours_is_the_smallest_and_the_coder_stays_above_the_ideal() -> None:
    row = _bytes(SYMBOLS, PRIOR)
    assert row["packed"] == 64
    assert row["ours"] <= min(row["packed"], row["zstd"], row["context"])
    assert 1 < row["gap"] < 1.05


def test_times_are_of_ten_thousand_symbols() -> None:
    times = _times(SYMBOLS, PRIOR, 3)
    assert times.keys() == {"encode_ms", "decode_ms"}
    assert min(times.values()) > 0


def test_the_claim_needs_images() -> None:
    with pytest.raises(ConfigError, match="--data"):
        measure(Asked(quick=True, bundle="photos", data=None))
