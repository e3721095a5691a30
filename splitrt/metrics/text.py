"""What a language client counts of the texts that it drafts. Numbers come when a text ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from prometheus_client import Counter

from splitrt.metrics.registry import Registry

DEEPEST = 16  # of a draft, that is counted apart; what lies deeper is counted with it


class Told(Protocol):
    """What is known of a text at its end: see splitrt.device.events.Statistics."""

    tokens: int
    provisional: int
    retracted: int
    kept: int
    connections: int
    replays: int
    up_bytes: int
    down_bytes: int
    answered: int

    @property
    def rounds_by_mode(self) -> Mapping[str, int]: ...

    @property
    def drafted_by_depth(self) -> Sequence[int]: ...

    @property
    def accepted_by_depth(self) -> Sequence[int]: ...


class TextMetrics:
    def __init__(self, bundle: str) -> None:
        self.registry = Registry()
        self._bundle = bundle
        self.texts = self._counter("splitrt_device_texts", "Texts ended: why, an error's code, or cancelled.", "reason")
        self.tokens = self._counter(
            "splitrt_device_tokens",
            "Tokens: committed; provisional, said while no server answered; of these retracted, or kept unasked.",
            "fate",
        )
        self.calls = self._counter("splitrt_device_calls", "Verdicts: calls of the target, over committed tokens.")
        self.rounds = self._counter("splitrt_device_rounds", "Rounds asked for, by who drafted.", "mode")
        self.drafted = self._counter("splitrt_device_drafted", "Drafts that had a token at this depth.", "depth")
        self.accepted = self._counter("splitrt_device_accepted", "Of these, those accepted to this depth.", "depth")
        self.bytes = self._counter("splitrt_device_text_bytes", "Bytes on the link.", "direction")
        self.reconnects = self._counter("splitrt_device_text_reconnects", "Connections of a text after its first.")
        self.replays = self._counter("splitrt_device_text_replays", "Texts sent again to a server that had lost them.")

    def ended(self, told: Told, reason: str) -> None:
        """A text. reason: length, stop or end, an error's code, or cancelled."""
        name = self._bundle
        self.texts.labels(name, reason).inc()
        fates = {"committed": told.tokens, "provisional": told.provisional}
        fates |= {"retracted": told.retracted, "kept": told.kept}
        for fate, tokens in fates.items():
            self.tokens.labels(name, fate).inc(tokens)
        self.calls.labels(name).inc(told.answered)
        for mode, rounds in told.rounds_by_mode.items():
            self.rounds.labels(name, mode).inc(rounds)
        for counter, depths in ((self.drafted, told.drafted_by_depth), (self.accepted, told.accepted_by_depth)):
            for depth, count in enumerate(depths, 1):
                counter.labels(name, str(min(depth, DEEPEST))).inc(count)
        self.bytes.labels(name, "up").inc(told.up_bytes)
        self.bytes.labels(name, "down").inc(told.down_bytes)
        self.reconnects.labels(name).inc(max(0, told.connections - 1))
        self.replays.labels(name).inc(told.replays)

    def snapshot(self) -> str:
        """Everything in Prometheus' text format."""
        return self.registry.text()

    def _counter(self, name: str, documentation: str, *labels: str) -> Counter:
        return Counter(name, documentation, ["bundle", *labels], registry=self.registry)
