"""`splitrt config`: origins on the screen and as JSON, no secret on either, every problem of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from splitrt.cli import app
from splitrt.config import TABLES

SECRET = "s3cret-t0ken"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "splitrt.toml"
    path.write_text(f'[server]\nmax_batch = 2\n[server.tokens]\nalice = "{SECRET}"\n[client]\nbundle = "[red]x"\n')
    return path


@pytest.mark.parametrize("json_flag", [[], ["--json", "-"]])
def test_show_prints_every_key_and_no_secret(file: Path, json_flag: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITRT_CLIENT_TOKEN", SECRET)
    words = ["config", "show", "--config", str(file), "--set", f'server.tokens={{bob = "{SECRET}"}}', *json_flag]
    shown = CliRunner(env={"COLUMNS": "200"}).invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert SECRET not in shown.output
    for table, kind in TABLES.items():
        assert all(key in shown.output for key in kind.model_fields), table
    for said in ("environment variable SPLITRT_CLIENT_TOKEN", "[red]x", "bob"):  # names of principals are no secret
        assert said in shown.output


def test_show_says_who_said_what_as_json(file: Path) -> None:
    words = ["config", "show", "--config", str(file), "--set", "server.threads=3", "--json", "-"]
    shown = json.loads(CliRunner().invoke(app, words).stdout)
    assert shown["server"]["max_batch"] == {"value": 2, "origin": "file"}
    assert shown["server"]["threads"] == {"value": 3, "origin": "flag"}
    assert shown["client"]["threads"] == {"value": 1, "origin": "default"}


def test_check_says_yes_to_a_file_that_reads(file: Path) -> None:
    assert CliRunner().invoke(app, ["config", "check", str(file)]).exit_code == 0


def test_check_says_every_problem_and_exits_with_1(tmp_path: Path) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text("[server]\nmax_bach = 2\nthreads = 0\n")
    checked = CliRunner().invoke(app, ["config", "check", str(path), "--json", "-"])
    assert checked.exit_code == 1
    assert len(json.loads(checked.stdout)["problems"]) == 2
    assert "did you mean 'max_batch'" in checked.stderr
