from __future__ import annotations

import numpy as np
import pytest
from codec_maps import CHANNELS, PRIORS, alike, smooth
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec import fitting
from splitrt.codec.entropy import TOTAL
from splitrt.codec.fitting import SHARED_ROWS, fit
from splitrt.codec.payload import Codec, ideal_bits
from splitrt.errors import InvalidInput

relaxed = settings(deadline=None)


@pytest.mark.parametrize("bits", PRIORS)
def test_every_symbol_can_be_coded_and_rows_sum_to_the_total(bits: int) -> None:
    prior = PRIORS[bits]
    assert (prior.bits, prior.channels) == (bits, CHANNELS)
    assert prior.rows_RA.min() >= 1
    assert (prior.rows_RA.sum(axis=1, dtype=np.int64) == TOTAL).all()
    assert len(prior.rows_RA) <= CHANNELS + SHARED_ROWS


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_neighbours_tell_more_than_the_channel_alone_on_maps_not_seen(bits: int) -> None:
    prior, other = fit(smooth(40, 2, 16, 16, bits), bits), smooth(1, 2, 16, 16, bits, seed=1)[0]
    assert ideal_bits(other, prior, Codec.CONTEXT) < 0.9 * ideal_bits(other, prior, Codec.FACTORISED)


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_earlier_layers_tell_what_neighbours_cannot(bits: int) -> None:
    prior, other = fit(alike(40, 8, 16, 16, bits), bits), alike(1, 8, 16, 16, bits, seed=1)[0]
    first, second = ideal_bits(other[:4], prior, Codec.CONTEXT), ideal_bits(other[4:], prior, Codec.CONTEXT, other[:4])
    assert second < 0.8 * first


def test_how_many_maps_are_taken_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    symbols = smooth(7, 5, 9, 8, 4)
    whole = fit(symbols, 4).to_arrays("")
    monkeypatch.setattr(fitting, "AT_ONCE", 2 * symbols[0].size)
    for name, array in fit(symbols, 4).to_arrays("").items():
        np.testing.assert_array_equal(array, whole[name])


@relaxed
@given(seed=st.integers(0, 99), bits=st.integers(1, 8), maps=st.integers(1, 3), height=st.integers(1, 6))
def test_anything_can_be_fitted(seed: int, bits: int, maps: int, height: int) -> None:
    symbols = np.random.default_rng(seed).integers(0, 2**bits, (maps, 2, height, 3), np.uint8)
    assert fit(symbols, bits).channels == 2
    assert fit(np.zeros_like(symbols), bits).bits == bits


@pytest.mark.parametrize("channels", [1, 8, 70])
def test_weights_stay_exact_where_channels_nearly_repeat_each_other(channels: int) -> None:
    symbols = np.repeat(smooth(2, 1, 12, 12, 8), channels, axis=1)
    symbols[0, :, 0, 0] = 0
    symbols[:, : channels // 2] = 7  # and others hardly change
    assert fit(symbols, 8).channels == channels


@pytest.mark.parametrize(("shape", "bits"), [((2, 3, 4), 2), ((0, 1, 4, 4), 2), ((1, 1, 2, 2), 9), ((1, 1, 2, 2), 1)])
def test_what_are_no_symbols_cannot_be_fitted(shape: tuple[int, ...], bits: int) -> None:
    with pytest.raises(InvalidInput):
        fit(np.full(shape, 3, np.uint8), bits)
