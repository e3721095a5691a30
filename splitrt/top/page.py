"""The metrics page of a server or device, fetched with bounds: what answers there may be anything.

One deadline for the whole page, however slowly it drips, and one cap of its bytes. HTTP/1.0, so that no answer is
chunked or kept open; nothing is followed elsewhere.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

from splitrt.errors import ConfigError, SplitError

MOST_BYTES = 1 << 20
WITHIN_S = 3.0


class NoAnswer(SplitError):
    """Nothing, or no metrics page, answered there."""

    code = "no_answer"
    retryable = True


def host_and_port(address: str) -> tuple[str, int]:
    """HOST:PORT, also with http:// before and a path behind. Raises ConfigError."""
    place = address.removeprefix("http://").partition("/")[0]
    host, colon, port = place.rpartition(":")
    is_one_host = bool(host) and (":" not in host or host[0] == "[")
    if not (colon and is_one_host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise ConfigError(f"the address must be HOST:PORT of a metrics endpoint, got {address[:200]!r}")
    return host.strip("[]"), int(port)


def fetch(
    address: str,
    *,
    within_s: float = WITHIN_S,
    most_bytes: int = MOST_BYTES,
    clock: Callable[[], float] = time.monotonic,
) -> str:
    """The page's text. Raises ConfigError on an address that is none, NoAnswer on all else."""
    host, port = host_and_port(address)
    until = clock() + within_s
    asked = f"GET /metrics HTTP/1.0\r\nHost: {host}:{port}\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    data = bytearray()
    try:
        with socket.create_connection((host, port), timeout=within_s) as connection:
            connection.sendall(asked.encode("ascii"))
            while True:
                connection.settimeout(max(0.001, until - clock()))
                part = connection.recv(1 << 16)
                if not part:
                    break
                data += part
                if len(data) > most_bytes:
                    raise NoAnswer(f"a metrics page must be at most {most_bytes} bytes, {address} sends more")
                if clock() >= until:
                    raise TimeoutError
    except TimeoutError:
        raise NoAnswer(f"{address} must answer within {within_s:g} s, got {len(data)} bytes by then") from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise NoAnswer(f"no metrics endpoint answers at {address}: {reason}") from error
    return _body(bytes(data), address)


def _body(answer: bytes, address: str) -> str:
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n")[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/"):
        raise NoAnswer(f"{address} must speak HTTP, got {head[:40]!r}: is that the port of --metrics?")
    if words[1] != b"200":
        raise NoAnswer(f"{address} must answer GET /metrics with 200, got {words[1][:20]!r}")
    return body.decode(errors="replace")
