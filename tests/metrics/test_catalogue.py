from __future__ import annotations

from pathlib import Path

import pytest

from splitrt.metrics.catalogue import SIDES, described, table

PAGE = Path(__file__).resolve().parents[2] / "docs/monitoring.md"


@pytest.mark.parametrize("side", SIDES)
def test_the_page_has_every_metric_as_it_is(side: str) -> None:
    """Write it anew with `python -m splitrt.metrics.catalogue`."""
    assert table(side) in PAGE.read_text()


def test_names_have_a_prefix_and_base_units_and_are_of_one_side() -> None:
    names = [one.name for side in SIDES for one in described(side)]
    assert len(set(names)) == len(names) > 40
    for name in names:
        assert name.startswith("splitrt_")
        assert not name.removesuffix("_total").endswith(("_ms", "_us", "_kb", "_milliseconds", "_percent"))
