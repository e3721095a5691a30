"""README and docs as the tests read them: their code blocks, in order, with the marks that say what is done with each.

```python                executed, in the page's own folder
```python title="a.py"   written to that folder as a.py, then executed
```python no-run         compiled only; the tests list every such block
```console               each `$ splitrt ..` is parsed by the command itself
```console run           and run
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from itertools import dropwhile, takewhile
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
FENCE = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```", re.MULTILINE | re.DOTALL)
ASSIGNMENT = re.compile(r"[A-Z_]+=")
SHELL = {"|", "||", "&&", "&", ";", ">", ">>", "<", "2>"}
TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    mark: str
    title: str
    code: str

    @property
    def name(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def commands(self) -> list[list[str]]:
        """Of a console block: the words of each command that is typed, without what the shell makes of them."""
        lines = self.code.replace("\\\n", " ").splitlines()
        typed = [line.strip().removeprefix("$ ") for line in lines if line.strip().startswith("$ ")]
        return [words for line in typed if (words := _words(line))]


def _words(line: str) -> list[str]:
    """Settings before a command are left out, and all from a pipe, a redirection or a further command on."""
    words = list(dropwhile(ASSIGNMENT.match, shlex.split(line, comments=True)))
    return list(takewhile(lambda word: word not in SHELL, words))


def pages() -> list[Path]:
    inner = [page for page in sorted(DOCS.rglob("*.md")) if "node_modules" not in page.parts]
    return [ROOT / "README.md", ROOT / "deploy/README.md", *inner]


def blocks_of(page: Path) -> list[Block]:
    text, found = page.read_text(), []
    for fence in FENCE.finditer(text):
        title = TITLE.search(fence[3])
        mark = TITLE.sub("", fence[3]).strip()
        line = text.count("\n", 0, fence.start()) + 1
        name = str(page.relative_to(ROOT))
        found.append(Block(name, line, fence[2], mark, title[1] if title else "", dedent(fence[4])))
    return found


def all_blocks(language: str) -> list[Block]:
    return [block for page in pages() for block in blocks_of(page) if block.language == language]
