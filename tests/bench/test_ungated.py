"""What is compared with a gated bundle is that bundle, and is asked what its gate's task asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitrt.bench.ungated import as_asked, without_gate
from splitrt.bundle import Bundle, find_bundle
from splitrt.device.gate import GateRow
from splitrt.manifest import Gate

STREETS = Gate(reads=("features",), threshold=0.5, answer="nature", positives=("street",))


def test_all_but_the_gate_is_as_it_was(tmp_path: Path, photos: Bundle) -> None:
    plain = without_gate(find_bundle("town"), tmp_path)
    assert plain.manifest.gate is None
    assert plain.manifest.exits == photos.manifest.exits
    same = {file: digest for file, digest in plain.manifest.files.items() if file != "calibration.json"}
    assert same == {file: digest for file, digest in photos.manifest.files.items() if file != "calibration.json"}
    assert GateRow(plain).check_golden() == 0


@pytest.mark.parametrize(
    ("gate", "label", "wanted"),
    [
        (STREETS, "street", "street"),
        (STREETS, "sea", "nature"),
        (STREETS, "nature", "nature"),
        (STREETS, None, None),
        (None, "sea", "sea"),
        (STREETS.model_copy(update={"positives": ()}), "sea", "sea"),
    ],
)
def test_what_no_positive_is_is_nothing_whoever_said_it(
    gate: Gate | None, label: str | None, wanted: str | None
) -> None:
    assert as_asked(gate, label) == wanted
