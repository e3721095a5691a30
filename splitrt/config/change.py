"""What differs between two readings of a table, and what of it a running server cannot take."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Any

from splitrt.config.tables import Settings
from splitrt.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One key's two values as they may be shown: secrets are masked, so both may look alike."""

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} {self.old!r} -> {self.new!r}"


def changes(old: Settings, new: Settings) -> dict[str, Change]:
    """Keys whose values differ, secrets compared by what they hide."""
    was, now = old.model_dump(mode="json"), new.model_dump(mode="json")
    return {
        key: Change(key=key, old=was[key], new=now[key])
        for key in type(new).model_fields
        if getattr(old, key) != getattr(new, key)
    }


def refuse_restarts(table: str, changed: Mapping[str, Change], reloadable: Container[str]) -> None:
    """Raises ConfigError naming every changed key that needs a restart, with both values."""
    refused = [change for key, change in changed.items() if key not in reloadable]
    if refused:
        lines = "; ".join(f"{table}.{one.key} is {one.old!r} and would be {one.new!r}" for one in refused)
        raise ConfigError(f"nothing was reloaded: {lines}: restart the server to change that")
