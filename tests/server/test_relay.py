"""Streams of texts through a gateway to a replica, without any cluster: what is counted of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from language_pairs import VOCABULARY, save_pair  # noqa: E402
from pydantic import SecretStr  # noqa: E402

from splitrt.config import ServerConfig  # noqa: E402
from splitrt.language.bundle import LanguageBundle  # noqa: E402
from splitrt.language.prefix import prefix_hash  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.metrics import ServerMetrics  # noqa: E402
from splitrt.rpc import speculation  # noqa: E402
from splitrt.rpc.rounds import Opening, Round  # noqa: E402
from splitrt.server.front import Front  # noqa: E402
from splitrt.server.relay import SpeculateRelay  # noqa: E402
from splitrt.server.replica import serve_replica  # noqa: E402
from splitrt.server.targets import Targets  # noqa: E402
from splitrt.server.uses import Uses  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
CREDENTIAL = SecretStr("of-the-gateway")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LanguageBundle:
    return save_pair(tmp_path_factory.mktemp("pair"))


@asynccontextmanager
async def gateway(targets: Targets, metrics: ServerMetrics) -> AsyncIterator[Any]:
    """A channel to a gateway of these targets."""
    front = Front(
        lambda: [targets],
        metrics,
        settings=ServerConfig,
        principal=lambda context: "one",
        is_draining=lambda: False,
        uses=Uses(),
    )
    server = grpc.aio.server()
    speculation.add_relay(SpeculateRelay(front).generate, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
    await targets.close()
    await server.stop(0)


async def opened(channel: Any, bundle: LanguageBundle, vocabulary: int = VOCABULARY) -> Any:
    call = speculation.open_stub(channel).Generate()
    opening = Opening(
        bundle=bundle.manifest.name,
        version=bundle.manifest.version,
        bundle_digest=bundle.digest,
        tokenizer_digest=bundle.tokenizer_digest,
        vocabulary=vocabulary,
        session=bytes(16),
        sampling=Sampling(),
    )
    await call.write(speculation.opening_to_wire(opening))
    return call


async def test_a_stream_that_no_replica_takes_is_counted_as_refused(bundle: LanguageBundle) -> None:
    metrics, targets = ServerMetrics(), Targets(bundle, CREDENTIAL, 1 << 20)
    read = metrics.registry.get_sample_value
    async with gateway(targets, metrics) as channel:
        with pytest.raises(grpc.RpcError):
            await (await opened(channel, bundle)).read()
        assert read("splitrt_streams_refused_total", {"reason": "overloaded"}) == 1
        async with serve_replica(str(bundle.folder), ServerConfig(drain_grace_s=0.1), CREDENTIAL) as replica:
            targets.update([replica.address])
            with pytest.raises(grpc.RpcError):
                await (await opened(channel, bundle, vocabulary=7)).read()
        assert read("splitrt_streams_refused_total", {"reason": "version_mismatch"}) == 1


async def test_a_round_that_the_server_goes_on_from_is_one_round_and_a_refused_one_no_look(
    bundle: LanguageBundle,
) -> None:
    metrics, targets = ServerMetrics(), Targets(bundle, CREDENTIAL, 1 << 20)
    good = Round(round=1, base=2, base_hash=prefix_hash([5, 6]), start=0, prefix=(5, 6), more=6)
    async with (
        serve_replica(str(bundle.folder), ServerConfig(drain_grace_s=0.1), CREDENTIAL) as replica,
        gateway(targets, metrics) as channel,
    ):
        targets.update([replica.address])
        call = await opened(channel, bundle)
        await call.read()
        await call.write(speculation.round_to_wire(good))
        verdicts = 0
        said = 0
        while said < 1 + good.more:
            verdict = (await call.read()).verdict
            verdicts, said = verdicts + 1, said + len(verdict.path) + len(verdict.tokens)
        await call.write(speculation.round_to_wire(Round(round=2, base=2, base_hash=0, start=0, prefix=(5, 6))))
        assert (await call.read()).verdict.HasField("error")
        call.cancel()
    counted = {
        (one.name, *(value for name, value in one.labels.items() if name != "bundle")): one.value
        for metric in metrics.registry.collect()
        for one in metric.samples
    }
    assert counted["splitrt_rounds_total", "verified"] == counted["splitrt_rounds_total", "bad_frame"] == 1
    assert counted["splitrt_target_calls_total",] == verdicts > 1
    assert counted["splitrt_tokens_total",] == said
    assert counted["splitrt_accepted_length_tokens_count",] == 1
    assert counted["splitrt_round_duration_seconds_count", "verify"] == 1
