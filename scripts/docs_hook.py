"""What mkdocs does beside reading pages: leave out of the navigation what is not there."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Called once, with the configuration."""
    config["nav"] = present(config["nav"], Path(config["docs_dir"]))
    return config


def present(entry: Any, docs: Path) -> Any:
    """The navigation without pages whose file is absent, and without sections that are then empty."""
    if isinstance(entry, list):
        return [kept for one in entry if (kept := present(one, docs))]
    if isinstance(entry, dict):
        return {title: kept for title, below in entry.items() if (kept := present(below, docs))}
    return entry if (docs / entry).is_file() else None
