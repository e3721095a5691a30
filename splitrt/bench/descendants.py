"""What runs below a process of ours on Linux, what it holds, and who is connected to it: read from /proc."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from splitrt.errors import ConfigError

PROC = Path("/proc")
LISTENS, ESTABLISHED = "0A", "01"
REPLICA = "ServeReplica"  # in the title of a replica's process, before the bundle it serves


def rss_mb(pid: int) -> float:
    """Resident memory. Raises ConfigError where there is no /proc."""
    try:
        pages = int((PROC / str(pid) / "statm").read_text().split()[1])
    except OSError as error:
        raise ConfigError(f"this benchmark reads /proc/{pid}, as Linux has it: {error.strerror}") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def replicas(server: int, bundle: str) -> list[int]:
    """Processes of this bundle's replicas below a server's, oldest first."""
    return [pid for pid in sorted(descendants(server)) if f"{REPLICA}:{bundle}:" in command(pid)]


def connected_replicas(server: int, bundle: str) -> list[int]:
    """Those that the server itself has a connection to: they take frames."""
    table = _sockets()
    reached = {table[inode].far for inode in _inodes(server) if inode in table and table[inode].state == ESTABLISHED}
    return [
        pid
        for pid in replicas(server, bundle)
        if any(
            one.state == LISTENS and one.near in reached
            for one in (table[inode] for inode in _inodes(pid) if inode in table)
        )
    ]


def descendants(pid: int) -> set[int]:
    """Processes that this one started, those that they did, and so on."""
    parents = dict(_parents())
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def command(pid: int) -> str:
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def _parents() -> Iterator[tuple[int, int]]:
    for folder in PROC.iterdir():
        if folder.name.isdigit():
            try:
                after_name = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            yield int(folder.name), int(after_name[1])


class _Socket:
    __slots__ = ("far", "near", "state")

    def __init__(self, near: int, far: int, state: str) -> None:
        self.near, self.far, self.state = near, far, state  # ports, and what the kernel says of it


def _sockets() -> dict[str, _Socket]:
    """Of this network namespace, by inode."""
    found: dict[str, _Socket] = {}
    for name in ("tcp", "tcp6"):
        for line in (PROC / "net" / name).read_text().splitlines()[1:]:
            fields = line.split()
            near, far = (int(fields[place].rpartition(":")[2], 16) for place in (1, 2))
            found[fields[9]] = _Socket(near, far, fields[3])
    return found


def _inodes(pid: int) -> set[str]:
    found: set[str] = set()
    try:
        for link in (PROC / str(pid) / "fd").iterdir():
            try:
                target = os.readlink(link)
            except OSError:
                continue
            if target.startswith("socket:["):
                found.add(target[8:-1])
    except OSError:
        pass
    return found
