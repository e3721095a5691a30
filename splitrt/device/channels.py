"""Connections that the texts of one client use one after the other: the next text waits for no handshake."""

from __future__ import annotations

from typing import Any

from splitrt.config import ClientConfig
from splitrt.device.credentials import open_channel

MOST_IDLE = 4


class Channels:
    """`close` them. A channel whose connection failed is not given back."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self._idle: list[tuple[str, Any]] = []
        self._is_open = True

    def take(self, server: str) -> Any:
        for place, (other, channel) in enumerate(self._idle):
            if other == server:
                del self._idle[place]
                return channel
        return open_channel(self._config, server)

    async def give_back(self, server: str, channel: Any) -> None:
        if self._is_open and len(self._idle) < MOST_IDLE:
            self._idle.append((server, channel))
        else:
            await channel.close()

    async def close(self) -> None:
        self._is_open = False
        while self._idle:
            await self._idle.pop()[1].close()
