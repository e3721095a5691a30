"""A link under the kernel's own TCP: a network namespace whose only way out is ours, packet by packet.

    this namespace ── tun ──[ queue, rate, delay ]── tun ── namespace of the server

The proxy of this package carries streams, so that each end's TCP meets the loopback. Here both ends are the kernel's
over the whole way: windows that open slowly, and again after idling, acknowledgements that wait behind other bytes,
and packets lost where the queue is full. Packets are held here and not by the kernel's `netem`, which many hosts
lack, as mahimahi does it (Netravali et al., USENIX ATC 2015). Needs Linux, root, `ip` and /dev/net/tun. IPv4 only.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import struct
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Self

from splitrt.errors import ConfigError
from splitrt.netem.playback import Playback
from splitrt.netem.shape import Shape
from splitrt.netem.trace import Direction

DEVICE = "/dev/net/tun"
TUNSETIFF, TUN_WITHOUT_HEADER = 0x400454CA, 0x1001  # linux/if_tun.h: IFF_TUN | IFF_NO_PI
PACKET_BYTES = 65536  # the longest that a tun gives
OF_A_PROCESS = 8  # at once
NETWORKS = 2**14  # of four addresses each, in 198.18.0.0/16, which is for benchmarks (RFC 2544)

_taken: set[int] = set()  # of this process' numbers


class Tunnel:
    """`async with Tunnel(shape) as link:` run the server by `link.inside`, on a port of `link.address`; connect there.

    "up" is into the namespace. One event loop's thread moves the packets: what else it does delays them.
    """

    def __init__(self, shape: Shape, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.dropped = 0  # packets that found the queue full, both ways
        self.namespace = self.address = ""  # known once started
        self._link = Playback(shape, clock)
        self._own: int | None = None
        self._tuns: list[int] = []
        self._ways: list[_Way] = []

    @property
    def inside(self) -> Sequence[str]:
        """What stands before a command that is to run in the namespace."""
        return ("ip", "netns", "exec", self.namespace)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Raises ConfigError where this host has no such links, or does not let us."""
        self._own = own = min(set(range(OF_A_PROCESS)) - _taken, default=None)
        if own is None:
            raise ConfigError(f"a process may have at most {OF_A_PROCESS} tunnels at once")
        _taken.add(own)
        number = (os.getpid() * OF_A_PROCESS + own) % NETWORKS
        self.namespace = f"splitrt-{os.getpid()}-{own}"
        names = [f"srt{os.getpid()}{own}{end}" for end in "ab"]
        near_address, self.address = (f"198.18.{number // 64}.{number % 64 * 4 + host}" for host in (1, 2))
        try:
            await _ip("netns", "add", self.namespace)
            self._tuns += (_open_tun(name) for name in names)
            await _ip("link", "set", names[1], "netns", self.namespace)
            await _ip("addr", "add", f"{near_address}/30", "dev", names[0])
            await _ip("link", "set", names[0], "up")
            await _ip("-n", self.namespace, "addr", "add", f"{self.address}/30", "dev", names[1])
            for inner in (names[1], "lo"):
                await _ip("-n", self.namespace, "link", "set", inner, "up")
        except BaseException:
            await self.close()
            raise
        near, far = self._tuns
        self._ways = [self._way(near, far, "up"), self._way(far, near, "down")]
        self._link.restart()

    async def close(self) -> None:
        """What is still in the link is gone, and so is the namespace; its processes must have ended."""
        for way in self._ways:
            way.stop()
        for tun in self._tuns:
            os.close(tun)
        self._ways, self._tuns = [], []
        own, self._own = self._own, None
        if own is None:  # what has that name by now is another's
            return
        try:
            with suppress(ConfigError):  # it may never have been made
                await _ip("netns", "del", self.namespace)
        finally:
            _taken.discard(own)

    def restart_trace(self) -> None:
        """The trace's time zero is now."""
        self._link.restart()

    def _way(self, source: int, sink: int, direction: Direction) -> _Way:
        return _Way(source, sink, lambda size_bytes: self._due_s(direction, size_bytes), self._link.clock)

    def _due_s(self, direction: Direction, size_bytes: int) -> float | None:
        if self._link.wait_s(direction) > 0:
            self.dropped += 1
            return None
        return self._link.due_s(direction, size_bytes)


class _Way:
    """Packets from one tun to another, in their order, each when it is due."""

    def __init__(
        self, source: int, sink: int, due_s: Callable[[int], float | None], clock: Callable[[], float]
    ) -> None:
        self._source, self._sink, self._due_s, self._clock = source, sink, due_s, clock
        self._held: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(source, self._take)

    def stop(self) -> None:
        self._loop.remove_reader(self._source)
        if self._timer is not None:
            self._timer.cancel()

    def _take(self) -> None:
        try:
            while packet := os.read(self._source, PACKET_BYTES):
                due_s = self._due_s(len(packet))
                if due_s is not None:
                    self._held.append((due_s, packet))
        except BlockingIOError:
            pass
        except OSError:  # the interface is gone: it stays readable, and there is nothing to read any more
            self._loop.remove_reader(self._source)
        self._give()

    def _give(self) -> None:
        while self._held and self._held[0][0] <= self._clock():
            with suppress(OSError):  # a full or vanished interface loses it, as a link may
                os.write(self._sink, self._held[0][1])
            self._held.popleft()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None
        if self._held:
            self._timer = self._loop.call_later(max(0.0, self._held[0][0] - self._clock()), self._give)


def _open_tun(name: str) -> int:
    try:
        tun = os.open(DEVICE, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        raise ConfigError(f"a tunnel needs {DEVICE}, which cannot be opened: {error.strerror}") from error
    try:
        fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), TUN_WITHOUT_HEADER))
    except OSError as error:
        os.close(tun)
        raise ConfigError(f"a tunnel needs root, {DEVICE} gives no interface: {error.strerror}") from error
    return tun


async def _ip(*words: str) -> None:
    try:
        process = await asyncio.create_subprocess_exec(
            "ip", *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
    except OSError as error:
        raise ConfigError(f"a tunnel needs the command `ip`, which cannot be run: {error.strerror}") from error
    try:
        _, said = await process.communicate()
    except asyncio.CancelledError:  # it does what it was told all the same: who takes that away must not come before
        await process.wait()
        raise
    if process.returncode:
        raise ConfigError(f"a tunnel needs root and namespaces, `ip {' '.join(words)}` said: {said.decode().strip()}")
