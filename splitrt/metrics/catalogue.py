"""All metrics with their labels and words, for documentation and for tests of dashboards and rules.

`python -m splitrt.metrics.catalogue` prints the tables of docs/monitoring.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client.registry import Collector

from splitrt.metrics.device import DeviceMetrics
from splitrt.metrics.server import ServerMetrics
from splitrt.metrics.text import TextMetrics

SIDES = ("server", "device", "text")
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    name: str  # of a counter with its _total
    kind: str
    labels: tuple[str, ...]
    words: str

    @property
    def series(self) -> tuple[str, ...]:
        """Names under which Prometheus has it."""
        return tuple(self.name.removesuffix("_total") + suffix for suffix in SUFFIXES[self.kind])


def described(side: str) -> list[Described]:
    """What a server, a device or a language client counts. `process_*`, which Prometheus' client adds, is left out."""
    registries = {
        "server": ServerMetrics().registry,
        "device": DeviceMetrics().registry,
        "text": TextMetrics("").registry,
    }
    return [one for collector in registries[side]._collector_to_names for one in _of(collector)]


def table(side: str) -> str:
    """Markdown."""
    rows = ["| metric | labels | |", "|---|---|---|"]
    rows += [f"| `{one.name}` | {', '.join(one.labels)} | {one.words} |" for one in described(side)]
    return "\n".join(rows)


def _of(collector: Collector) -> Iterator[Described]:
    if not hasattr(collector, "describe"):
        return
    labels: tuple[str, ...] = tuple(getattr(collector, "_labelnames", getattr(collector, "_labels", ())))
    for metric in collector.describe():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        yield Described(name=name, kind=metric.type, labels=labels, words=metric.documentation)


if __name__ == "__main__":
    for side in SIDES:
        print(f"{side}\n\n{table(side)}\n")
