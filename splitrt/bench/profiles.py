"""Links by name, and what passes and drafts cost: what texts are said across, in virtual time or emulated."""

from __future__ import annotations

from dataclasses import dataclass

STARTS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    name: str
    rtt_ms: float
    up_mbit: float
    down_mbit: float
    outage_every_s: float = 0.0
    outage_s: float = 0.0

    def starts(self) -> tuple[float, ...]:
        """When to begin: moments all over an outage's period, so that a way's mean is not the luck of one moment."""
        if not self.outage_every_s:
            return (0.0,)
        return tuple(self.outage_every_s * number / STARTS for number in range(STARTS))

    def sent(self, at: float, size: int, mbit: float) -> float:
        """When a message is there."""
        left = self._past_outage(at) + size * 8 / (mbit * 1e6)
        return self._past_outage(left + self.rtt_ms / 2e3)

    def up(self, at: float, size: int) -> float:
        return self.sent(at, size, self.up_mbit)

    def down(self, at: float, size: int) -> float:
        return self.sent(at, size, self.down_mbit)

    def _past_outage(self, at: float) -> float:
        if not self.outage_every_s:
            return at
        phase = at % self.outage_every_s
        begins = self.outage_every_s - self.outage_s
        return at + self.outage_every_s - phase if phase >= begins else at


PROFILES = (
    Profile(name="LAN", rtt_ms=1, up_mbit=100, down_mbit=100),
    Profile(name="Wi-Fi", rtt_ms=10, up_mbit=50, down_mbit=100),
    Profile(name="5G", rtt_ms=20, up_mbit=50, down_mbit=200),
    Profile(name="4G", rtt_ms=60, up_mbit=10, down_mbit=30),
    Profile(name="poor 4G", rtt_ms=150, up_mbit=1, down_mbit=5),
    Profile(name="satellite", rtt_ms=600, up_mbit=2, down_mbit=20),
    Profile(name="4G, outages", rtt_ms=60, up_mbit=10, down_mbit=30, outage_every_s=20, outage_s=3),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds: the target's pass and a further node in it; a token of the drafter on the device and on the server."""

    pass_s: float
    node_s: float
    draft_s: float
    server_draft_s: float

    def verify_s(self, nodes: int) -> float:
        return self.pass_s + nodes * self.node_s
