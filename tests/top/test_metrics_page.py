"""What a metrics address may answer: nothing, too much, too slowly, something else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from splitrt.errors import ConfigError
from splitrt.top.page import NoAnswer, fetch, host_and_port


@contextmanager
def answering(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """An address where one connection is answered so."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)

        def run() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_the_body_of_a_page_comes_back() -> None:
    with answering(lambda to: to.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\n\r\na 1\n")) as address:
        assert fetch(address) == "a 1\n"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.0 404 Not Found\r\n\r\n", "with 200, got b'404'"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://elsewhere/\r\n\r\n", "got b'302'"),
        (b"\x00\x00\x12\x04\x00", "must speak HTTP"),
        (b"", "must speak HTTP"),
        (b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 5000, "must be at most 4000 bytes"),
    ],
)
def test_an_answer_that_is_no_page_is_refused(answer: bytes, said: str) -> None:
    with answering(lambda to: to.sendall(answer)) as address, pytest.raises(NoAnswer, match=said):
        fetch(address, most_bytes=4000)


def test_a_page_that_drips_ends_at_the_one_deadline_of_the_whole() -> None:
    def drip(to: socket.socket) -> None:
        for _ in range(200):
            to.sendall(b"x")
            time.sleep(0.01)

    began = time.monotonic()
    with pytest.raises(NoAnswer, match=r"within 0\.2 s"), answering(drip) as address:
        fetch(address, within_s=0.2)
    assert time.monotonic() - began < 1.5


def test_nobody_there_is_said_in_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoAnswer, match=f"no metrics endpoint answers at 127.0.0.1:{port}: "):
        fetch(f"127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["", "edge", "edge:", ":9090", "edge:0", "edge:65536", "edge:9" * 9, "edge:٣"])
def test_an_address_that_is_none_is_bad_usage(address: str) -> None:
    with pytest.raises(ConfigError, match="must be HOST:PORT"):
        host_and_port(address)


@pytest.mark.parametrize(
    ("address", "meant"),
    [("edge:1", ("edge", 1)), ("http://edge:1/metrics", ("edge", 1)), ("[::1]:9090", ("::1", 9090))],
)
def test_an_address_may_be_written_as_a_link(address: str, meant: tuple[str, int]) -> None:
    assert host_and_port(address) == meant
