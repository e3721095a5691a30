"""Write docs/reference/cli.md from the commands themselves: `python scripts/cli_page.py`. A test holds them equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from typer.main import get_command

from splitrt.cli import app

PAGE = Path(__file__).resolve().parents[1] / "docs/reference/cli.md"
HEAD = """\
# Commands

Written by `scripts/cli_page.py` from the commands' own help. Every command has `--help`; it exits 0 on success, 1 on a
failed run with one clear line, 2 on bad usage.
"""


def page() -> str:
    """Every command in the order of `splitrt --help`, those of a group after its name."""
    return "\n".join([HEAD, *_commands("splitrt", get_command(app))])


def _commands(path: str, command: Any) -> list[str]:
    below = getattr(command, "commands", None)
    if below is None:
        return [_command(path, command)]
    return [part for name, one in below.items() for part in _commands(f"{path} {name}", one)]


def _command(path: str, command: Any) -> str:
    lines = [f"## {path}\n"]
    for paragraph in (command.help or "").split("\n\n"):
        text = " ".join(paragraph.split())
        example = text.removeprefix("Example: ")
        lines.append(f"```console\n$ {example}\n```\n" if example != text else f"{text}\n")
    rows = [_parameter(one) for one in command.params if not one.hidden]
    return "\n".join([*lines, "| argument or option | what | default |", "|---|---|---|", *rows]) + "\n"


def _parameter(parameter: Any) -> str:
    names = ", ".join(parameter.opts)
    name = names if names.startswith("-") else names.upper()
    if parameter.metavar and name != parameter.metavar:
        name += f" {parameter.metavar}"
    text = " ".join((parameter.help or "").split()).replace("|", "\\|")
    has_default = not parameter.required and parameter.default not in (None, False, [], ())
    default = "required" if parameter.required else f"`{parameter.default}`" if has_default else ""
    return f"| `{name}` | {text} | {default} |"


if __name__ == "__main__":
    PAGE.write_text(page())
