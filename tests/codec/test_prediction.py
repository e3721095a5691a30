"""Shape letters: C channels, X F any, P places of one map, N places of one pass."""

from __future__ import annotations

import numpy as np
import pytest
from codec_maps import CHANNELS, PRIORS, smooth
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.interlace import passes
from splitrt.codec.prediction import ONE_THREAD, Prediction, _product
from splitrt.codec.prior import LEVELS, ONE, SPREADS

relaxed = settings(deadline=None)


@pytest.mark.parametrize("bits", PRIORS)
def test_contexts_are_those_of_whole_numbers(bits: int) -> None:
    prior, symbols_CP = PRIORS[bits], smooth(1, CHANNELS, 11, 10, bits, seed=2)[0].reshape(CHANNELS, -1)
    known_CP, whole_CP = symbols_CP.astype(np.float32), symbols_CP.astype(np.int64)
    for index, one in enumerate(passes(11, 10)):
        own_CN = whole_CP[:, one.places_N]
        around_C4N = np.zeros((CHANNELS, 4, own_CN.shape[1]), np.int64)
        if one.neighbours_4N is not None:
            around_C4N = whole_CP[:, one.neighbours_4N]
        features_FN = np.concatenate([around_C4N.reshape(4 * CHANNELS, -1), own_CN, np.ones_like(own_CN[:1])])
        level_CN = np.clip(prior.weights_CJF[:, index].astype(np.int64) @ features_FN // ONE, 0, LEVELS - 1)
        spread_CN = np.ptp(around_C4N, axis=1) * prior.spread_CJ[:, index, None].astype(np.int64) // ONE
        wanted_CN = level_CN * SPREADS + np.minimum(spread_CN, SPREADS - 1)
        wanted_CN += np.arange(CHANNELS)[:, None] * LEVELS * SPREADS
        found_CN = Prediction(known_CP, 0, prior, index, one).contexts(known_CP[:, one.places_N], 0, CHANNELS)
        np.testing.assert_array_equal(found_CN, wanted_CN)


@relaxed
@given(first=st.integers(0, CHANNELS - 1), data=st.data())
def test_what_is_not_known_yet_does_not_matter(first: int, data: st.DataObject) -> None:
    stop = data.draw(st.integers(first + 1, CHANNELS))
    prior, rng = PRIORS[4], np.random.default_rng(first)
    symbols_CP = rng.integers(0, 16, (CHANNELS, 72)).astype(np.float32)
    for index, one in enumerate(passes(9, 8)):
        own_CN = symbols_CP[:, one.places_N]
        wanted_CN = Prediction(symbols_CP, 0, prior, index, one).contexts(own_CN, 0, CHANNELS)
        blank_CP = symbols_CP[:stop].copy()
        later = np.concatenate([some.places_N for some in passes(9, 8)[index:]])
        blank_CP[:, later] = rng.integers(0, 16, (stop, len(later)))
        start = 0 if first < CHANNELS // 2 else 4  # of the layer
        found_XN = Prediction(blank_CP, first, prior, index, one).contexts(own_CN[:start], first, min(stop, first + 1))
        np.testing.assert_array_equal(found_XN, wanted_CN[first : first + 1])


@pytest.mark.parametrize("columns", [1, 100, 2 * ONE_THREAD // 1200, 1000])
def test_a_product_in_pieces_is_the_product(columns: int) -> None:
    rng = np.random.default_rng(0)
    weights_XF, features_FN = rng.integers(-99, 99, (24, 50)), rng.integers(0, 99, (50, columns))
    found_XN = _product(weights_XF.astype(np.float32), features_FN.astype(np.float32))
    np.testing.assert_array_equal(found_XN, weights_XF @ features_FN)


def test_a_product_of_nothing_is_zeros() -> None:
    assert not _product(np.ones((3, 0), np.float32), np.ones((0, 7), np.float32)).any()
