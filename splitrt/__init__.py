"""splitrt: one model in two places. The head on a device, the tail on a server, a measured link between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from splitrt.device.client import AsyncClient
    from splitrt.device.connect import connect_async
    from splitrt.device.language import LanguageClient, connect_language
    from splitrt.device.result import Classes, Result, Timings
    from splitrt.device.sync import Client, connect
    from splitrt.errors import SplitError

_PUBLIC = {
    "AsyncClient": "splitrt.device.client",
    "Classes": "splitrt.device.result",
    "Client": "splitrt.device.sync",
    "LanguageClient": "splitrt.device.language",
    "Result": "splitrt.device.result",
    "SplitError": "splitrt.errors",
    "Timings": "splitrt.device.result",
    "connect": "splitrt.device.sync",
    "connect_async": "splitrt.device.connect",
    "connect_language": "splitrt.device.language",
}

__all__ = [
    "AsyncClient",
    "Classes",
    "Client",
    "LanguageClient",
    "Result",
    "SplitError",
    "Timings",
    "__version__",
    "connect",
    "connect_async",
    "connect_language",
]


def __getattr__(name: str) -> Any:
    """Public names load on first use, so that `import splitrt` costs nothing."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'splitrt' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_PUBLIC[name]), name)
