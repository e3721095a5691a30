"""The gateway's end of its control process, with another program in Ray's place."""

from __future__ import annotations

import asyncio
import sys

import pytest
from pydantic import SecretStr

from splitrt.config import ServerConfig
from splitrt.errors import EngineError
from splitrt.server import cluster
from splitrt.server.cluster import Cluster

ENDS_AT_ONCE = """import sys; sys.stdin.readline(); print('{"ready": "here"}', flush=True)"""


async def test_a_control_process_that_cannot_be_started_just_now_is_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cluster, "PROGRAM", ENDS_AT_ONCE)
    monkeypatch.setattr(cluster, "RESTART_S", (0.01,))
    python = sys.executable
    async with Cluster(ServerConfig(engine="ray"), SecretStr("t")) as one, asyncio.timeout(10):
        monkeypatch.setattr(sys, "executable", "/no/such/python")
        while caplog.text.count("cannot be started") < 2:
            await asyncio.sleep(0.005)
        one.address = ""
        monkeypatch.setattr(sys, "executable", python)
        while not one.address:
            await asyncio.sleep(0.005)
        assert one.address == "here"


async def test_a_control_process_that_cannot_be_started_at_all_is_an_error_of_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(EngineError, match="cannot be started"):
        async with Cluster(ServerConfig(engine="ray"), SecretStr("t")):
            pass
