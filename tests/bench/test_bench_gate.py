"""What `bench gate` reckons: exact intervals, bytes of a stream, and recipes that are those of the repository."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from splitrt.bench.gate import bytes_saved, interval, judged
from splitrt.bench.gate_audio import PHASE, SOUND, groups
from splitrt.bench.gate_person import recipe_of
from splitrt.bench.gate_scenes import TOWN, cheapest
from splitrt.bundle import find_bundle
from splitrt.calibration import Point
from splitrt.train.filter import read_filter_recipe
from splitrt.train.keyword import read_spoken_recipe

pytestmark = pytest.mark.torch
RECIPES = Path(__file__).resolve().parents[2] / "recipes"


def test_what_is_measured_is_what_the_recipes_make() -> None:
    keyword = read_spoken_recipe(RECIPES / "keyword.toml")
    town, recipe = find_bundle(TOWN), read_filter_recipe(RECIPES / "town.toml")
    assert town.manifest.gate is not None
    assert town.calibration.gate is not None
    assert (town.name, town.manifest.gate.positives) == (f"{recipe.name}-{recipe.version}", recipe.positives)
    assert (town.calibration.gate.recall, town.calibration.gate.delta) == (recipe.gate.recall, recipe.gate.delta)
    assert read_filter_recipe(RECIPES / "person_filter.toml") == recipe_of("runs/fastestdet-1")
    assert (keyword.sound, keyword.gate) == (SOUND, PHASE)


@pytest.mark.parametrize(
    ("hits", "trials", "wanted"), [(0, 10, (0, 0.3085)), (10, 10, (0.6915, 1)), (5, 10, (0.1871, 0.8129))]
)
def test_intervals_are_those_of_clopper_and_pearson(hits: int, trials: int, wanted: tuple[float, float]) -> None:
    assert interval(hits, trials) == pytest.approx(wanted, abs=1e-4)


def test_a_gate_that_stops_all_negatives_leaves_the_positives_bytes() -> None:
    assert bytes_saved(1.0, 1.0, 100, 100) == pytest.approx(0.95)
    assert bytes_saved(1.0, 1.0, 50, 100) == pytest.approx(0.975)
    assert bytes_saved(1.0, 0.0, 100, 100) == 0


def test_the_row_says_what_the_threshold_does_and_the_curve_what_others_would() -> None:
    draws = np.random.default_rng(0)
    is_positive_N = np.arange(2_000) < 500
    found = judged(draws.normal(size=2_000) + 4 * is_positive_N, is_positive_N, 0.5)
    assert found["positives_kept"] == pytest.approx(1.0, abs=0.01)
    assert found["negatives_stopped"] == pytest.approx(0.5, abs=0.04)
    stopped = [stop for _, stop in found["curve"]]
    assert stopped == sorted(stopped, reverse=True)
    assert found["negatives_stopped_where_0.97_are_kept"] > 0.97


def test_nobody_is_judged_by_a_network_that_has_met_him() -> None:
    names = ("a", "b", "c", "d")
    found = groups(names, names)
    assert sorted(map(len, found)) == [2] * 6 + [3] * 4
    assert groups(names, ("a",)) == [("b", "c", "d"), ("b", "c"), ("b", "d"), ("c", "d")]


def test_what_goes_on_is_sent_at_the_fewest_bytes_within_half_a_point_of_the_best() -> None:
    points = [
        Point(width=k, bits=2, payload_bytes_mean=100 * k, payload_bytes_p95=100 * k, accuracy=0.5) for k in (1, 2, 4)
    ]
    accuracies = (0.952, 0.956, 0.960)
    assert cheapest(list(zip(points, accuracies, strict=True))) is points[1]
