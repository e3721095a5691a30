"""What encoder and decoder must share, frozen: quantiser ranges from the trained gains, integer tables from counts.

Shape letters: B images, C channels, h w space.
"""

from __future__ import annotations

import numpy as np

from splitrt.codec.fitting import fit
from splitrt.codec.quantise import Ranges, quantise
from splitrt.codec.tables import Tables
from splitrt.nn.split import Head
from splitrt.nn.tiers import Tiers
from splitrt.train.calibrate import Float32, bottlenecks
from splitrt.train.data import Images
from splitrt.train.recipe import Recipe

OUTLIERS = 0.1  # percent of an untrained feature's values, on either side, that its range leaves out


def trained_tables(head: Head, tiers: Tiers, images: Images, recipe: Recipe) -> Tables:
    """Ranges of each depth from its gains; counts of the symbols of `images` at every width."""
    ranges = {}
    for bits in recipe.seam.bits:
        high_C = (1 / tiers.gain_C(bits)).detach().numpy().astype(np.float32)
        ranges[bits] = Ranges(low_C=-high_C, high_C=high_C)
    every = bottlenecks(head, images, recipe)
    return _counted(np.concatenate(every) if recipe.seam.form == "ensemble" else every[-1], ranges)


def plain_tables(head: Head, images: Images, recipe: Recipe) -> Tables:
    """For features that nothing was trained for: each channel's range on `images` but for outliers."""
    z_BCHW = bottlenecks(head, images, recipe)[-1]
    low_C, high_C = np.percentile(z_BCHW, [OUTLIERS, 100 - OUTLIERS], axis=(0, 2, 3)).astype(np.float32)
    ranges = Ranges(low_C=low_C, high_C=high_C)
    return _counted(z_BCHW, dict.fromkeys(recipe.seam.bits, ranges))


def _counted(z_BChw: Float32, ranges: dict[int, Ranges]) -> Tables:
    priors = {bits: fit(np.stack([quantise(z_Chw, ranges[bits], bits) for z_Chw in z_BChw]), bits) for bits in ranges}
    return Tables(ranges=ranges, priors=priors)
