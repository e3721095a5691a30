"""What files under deploy/ say, held against the code: commands, settings, ports."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import typer
import yaml

from splitrt.cli import app
from splitrt.config import ClientConfig, ServerConfig

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
GATEWAY_PORT = int(ServerConfig().listen.rpartition(":")[2])
METRICS_PORT = 9464  # splitrt has no default; all files name the same
SETTINGS = {f"SPLITRT_SERVER_{key.upper()}" for key in ServerConfig.model_fields}
SETTINGS |= {f"SPLITRT_CLIENT_{key.upper()}" for key in ClientConfig.model_fields}


def parse_command(words: Sequence[str]) -> dict[str, Any]:
    """Parameters of a `splitrt` command line. Raises click's error where a command or an option does not exist."""
    program, command, *arguments = words
    assert program == "splitrt", words
    group: Any = typer.main.get_command(app)
    context = group.commands[command].make_context(command, arguments)
    return {"command": command, **context.params}


def unknown_settings(names: Iterable[str]) -> set[str]:
    """Names that look like settings of splitrt and are none: it would refuse to start."""
    return {name for name in names if name.startswith("SPLITRT_")} - SETTINGS


def documents(text: str) -> list[Any]:
    return [one for one in yaml.safe_load_all(text) if one is not None]


def at(value: Any, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


@dataclass(slots=True)
class Stage:
    """One FROM of a Dockerfile and what follows it."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def of(self, keyword: str) -> list[str]:
        return [rest for word, rest in self.instructions if word == keyword]

    def words(self, keyword: str) -> list[str]:
        """The last such instruction, which must be in the form that no shell reads."""
        found = self.of(keyword)
        return list(json.loads(found[-1])) if found else []


def stages(file: Path) -> dict[str, Stage]:
    """Of a Dockerfile, by name and in order. A stage's own base is not looked into."""
    lines = "\n".join(line for line in file.read_text().splitlines() if not line.startswith("#"))
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n", " ", lines).splitlines():
        keyword, _, rest = line.strip().partition(" ")
        if keyword == "FROM":
            base, _, name = rest.partition(" AS ")
            found[name] = Stage(base, name)
        elif keyword and found:
            list(found.values())[-1].instructions.append((keyword, " ".join(rest.split())))
    return found
