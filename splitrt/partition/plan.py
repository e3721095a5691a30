"""Which way of cutting a network is best under a link: pure arithmetic on what was measured.

    latency    = head + link + tail                          of one frame
    frames/s   = 1 / max(head, transfer, tail)               of a pipeline of frames
    energy     = of the device: what the head takes, and the radio while it sends and waits

After Neurosurgeon (Kang et al., ASPLOS 2017), with measured in place of regressed times; the whole network on the
device, and photographs to the server, are ways among the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from splitrt.errors import ConfigError

Objective = Literal["latency", "throughput", "energy"]
FRAMING_BYTES = 46  # ours around a payload or an answer: 32 of the message, 14 of HTTP/2 and gRPC
OVERHEAD_MS = 1.3  # what the runtime itself adds to a remote answer: docs/results/frame.json
SEGMENT_BITS = 1460 * 8
MATHIS = 1.22  # TCP's rate under random loss: Mathis et al., CCR 1997
# An uplink's power over LTE: Huang et al., MobiSys 2012, table 4.
RADIO_W, RADIO_W_PER_MBIT = 1.288, 0.438
LINK = re.compile(r"(?P<rate>[0-9.]+)(?P<unit>kbit|mbit|gbit),(?P<rtt>[0-9.]+)ms(,(?P<loss>[0-9.]+)%)?")
UNITS = {"kbit": 1e-3, "mbit": 1.0, "gbit": 1e3}


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    mbit_per_s: float
    rtt_ms: float
    loss: float = 0.0  # share of packets

    def __post_init__(self) -> None:
        if not (self.mbit_per_s > 0 and self.rtt_ms >= 0 and 0 <= self.loss < 1):
            raise ConfigError(f"a link must have a rate above 0, a round trip and a loss below 100 %, got {self}")

    @property
    def goodput_mbit_per_s(self) -> float:
        """What one TCP stream gets."""
        waiting_s = self.rtt_ms / 1e3 * float(self.loss**0.5)
        bound_mbit = MATHIS * SEGMENT_BITS / 1e6
        return self.mbit_per_s if self.mbit_per_s * waiting_s <= bound_mbit else bound_mbit / waiting_s

    def transfer_ms(self, size: float) -> float:
        return size * 8 / (self.goodput_mbit_per_s * 1e6) * 1e3


def parse_link(text: str) -> Link:
    """`5mbit,40ms` or `800kbit,120ms,1%`: rate, round trip, loss. Raises ConfigError."""
    found = LINK.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        rate = float(found["rate"]) * UNITS[found["unit"]]
        return Link(mbit_per_s=rate, rtt_ms=float(found["rtt"]), loss=float(found["loss"] or 0) / 100)
    except ValueError:
        raise ConfigError(f"a link is RATE,RTT[,LOSS] as in 5mbit,40ms or 800kbit,120ms,1%, got {text!r}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One way to answer a frame, as profiled on one machine: medians, with the distance between the quartiles."""

    cut: str
    module: str = ""  # of the cut, in the user's model
    how: str  # `8 bit`, `JPEG 90`, `bottleneck (assumed)`, `device`, ..
    position: int  # of the cut among the graph's nodes; orders the ways
    head_ms: float
    head_spread_ms: float
    tail_ms: float
    tail_spread_ms: float
    payload_bytes: float  # 0: nothing is sent
    answer_bytes: float
    head_flops: int | None  # None: not counted
    tail_flops: int | None
    head_activation_bytes: int = 0
    head_j: float | None = None  # as measured; None: nothing here measures it
    agreement: float | None = None  # with the undivided network; None: not measured

    @property
    def label(self) -> str:
        return f"{self.module} ({self.cut})" if self.module else self.cut


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """An option under a link, on a device and a server of their own speeds."""

    option: Option
    head_ms: float
    uplink_ms: float
    downlink_ms: float
    rtt_ms: float
    tail_ms: float
    energy_j: float

    @property
    def link_ms(self) -> float:
        """Sending, answering, the round trip, and what the runtime adds."""
        return self.uplink_ms + self.downlink_ms + self.rtt_ms + (OVERHEAD_MS if self.uplink_ms else 0.0)

    @property
    def latency_ms(self) -> float:
        return self.head_ms + self.link_ms + self.tail_ms

    @property
    def frames_per_s(self) -> float:
        return 1e3 / max(self.head_ms, self.uplink_ms, self.downlink_ms, self.tail_ms, 1e-6)

    def cost(self, objective: Objective) -> float:
        """The less the better."""
        if objective == "throughput":
            return -self.frames_per_s
        return self.latency_ms if objective == "latency" else self.energy_j


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """How the device and the server compare with the machine that was profiled."""

    device_slowdown: float = 1.0
    server_load: float = 1.0  # the server takes as many times what it takes when idle
    joules_per_flop: float = 5e-10  # a board of 6 W that does 12 GFLOP/s: where nothing measured energy
    board_w: float = 6.0  # over the time that a head takes, where its operations are not counted

    def __post_init__(self) -> None:
        if not (self.device_slowdown > 0 and self.server_load > 0 and self.joules_per_flop > 0 and self.board_w > 0):
            raise ConfigError(f"slowdown, load, joules per FLOP and watts must be above 0, got {self}")


def ways(options: Iterable[Option], link: Link, machines: Machines = Machines()) -> list[Way]:
    """Every option under the link."""
    return [_way(option, link, machines) for option in options]


def _way(option: Option, link: Link, machines: Machines) -> Way:
    head_ms = option.head_ms * machines.device_slowdown
    joules = option.head_j
    if joules is None and option.head_flops is not None:
        joules = option.head_flops * machines.joules_per_flop
    joules = head_ms / 1e3 * machines.board_w if joules is None else joules
    if not option.payload_bytes:
        return Way(
            option=option, head_ms=head_ms, uplink_ms=0.0, downlink_ms=0.0, rtt_ms=0.0, tail_ms=0.0, energy_j=joules
        )
    uplink_ms = link.transfer_ms(option.payload_bytes + FRAMING_BYTES)
    downlink_ms = link.transfer_ms(option.answer_bytes + FRAMING_BYTES)
    tail_ms = option.tail_ms * machines.server_load
    sending_j = (RADIO_W + RADIO_W_PER_MBIT * link.goodput_mbit_per_s) * uplink_ms / 1e3
    waiting_j = RADIO_W * (link.rtt_ms + downlink_ms + tail_ms) / 1e3
    return Way(
        option=option,
        head_ms=head_ms,
        uplink_ms=uplink_ms,
        downlink_ms=downlink_ms,
        rtt_ms=link.rtt_ms,
        tail_ms=tail_ms,
        energy_j=joules + sending_j + waiting_j,
    )


def ranked(found: Sequence[Way], objective: Objective = "latency", deadline_ms: float | None = None) -> list[Way]:
    """The best first; ways that miss the deadline come after all that keep it."""
    return sorted(
        found, key=lambda way: (deadline_ms is not None and way.latency_ms > deadline_ms, way.cost(objective))
    )


def winners(
    options: Sequence[Option],
    rates_mbit: Sequence[float],
    rtts_ms: Sequence[float],
    machines: Machines = Machines(),
    objective: Objective = "latency",
) -> list[list[Option]]:
    """The best option for every round trip (rows) and rate (columns)."""
    base = Link(mbit_per_s=1.0, rtt_ms=0.0)
    return [
        [
            ranked(ways(options, replace(base, mbit_per_s=rate, rtt_ms=rtt), machines), objective)[0].option
            for rate in rates_mbit
        ]
        for rtt in rtts_ms
    ]
