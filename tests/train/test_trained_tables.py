"""What encoder and decoder share, frozen from trained gains and counted symbols. Shape letters: C channels."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from tiny import images_of, recipe_of, split_of

from splitrt.codec.payload import decode, encode
from splitrt.codec.quantise import dequantise, quantise
from splitrt.nn.split import Head
from splitrt.train.calibrate import bottlenecks
from splitrt.train.recipe import Recipe
from splitrt.train.tables import plain_tables, trained_tables
from splitrt.train.train import build

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

IMAGES = images_of("train", 24)


@pytest.mark.parametrize("form", ["nested", "ensemble"])
def test_frozen_ranges_are_the_gains_at_every_depth_that_is_served(form: str) -> None:
    recipe = recipe_of(seam={"form": form})
    split = split_of(recipe)
    split.tiers.log_gain_TC.data.uniform_(-0.5, 0.5)
    split.head.eval()
    tables = trained_tables(split.head, split.tiers, IMAGES, recipe)
    assert sorted(tables.ranges) == sorted(tables.priors) == [2, 3, 4]
    z_BZhw = torch.from_numpy(bottlenecks(split.head, IMAGES, recipe)[-1])
    for bits in recipe.seam.bits:
        ranges = tables.ranges_at(bits)
        np.testing.assert_allclose(ranges.high_C, 1 / split.tiers.gain_C(bits).detach().numpy(), rtol=1e-6)
        np.testing.assert_array_equal(ranges.low_C, -ranges.high_C)
        seen = split.tiers.seen(z_BZhw, bits).detach().numpy()
        sent = np.stack([dequantise(quantise(one.numpy(), ranges, bits), ranges, bits) for one in z_BZhw])
        assert (np.abs(seen - sent) > 1e-5).mean() < 1e-3


@pytest.mark.parametrize("form", ["nested", "ensemble"])
def test_symbols_like_those_that_were_counted_cost_less_than_without_tables(form: str) -> None:
    recipe = recipe_of(seam={"form": form})
    split = split_of(recipe)
    split.head.eval()
    tables = trained_tables(split.head, split.tiers, IMAGES, recipe)
    for width, z_BZhw in zip(recipe.seam.widths, bottlenecks(split.head, IMAGES, recipe), strict=True):
        ranges, prior = tables.ranges_at(4), tables.prior_at(4)
        symbols = [quantise(z_Zhw, ranges, 4) for z_Zhw in z_BZhw]
        with_prior = [encode(one, 4, prior) for one in symbols]
        for one, (codec, payload) in zip(symbols, with_prior, strict=True):
            np.testing.assert_array_equal(decode(codec, payload, one.shape, 4, prior), one, err_msg=str(width))
        bare = sum(len(encode(one, 4)[1]) for one in symbols)
        assert sum(len(payload) for _, payload in with_prior) < bare


def plain_recipe() -> Recipe:
    return recipe_of(seam={"form": "plain", "widths": (16,), "bits": (4, 8)})


def test_untrained_features_get_the_ranges_that_they_have_but_for_outliers() -> None:
    recipe = plain_recipe()
    torch.manual_seed(0)
    front, _ = build(recipe)
    head = Head(front.eval(), 1, None)
    tables = plain_tables(head, IMAGES, recipe)
    (z_BCHW,) = bottlenecks(head, IMAGES, recipe)
    assert z_BCHW.shape[1] == tables.channels == 16
    ranges = tables.ranges_at(8)
    is_inside = (z_BCHW >= ranges.low_C[:, None, None]) & (z_BCHW <= ranges.high_C[:, None, None])
    assert 0.99 < is_inside.mean() <= 1
    assert (ranges.low_C >= z_BCHW.min((0, 2, 3))).all()
    assert (ranges.high_C <= z_BCHW.max((0, 2, 3))).all()
    np.testing.assert_array_equal(ranges.high_C, tables.ranges_at(4).high_C)
