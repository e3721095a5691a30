"""README and docs are followed: Python against live servers, commands by their own parsers, the rest by its parser."""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pages import ROOT, Block, all_blocks, blocks_of, pages
from PIL import Image
from typer.main import get_command
from typer.testing import CliRunner

from splitrt.cli import app
from splitrt.config import ClientConfig, ServerConfig
from splitrt.server.serve import serve

MARKS = {"", "run", "no-run"}
PARSED = {"python", "console", "toml", "json", "yaml", "bash", "sh"}
PLAIN = {"", "text", "promql", "ini", "dockerfile"}  # drawings, output, and what no parser here reads
OTHER_COMMANDS = re.compile(
    r"\.|cat|cd|chmod|cp|curl|docker|export|git|grpcurl|helm|journalctl|kill|kubectl|make|mkdir|node|npm|openssl|pip|"
    r"promtool|python3?|ray|serve|sudo|systemctl"
)
WRITTEN_FOR = "127.0.0.1:7070"  # where the pages' servers listen; the tests' take any port
Serving = Callable[..., str]


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    """Servers on threads of their own, because the pages' synchronous blocks hold the main one; one for each set of
    bundles.
    """
    started: dict[tuple[str, ...], str] = {}
    ends: list[Callable[[], None]] = []

    def start(*bundles: str) -> str:
        if bundles not in started:
            started[bundles], end = _served(bundles)
            ends.append(end)
        return started[bundles]

    yield start
    for end in ends:
        end()


def _served(bundles: tuple[str, ...]) -> tuple[str, Callable[[], None]]:
    loop, bound, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def run() -> None:
        async with serve(ServerConfig(listen="127.0.0.1:0", bundles=bundles, drain_grace_s=0.1)) as server:
            found.append(server.address)
            bound.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert bound.wait(30)

    def end() -> None:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()

    return found[0], end


# ── what is run ─────────────────────────────────────────────────────────────────────────────────────


def _followed() -> Iterator[Any]:
    for page in pages():
        blocks = blocks_of(page)
        is_run = any(block.language == "python" or block.mark == "run" for block in blocks)
        needs_torch = any("torch" in block.code or "LANGUAGE_ADDRESS" in block.code for block in blocks
                          if block.language == "python")  # fmt: skip
        if is_run:
            name = str(page.relative_to(ROOT))
            yield pytest.param(page, id=name, marks=[pytest.mark.torch] if needs_torch else [])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A page's own folder, with photographs, in which its files can be imported and its entry points are installed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photographs").mkdir()
    for name in (*(f"photographs/{number}.png" for number in range(10)), "street.jpg", "sea.jpg"):
        Image.new("RGB", (96, 80), (25 * len(name), 120, 60)).save(tmp_path / name)
    monkeypatch.setattr(sys, "path", ["", str(tmp_path), *sys.path])
    monkeypatch.setenv("HOME", str(tmp_path))  # fetched bundles
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    importlib.invalidate_caches()


@pytest.mark.parametrize("page", list(_followed()))
def test_a_page_can_be_followed(page: Path, folder: Path, serving: Serving) -> None:
    address = ""
    for block in blocks_of(page):
        if block.language == "toml" and block.title == "pyproject.toml":
            _install(tomllib.loads(block.code)["project"], folder)
        elif block.language == "python" and block.mark != "no-run":
            _execute(block, folder, address, serving)
        elif block.language == "console":
            for words in block.commands:
                if words[:2] == ["splitrt", "serve"] and _is_walk(page) and (folder / words[2]).is_dir():
                    address = serving(words[2])
                elif block.mark == "run":
                    if not address and any(WRITTEN_FOR in word for word in words):
                        address = serving("photos")
                    _run(words, address)


def _is_walk(page: Path) -> bool:
    return any(block.mark == "run" for block in blocks_of(page))


def _install(project: dict[str, Any], folder: Path) -> None:
    """What `pip install --editable .` leaves: entry points, found where the package can be imported."""
    info = folder / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [f"[{group}]\n" + "\n".join(f"{name} = {path}" for name, path in one.items()) for group, one in groups]
    (info / "entry_points.txt").write_text("\n\n".join(lines) + "\n")


def _execute(block: Block, folder: Path, address: str, serving: Serving) -> None:
    code = block.code.replace(WRITTEN_FOR, address or WRITTEN_FOR)
    if block.title:
        file = folder / block.title
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(code)
        importlib.invalidate_caches()
    names: dict[str, Any] = {"__name__": "page"}
    if "LANGUAGE_ADDRESS" in code:
        pytest.importorskip("torch", reason="needs the torch extra")
        names["LANGUAGE_ADDRESS"] = serving("shakespeare")
    elif "ADDRESS" in code:
        names["ADDRESS"] = serving("photos")
    names["image"] = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    exec(compile(code, block.name, "exec"), names)


def _run(words: list[str], address: str) -> None:
    done = CliRunner().invoke(app, [word.replace(WRITTEN_FOR, address or WRITTEN_FOR) for word in words[1:]])
    assert done.exit_code == 0, f"{' '.join(words)}: {done.output}\n{done.exception!r}"


# ── what is parsed ──────────────────────────────────────────────────────────────────────────────────


def test_every_command_that_the_pages_show_parses_as_it_stands() -> None:
    whole: Any = get_command(app)
    for place, words in [(block.name, words) for block in all_blocks("console") for words in block.commands]:
        if words[0] != "splitrt":
            assert OTHER_COMMANDS.fullmatch(words[0]), f"{place}: {words[0]} is no command that pages may show"
            continue
        command, rest = whole, words[1:]
        while hasattr(command, "commands"):
            assert rest, f"{place}: {' '.join(words)} is not whole"
            assert rest[0] in command.commands, f"{place}: {' '.join(words)}: {rest[0]} is no command"
            command = command.commands[rest.pop(0)]
        try:
            command.make_context(" ".join(words), rest)
        except Exception as error:
            raise AssertionError(f"{place}: {' '.join(words)}: {error}") from error


def test_blocks_of_other_languages_parse() -> None:
    yaml = pytest.importorskip("yaml", reason="comes with the docs extra")
    for page in pages():
        for block in blocks_of(page):
            match block.language:
                case "toml":
                    _check_tables(tomllib.loads(block.code), block)
                case "json":
                    json.loads(block.code)
                case "yaml":
                    list(yaml.safe_load_all(block.code))
                case "bash" | "sh":
                    subprocess.run(["bash", "-n"], input=block.code, text=True, check=True)


def _check_tables(tables: dict[str, Any], block: Block) -> None:
    """Settings are those of the program, recipes are recipes."""
    for name, kind in (("client", ClientConfig), ("server", ServerConfig)):
        if name in tables:
            kind.model_validate(tables[name])
    if "family" in tables or "exits" in tables:
        pytest.importorskip("torch", reason="recipes need the torch extra")
        from splitrt.train.recipe import ExitsPhase, check_recipe

        if "family" in tables:
            check_recipe(tables, block.name)
        else:
            ExitsPhase.model_validate(tables["exits"])


def test_marks_and_languages_are_those_that_are_known() -> None:
    for page in pages():
        for block in blocks_of(page):
            assert block.mark in MARKS, f"{block.name}: mark {block.mark!r}"
            assert block.language in PARSED | PLAIN, f"{block.name}: language {block.language!r}"


def test_python_that_is_not_run_is_listed_here() -> None:
    idle = [block for block in all_blocks("python") if block.mark == "no-run"]
    for block in idle:
        compile(block.code, block.name, "exec")
    assert [block.name for block in idle] == []


def test_pages_link_to_files_that_exist() -> None:
    for page in pages():
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
