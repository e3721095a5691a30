from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from codec_maps import CHANNELS, PRIORS
from hypothesis import given
from hypothesis import strategies as st

from splitrt.codec.prior import EXACT, LAYER_CHANNELS, LAYERS, Prior, from_arrays, known_features, layers
from splitrt.errors import ConfigError

PRIOR = PRIORS[2]
FIELDS = ("rows_RA", "weights_CJF", "spread_CJ", "row_CJLS")


def test_a_prior_comes_back_from_its_arrays() -> None:
    arrays = PRIOR.to_arrays("some_")
    back = from_arrays(arrays, "some_").to_arrays("some_")
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@given(st.integers(1, 70))
def test_layers_are_few_and_every_channel_is_in_one(channels: int) -> None:
    found = layers(channels)
    assert [channel for layer in found for channel in layer] == list(range(channels))
    assert 1 <= len(found) <= LAYERS
    assert len(found) == 1 or min(map(len, found)) >= LAYER_CHANNELS


@given(st.integers(1, 40))
def test_a_channel_is_predicted_by_itself_and_those_before_it_only(channels: int) -> None:
    known_CF = known_features(channels)
    near_CC = known_CF[:, : 4 * channels].reshape(channels, channels, 4).all(axis=2)
    beside_CC = known_CF[:, 4 * channels : -1]
    np.testing.assert_array_equal(near_CC, np.tri(channels, dtype=np.bool_))
    assert not np.triu(beside_CC).any()
    for layer in layers(channels):
        assert (beside_CC[layer.start : layer.stop].sum(axis=1) == layer.start).all()


def _changed(name: str, place: tuple[int, ...], value: int) -> dict[str, Any]:
    array = getattr(PRIOR, name).copy()
    array[place] = value
    return {name: array}


@pytest.mark.parametrize(
    "damage",
    [
        _changed("rows_RA", (0, 0), 0),
        _changed("rows_RA", (1, 1), 65_535),
        _changed("row_CJLS", (2, 3, 5, 1), 60_000),
        {"rows_RA": PRIOR.rows_RA.astype(np.int32)},
        {"rows_RA": PRIOR.rows_RA[:, :3]},
        {"rows_RA": PRIOR.rows_RA[:2]},
        {"rows_RA": PRIOR.rows_RA[:0]},
        {"weights_CJF": PRIOR.weights_CJF[:, :, :-1]},
        {"weights_CJF": PRIOR.weights_CJF[:, :4]},
        {"weights_CJF": PRIOR.weights_CJF.astype(np.float32)},
        {"spread_CJ": PRIOR.spread_CJ[:2]},
        {"spread_CJ": PRIOR.spread_CJ[:, :, None]},
        {"row_CJLS": PRIOR.row_CJLS[:, :3]},
        {"row_CJLS": PRIOR.row_CJLS[:, :, :5]},
        {"row_CJLS": PRIOR.row_CJLS.reshape(-1)},
        {"row_CJLS": PRIOR.row_CJLS.astype(np.float32)},
        _changed("weights_CJF", (1, 2, 4 * 2), 1),  # neighbours of a later channel
        _changed("weights_CJF", (5, 2, 4 * CHANNELS + 4), 1),  # the place itself in its own layer
        _changed("weights_CJF", (0, 2, 4 * CHANNELS), 1),  # and in its own channel
    ],
    ids=lambda damage: next(iter(damage)),
)
def test_tables_that_cannot_be_are_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        Prior(**{name: getattr(PRIOR, name) for name in FIELDS} | damage)


@pytest.mark.parametrize("bits", [1, 2, 8])
@pytest.mark.parametrize("sign", [-1, 1])
def test_weights_whose_sums_float32_cannot_hold_are_refused(bits: int, sign: int) -> None:
    prior, most = PRIORS[bits], (EXACT - 1) // (2**bits - 1)
    weights_CJF = np.zeros_like(prior.weights_CJF)
    weights_CJF[3, 2, 1] = sign * most
    weights_CJF[3, 2, -1] = EXACT - 1 - most * (2**bits - 1)
    assert replace(prior, weights_CJF=weights_CJF).bits == bits
    weights_CJF[3, 2, -1] += 1
    with pytest.raises(ConfigError, match=f"must stay below {EXACT} in sum, got {EXACT}"):
        replace(prior, weights_CJF=weights_CJF)
    weights_CJF[3, 2, -1] = np.iinfo(np.int32).min
    with pytest.raises(ConfigError, match="in sum"):
        replace(prior, weights_CJF=weights_CJF)


def test_a_sound_prior_replaced_by_itself_is_sound() -> None:
    assert replace(PRIOR, rows_RA=PRIOR.rows_RA.copy()).bits == 2
