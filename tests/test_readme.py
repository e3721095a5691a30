"""The README is run: its Python blocks against a live server, its commands against the command line's own help."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from splitrt.cli import app
from splitrt.config import ServerConfig
from splitrt.server.serve import serve

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list[tuple[str, str]]:
    return [
        (page.name, found[2]) for page in PAGES for found in BLOCK.finditer(page.read_text()) if found[1] == language
    ]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server on a thread of its own, because the README's synchronous blocks hold the main one."""
    loop, bound, stop = asyncio.new_event_loop(), threading.Event(), asyncio.Event()
    found: list[str] = []

    async def run() -> None:
        async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=0.1)) as server:
            found.append(server.address)
            bound.set()
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    assert bound.wait(30)
    yield found[0]
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.mark.parametrize(("page", "code"), blocks("python"))
def test_a_python_block_runs_as_it_stands(page: str, code: str, address: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (240, 320, 3), dtype=np.uint8)
    names: dict[str, Any] = {"ADDRESS": address, "image": image, "__name__": "readme"}
    exec(compile(code, page, "exec"), names)
    assert names["splitrt"].__version__


def commands() -> list[list[str]]:
    lines = [line.removeprefix("$ ") for _, text in blocks("console") for line in text.splitlines()]
    return [line.split() for line in lines if line.startswith("splitrt ")]


@pytest.mark.parametrize("words", commands(), ids=" ".join)
def test_a_command_that_the_pages_show_exists_with_these_options(words: list[str]) -> None:
    path = [word for word in words[1:3] if word in ("models", "list", "show", "verify", "pull")] or words[1:2]
    shown = CliRunner().invoke(app, [*path, "--help"], terminal_width=200)
    assert shown.exit_code == 0, shown.output
    for word in words:
        if word.startswith("--"):
            assert word in shown.output, f"{' '.join(words)}: {word} is not an option"


def test_pages_link_to_files_that_exist() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
