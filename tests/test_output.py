"""What commands print."""

from __future__ import annotations

import pytest

from splitrt.output import print_table

LONG = "squeeze.2 (relu_1): bottleneck (assumed)"


def test_a_table_in_a_pipe_is_as_wide_as_its_content(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table("ways", ["way", "head ms", "bytes"], [[LONG, 1.2345, 1024]])
    assert f"{LONG} │    1.23 │  1024" in capsys.readouterr().out


def test_a_rows_name_is_whole_in_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_table("ways", ["way", "head ms", "bytes"], [[LONG, 1.2345, 1024]])
    printed = capsys.readouterr().out
    assert "…" not in printed
    assert "(assumed)" in printed
