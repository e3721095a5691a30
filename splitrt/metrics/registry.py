"""What our metrics are kept in, the edges of their buckets, and counters that read what is counted elsewhere.

Labels are bounded: nothing that a client can make up becomes one. Units are seconds and bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

# Edges are control budgets: 33, 50 and 100 ms are 30, 20 and 10 Hz. An objective must be an edge.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.033, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5)
BYTES = tuple(float(1 << exponent) for exponent in range(6, 23, 2))
TOKENS = (0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 32, 64, 128)  # of one draft, in depth

Kind = type[CounterMetricFamily] | type[GaugeMetricFamily]


class Registry(CollectorRegistry):
    """One a server or client, so that several can live in one process. Says nothing of when a series began: that
    would be a further series for each counter.
    """

    def collect(self) -> Iterator[Metric]:
        for metric in super().collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric

    def text(self) -> str:
        """Everything in Prometheus' text format."""
        return generate_latest(self).decode()


class Followed(Collector):
    """Numbers that somebody else keeps, by their labels: read when they are looked at, free until then."""

    def __init__(self, kind: Kind, name: str, documentation: str, labels: Sequence[str], registry: Registry) -> None:
        self._kind, self._name, self._documentation, self._labels = kind, name, documentation, tuple(labels)
        self._read: Callable[[], Mapping[tuple[str, ...], float]] = dict
        registry.register(self)

    def follow(self, read: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """read: called from the thread that looks."""
        self._read = read

    def describe(self) -> list[Metric]:
        return [self._kind(self._name, self._documentation, labels=self._labels)]

    def collect(self) -> list[Metric]:
        family = self._kind(self._name, self._documentation, labels=self._labels)
        for values, number in self._read().items():
            family.add_metric(values, number)
        return [family]
