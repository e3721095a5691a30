"""The proxy's sockets: a client joined to a server, and the addresses of both. Non-blocking TCP."""

from __future__ import annotations

import asyncio
import socket
import struct
from dataclasses import dataclass

from splitrt.errors import ConfigError

RECEIVE_BUFFER_BYTES = 64 * 1024  # asked of the kernel, which would else queue megabytes before us
CONNECT_TIMEOUT_S = 5.0


@dataclass(slots=True, eq=False)
class Connection:
    """A client's socket and, once dialled, the server's behind it."""

    client: socket.socket
    server: socket.socket | None = None
    has_hole: bool = False  # bytes were swallowed, so none may follow

    async def dial(self, address: tuple[str, int]) -> socket.socket:
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server = server = _new_socket(address)
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            await asyncio.get_running_loop().sock_connect(server, address)
        return server

    def reset_on_close(self) -> None:
        """The close that follows sends RST in place of FIN."""
        for end in self._ends():
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def close(self) -> None:
        for end in self._ends():
            end.close()

    def _ends(self) -> list[socket.socket]:
        return [self.client] if self.server is None else [self.client, self.server]


async def resolve(address: str, name: str) -> tuple[str, int]:
    """`host:port` to a number and a port; of several addresses the first, IPv4 before IPv6."""
    host, _, port = address.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"{name} must be HOST:PORT, got {address!r}")
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"{name} cannot be resolved, got {address!r}: {error}") from error
    number, port_number = min(found, key=lambda info: info[0] != socket.AF_INET)[4][:2]
    return str(number), int(port_number)


def bind(address: tuple[str, int], name: str) -> socket.socket:
    listener = _new_socket(address)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigError(f"{name} must be an address free to bind, got {write(address)}: {error}") from error
    return listener


def write(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _new_socket(address: tuple[str, int]) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    made.setblocking(False)
    # Before listen and connect: the window is agreed in the handshake.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return made
