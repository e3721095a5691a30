"""Where settings come from: one TOML file, `SPLITRT_*` over it, flags over that.

The only module that reads the environment. Unknown keys are refused with the nearest known name; no refusal shows a
token.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic

from pydantic import BaseModel, ValidationError

from splitrt.config.tables import TABLES, Settings
from splitrt.errors import ConfigError

ENV_PREFIX = "SPLITRT_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Read(Generic[Settings]):
    """Settings as they hold, and of every key who said so: default, file, environment variable NAME, or flag."""

    settings: Settings
    origins: Mapping[str, str]


def read_settings(
    kind: type[Settings],
    table: str,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """File, then environment, then flags that are not None. Raises ConfigError naming the key and its origin."""
    return read_with_origins(kind, table, file, flags, environment).settings


def read_with_origins(
    kind: type[Settings],
    table: str,
    file: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Read[Settings]:
    """`read_settings` with the origin of every value."""
    known = list(kind.model_fields)
    values: dict[str, Any] = {}
    origins = dict.fromkeys(known, "default")
    if file is not None:
        found = _table(table, _load(file), file)
        _refuse(_strangers(found, known, f"{file}: key {table}."))
        values |= found
        origins |= dict.fromkeys(found, "file")
    for key, (name, value) in _from_environment(
        kind, table, os.environ if environment is None else environment
    ).items():
        values[key], origins[key] = value, f"environment variable {name}"
    _refuse(_strangers(flags or {}, known, f"flag {table}."))
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    values |= given
    origins |= dict.fromkeys(given, "flag")
    try:
        return Read(settings=kind.model_validate(values), origins=origins)
    except ValidationError as invalid:
        raise ConfigError(_explain(table, invalid)[0]) from None  # its own text may show a token


def problems_of(file: Path) -> list[str]:
    """All that is wrong with a file, a line each, neither environment nor flags over it.

    Raises ConfigError where it cannot be read as TOML at all.
    """
    content = _load(file, is_checked=False)
    problems = _strangers(content, TABLES, f"{file}: table ")
    for table, kind in TABLES.items():
        try:
            values = _table(table, content, file)
        except ConfigError as error:
            problems.append(str(error))
            continue
        known = list(kind.model_fields)
        problems += _strangers(values, known, f"{file}: key {table}.")
        try:
            kind.model_validate({key: value for key, value in values.items() if key in known})
        except ValidationError as invalid:
            problems += (f"{file}: {line}" for line in _explain(table, invalid))
    return problems


def data_folder(flag: Path | None = None) -> Path | None:
    """Where benchmarks and tests find real data: the flag, else `SPLITRT_DATA`, else nowhere."""
    if flag is not None:
        return flag
    named = os.environ.get(ENV_PREFIX + "DATA")
    return Path(named) if named else None


def child_environment(defaults: Mapping[str, str]) -> dict[str, str]:
    """What a process of ours starts with: this one's environment, and these where it does not say otherwise."""
    return {**defaults, **os.environ}


def ray_is_authenticated(defaults: Mapping[str, str] | None = None) -> bool:
    """Whether Ray asks for a token in this process, or in one of ours that starts with these defaults."""
    return child_environment(defaults or {}).get("RAY_AUTH_MODE") == "token"


def toml_or_text(text: str) -> str | list[Any] | dict[str, Any]:
    """A value outside a file. A token may look like a number, and the model reads numbers from text by itself."""
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, str | list | dict) else text


def _explain(table: str, invalid: ValidationError) -> list[str]:
    lines = []
    for problem in invalid.errors():
        place = ".".join([table, *(str(part) for part in problem["loc"])])
        is_shown = problem["loc"] and "token" not in place
        lines.append(f"{place}: {problem['msg']}" + (f", got {problem['input']!r}" if is_shown else ""))
    return lines


def _load(file: Path, is_checked: bool = True) -> dict[str, Any]:
    try:
        content = tomllib.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:  # some numbers are no TOMLDecodeError
        raise ConfigError(f"config file must be readable TOML, {file} is not: {error}") from error
    if is_checked:
        _refuse(_strangers(content, TABLES, f"{file}: table "))
    return content


def _table(table: str, content: Mapping[str, Any], file: Path) -> dict[str, Any]:
    values = content.get(table, {})
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: {table} must be a table, got {type(values).__name__}")
    return values


def _from_environment(
    kind: type[BaseModel], table: str, environment: Mapping[str, str]
) -> dict[str, tuple[str, str | list[Any] | dict[str, Any]]]:
    """Key -> variable and value. SPLITRT_SERVER_LISTEN=... ; strings, arrays and tables may be TOML."""
    prefix = f"{ENV_PREFIX}{table.upper()}_"
    values: dict[str, tuple[str, str | list[Any] | dict[str, Any]]] = {}
    for name, text in environment.items():
        if not name.startswith(prefix):
            continue
        key = name.removeprefix(prefix).lower()
        _refuse(_strangers([key], list(kind.model_fields), "environment: "))
        values[key] = (name, toml_or_text(text))
    return values


def _strangers(names: Iterable[str], known: Iterable[str], where: str) -> list[str]:
    """A line for each name that is not known, with the nearest that is."""
    known, lines = list(known), []
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            lines.append(f"{where}{name} is not known, wanted one of {', '.join(sorted(known))}{hint}")
    return lines


def _refuse(problems: list[str]) -> None:
    if problems:
        raise ConfigError(problems[0])
