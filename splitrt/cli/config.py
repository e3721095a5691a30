"""`splitrt config`: what is set, who said so, and whether a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from splitrt.cli.options import JsonOption

config = typer.Typer(help="Show settings with their origin, and check a file of them.", no_args_is_help=True)


@config.command()
def show(
    file: Annotated[Path | None, typer.Option("--config", help="TOML file with [server] and [client] tables.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="TABLE.KEY=VALUE, as a command's flag would give it; may be repeated."),
    ] = None,
    json: JsonOption = None,
) -> None:
    """Every setting as it holds, and where it came from: default, file, environment variable or flag.

    Secrets are masked. Example: splitrt config show --config splitrt.toml
    """
    from rich.markup import escape

    from splitrt.config import TABLES, read_with_origins
    from splitrt.output import print_table, write_json

    flags = _flags(set_ or [])
    shown: dict[str, dict[str, Any]] = {}
    for table, kind in TABLES.items():
        read = read_with_origins(kind, table, file, flags.get(table))
        values = read.settings.model_dump(mode="json")  # where pydantic masks secrets
        shown[table] = {key: {"value": values[key], "origin": read.origins[key]} for key in values}
    rows = [
        [f"{table}.{key}", escape(_text(one["value"])), one["origin"]]
        for table in shown
        for key, one in shown[table].items()
    ]
    print_table("settings", ["key", "value", "origin"], rows, quiet=str(json) == "-")
    write_json(shown, json)


@config.command()
def check(file: Annotated[Path, typer.Argument(help="TOML file.")], json: JsonOption = None) -> None:
    """Every key known, every value in its bounds; a line for each problem and exit 1 where not.

    Neither environment nor flags are looked at. Example: splitrt config check splitrt.toml
    """
    from splitrt.config import problems_of
    from splitrt.output import write_json

    problems = problems_of(file)
    for problem in problems:
        typer.echo(f"splitrt: {problem}", err=True)
    write_json({"file": str(file), "problems": problems}, json)
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{file}: every key is known and every value in its bounds", err=str(json) == "-")


def _flags(given: list[str]) -> dict[str, dict[str, Any]]:
    """Values are text or, where they read as such, TOML strings, arrays and tables: as in the environment."""
    from splitrt.config import TABLES, toml_or_text
    from splitrt.errors import ConfigError

    flags: dict[str, dict[str, Any]] = {}
    for one in given:
        place, equals, text = one.partition("=")
        table, _, key = place.partition(".")
        if not equals or table not in TABLES:
            raise ConfigError(f"--set must be TABLE.KEY=VALUE with a table of {', '.join(TABLES)}, got {place!r}")
        flags.setdefault(table, {})[key] = toml_or_text(text)
    return flags


def _text(value: Any) -> str:
    """As TOML would say it, nearly; a key that is not set has a dash."""
    import json

    return "-" if value is None else json.dumps(value, ensure_ascii=False)
