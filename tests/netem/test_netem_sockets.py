from __future__ import annotations

import pytest

from splitrt.errors import ConfigError
from splitrt.netem.sockets import bind, resolve, write


async def test_an_address_written_and_read_again_is_the_same() -> None:
    for address in ("127.0.0.1:7070", "[::1]:7070"):
        assert write(await resolve(address, "netem.to")) == address


async def test_a_name_of_two_families_is_taken_as_ipv4() -> None:
    assert await resolve("localhost:7070", "netem.to") == ("127.0.0.1", 7070)


@pytest.mark.parametrize("address", ["nowhere", ":7070", "127.0.0.1:http", "127.0.0.1:70000", ""])
async def test_an_address_that_is_not_host_and_port_is_refused_by_name(address: str) -> None:
    with pytest.raises(ConfigError, match=r"netem\.to must be HOST:PORT"):
        await resolve(address, "netem.to")


def test_an_address_in_use_is_refused_by_name() -> None:
    with bind(("127.0.0.1", 0), "netem.listen") as taken:
        with pytest.raises(ConfigError, match=r"netem\.listen must be an address free to bind, got 127"):
            bind(taken.getsockname(), "netem.listen")
