"""The page and the tables are one: keys, defaults, and what a running server takes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from splitrt.config import TABLES
from splitrt.server.reload import PREPARE

PAGE = (Path(__file__).resolve().parents[2] / "docs/configuration.md").read_text()


def rows_of(table: str) -> dict[str, list[str]]:
    """Key -> the other cells of its row."""
    section = PAGE.split(f"\n## `[{table}]`\n")[1].split("\n## ")[0]
    rows = [re.split(r"\s*\|\s*", line.strip("| ")) for line in section.splitlines() if line.startswith("| `")]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


@pytest.mark.parametrize("table", TABLES)
def test_the_page_has_a_row_for_every_key_in_the_tables_order_and_no_other(table: str) -> None:
    assert list(rows_of(table)) == list(TABLES[table].model_fields)


@pytest.mark.parametrize("table", TABLES)
def test_the_page_says_every_default_as_it_is(table: str) -> None:
    defaults = TABLES[table]().model_dump(mode="json")
    said = {key: None if cells[0] == "-" else json.loads(cells[0].strip("`")) for key, cells in rows_of(table).items()}
    assert said == defaults


@pytest.mark.parametrize("table", TABLES)
def test_every_row_says_what_its_key_means(table: str) -> None:
    assert all(len(cells[-1]) > 4 for cells in rows_of(table).values())


def test_the_page_says_of_every_key_whether_a_running_server_takes_it() -> None:
    said = {key: cells[1] for key, cells in rows_of("server").items()}
    assert said == {key: "yes" if key in PREPARE else "restart" for key in TABLES["server"].model_fields}
