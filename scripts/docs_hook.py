"""What mkdocs does beside reading pages: it leaves out of the navigation what is not there, and takes the marks for the
tests (`python no-run`, `console run`) off the first lines of code blocks.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

MARKS = re.compile(r"^( *```\w+) (?:no-run|run)\b *", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Called once, with the configuration."""
    config["nav"] = present(config["nav"], Path(config["docs_dir"]))
    return config


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called for every page."""
    return MARKS.sub(r"\1", markdown)


def present(entry: Any, docs: Path) -> Any:
    """The navigation without pages whose file is absent, and without sections that are then empty."""
    if isinstance(entry, list):
        return [kept for one in entry if (kept := present(one, docs))]
    if isinstance(entry, dict):
        return {title: kept for title, below in entry.items() if (kept := present(below, docs))}
    return entry if (docs / entry).is_file() else None
