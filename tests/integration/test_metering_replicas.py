"""Tails elsewhere report nothing by themselves: their times come back with results, and the gateway counts them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from loopback import frame_messages, hello
from pydantic import SecretStr

from splitrt.bundle import Bundle
from splitrt.config import ServerConfig
from splitrt.metrics import ServerMetrics
from splitrt.rpc.frames import FrameStart, Reply
from splitrt.rpc.messages import from_device
from splitrt.server.catalogue import Catalogue
from splitrt.server.engine import Embedded, Served
from splitrt.server.fleet import Fleet
from splitrt.server.gateway import Gateway
from splitrt.server.replica import serve_replica

CONFIG = ServerConfig(drain_grace_s=0.1)
CREDENTIAL = SecretStr("between a gateway and its replicas")


class OneReplica(Embedded):
    """Each bundle's tail behind a port of its own."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(CONFIG)
        self.bundle = bundle

    @asynccontextmanager
    async def tails(self, name: str) -> AsyncIterator[Served]:
        async with serve_replica(name, CONFIG, CREDENTIAL) as replica, Fleet(CREDENTIAL, 1 << 22) as fleet:
            fleet.update([replica.address])
            await fleet.connected()
            yield Served(self.bundle, fleet, replica.golden_difference, lambda: fleet.ready)


async def test_a_replicas_times_are_counted_by_the_gateway(photos: Bundle) -> None:
    metrics, replies = ServerMetrics(), asyncio.Queue[Reply]()

    async def nothing(_: int) -> None:
        return

    async with Catalogue(OneReplica(photos), None) as catalogue:
        gateway = Gateway(CONFIG, catalogue, metrics)
        await gateway.offer(("photos",))
        session = gateway.open(hello(photos, stream=5), "camera", replies.put, nothing)
        start = from_device(frame_messages(photos, 1)[0])
        assert isinstance(start, FrameStart)
        await session.start_frame(start)
        async with asyncio.timeout(10):
            reply = await replies.get()
        assert reply.error is None
        read, labels = metrics.registry.get_sample_value, {"bundle": "photos", "version": "3"}
        for stage, took_s in (("queue", reply.queue_s), ("decode", reply.decode_s), ("tail", reply.tail_s)):
            assert read("splitrt_frame_duration_seconds_sum", {"bundle": "photos", "stage": stage}) == took_s > 0
        assert read("splitrt_tails_ready", labels) == 1
        assert read("splitrt_queue_oldest_seconds", labels) == 0
        gateway.close(session)
        await gateway.offer(())
        assert read("splitrt_model_info", {**labels, "digest": photos.digest.hex()[:16]}) is None
