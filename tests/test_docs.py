"""The documentation builds without a warning and fetches nothing; what it lists and generates is what the code says."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pages import DOCS, ROOT
from PIL import Image
from typer.main import get_command

import splitrt.errors
from splitrt.bundle import Bundle
from splitrt.cli import app
from splitrt.config import ServerConfig
from splitrt.errors import SplitError
from splitrt.rpc.frames import PROTOCOL
from splitrt.server.serve import serve

NODE = DOCS / "how-to/node"
LOADS = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(https?:|//)[^"]*"|<link\b[^>]*\bhref="(https?:|//)[^"]*"'
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as `make docs` builds them, a warning being an error."""
    for needed in ("mkdocs", "material", "mkdocstrings"):
        if find_spec(needed) is None:
            pytest.skip(f"needs the docs extra: {needed} is not installed")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site: Path) -> None:
    pages = [page.relative_to(DOCS) for page in DOCS.rglob("*.md") if "node_modules" not in page.parts]
    assert all((site / page.with_suffix(".html")).is_file() for page in pages)


def test_a_readers_browser_is_sent_to_no_other_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        loads = [found[0] for found in LOADS.finditer(text) if 'rel="canonical"' not in found[0]]
        assert not loads, f"{page.name} loads {loads}"
        assert 'class="mermaid"' not in text, f"{page.name} has a diagram that the theme would fetch a program for"
    for sheet in site.rglob("*.css"):
        assert not re.search(r"@import|url\(['\"]?(https?:|//)", sheet.read_text()), sheet.name


def test_marks_for_the_tests_are_not_shown(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert "```" not in page.read_text(), f"{page.name} shows a fence"


def test_the_reference_says_what_the_docstrings_say(site: Path) -> None:
    client = (site / "reference/client.html").read_text()
    for name in ("connect", "connect_async", "Client.infer", "AsyncClient.stream", "Result.label", "connect_language"):
        assert re.search(rf'id="splitrt\.[\w.]*\b{re.escape(name)}"', client), name


def test_an_absent_page_is_left_out_of_the_navigation() -> None:
    present = _script("docs_hook").present
    nav = ["index.md", {"How to": ["no-such.md", "how-to/link.md"]}, {"Empty": ["no-such.md"]}, {"Gone": "no-such.md"}]
    assert present(nav, DOCS) == ["index.md", {"How to": ["how-to/link.md"]}]


# ── what is generated and what is listed ────────────────────────────────────────────────────────────


@pytest.mark.parametrize("script", ["cli_page", "results_page"])
def test_a_generated_page_is_what_its_script_writes_today(script: str) -> None:
    module = _script(script)
    assert module.PAGE.read_text() == module.page(), f"run: python scripts/{script}.py"


def test_every_result_is_on_the_page_of_results_with_its_plot() -> None:
    page = (DOCS / "results.md").read_text()
    for file in (DOCS / "results").glob("*.json"):
        assert f"## {file.stem}\n" in page
        assert f"(results/{file.stem}.png)" in page


def test_the_command_of_every_result_is_one_that_runs() -> None:
    whole: Any = get_command(app)
    for described in _script("results_claims").CLAIMS.values():
        name, *rest = described.command.split()[1:]
        whole.commands[name].make_context(name, [*rest, "--json", "FILE", "--plot", "FILE"])


def test_a_target_that_is_not_reached_is_missed() -> None:
    kind = _script("results_figure").Figure
    for sense, met, missed in (("at most", 1.0, 1.1), ("at least", 1.0, 0.9), ("exactly", 1.0, 2.0)):
        figure = kind(key="x", what="x", sense=sense, bound=1.0)
        assert figure.met(met)
        assert not figure.met(missed)
        assert not figure.met(None)


def test_the_error_reference_lists_every_error_with_its_code() -> None:
    kinds = {name: kind for name, kind in vars(splitrt.errors).items() if _is_error(kind)}
    rows = re.findall(r"^\| `(\w+)` \| `(\w+)` \| (yes|no) \|", (DOCS / "errors.md").read_text(), re.MULTILINE)
    listed = sorted((name, code, retryable == "yes") for name, code, retryable in rows)
    assert listed == sorted((name, kind.code, kind.retryable) for name, kind in kinds.items())


def test_compatibility_names_the_numbers_of_this_version(photos: Bundle) -> None:
    page = (DOCS / "compatibility.md").read_text()
    assert f"`protocol` in every hello and welcome; now {PROTOCOL}" in page
    assert f"`schema_version` in its manifest; now {photos.manifest.schema_version}" in page


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, SplitError)


def _script(name: str) -> ModuleType:
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        return import_module(name)
    finally:
        sys.path.remove(str(ROOT / "scripts"))


# ── from another language ───────────────────────────────────────────────────────────────────────────


async def test_node_gets_the_undivided_models_answer_from_the_proto_file_alone(photos: Bundle, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None or not (NODE / "node_modules").is_dir():
        pytest.skip("needs node, and `npm install` in docs/how-to/node")
    draws = np.random.default_rng(0)
    for number in range(2):
        coarse = Image.fromarray(draws.integers(0, 256, (6, 8, 3), dtype=np.uint8))
        coarse.resize((200, 150), Image.Resampling.BICUBIC).save(tmp_path / f"{number}.jpg")
    async with serve(ServerConfig(listen="127.0.0.1:0", drain_grace_s=0.1)) as server:
        asked = await asyncio.create_subprocess_exec(
            node, str(NODE / "infer.js"), server.address, "photos", str(tmp_path / "0.jpg"), str(tmp_path / "1.jpg"),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        told, problems = await asyncio.wait_for(asked.communicate(), 30)
    assert asked.returncode == 0, problems.decode()
    answers = sorted((json.loads(line) for line in told.decode().splitlines()), key=lambda one: int(one["seq"]))
    assert [one["class"] for one in answers] == [_whole(photos, tmp_path / f"{number}.jpg") for number in range(2)]


def _whole(bundle: Bundle, photograph: Path) -> int:
    """The undivided model's class, without wire and server."""
    from splitrt.codec import pixels
    from splitrt.onnx_session import open_session

    wanted = bundle.manifest.photograph
    fitted = pixels.fit(pixels.from_jpeg(photograph.read_bytes()), wanted.height, wanted.width, wanted.fit)
    frame_BCHW = pixels.normalise(fitted, wanted.mean, wanted.std)[None]
    session = open_session(bundle.path("whole.onnx"), 1)
    return int(session.run(None, {session.get_inputs()[0].name: frame_BCHW})[0][0].argmax())
