"""What commands print."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitrt.errors import ConfigError
from splitrt.output import print_table, write_json

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


def test_a_result_that_cannot_be_written_is_the_users_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--json must be a file that can be written"):
        write_json({}, tmp_path)
