"""Texts over real gRPC on loopback: drafted on a client, verified on a server, through a link that breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

pytest.importorskip("torch", reason="needs the torch extra")

import loopback  # noqa: E402
from language_pairs import MOA, TARGET, Oracle, random_weights, save_pair, save_stories, save_tokenizer  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from splitrt.bundle import Bundle  # noqa: E402
from splitrt.cli import app  # noqa: E402
from splitrt.config import ClientConfig, ServerConfig  # noqa: E402
from splitrt.device.events import Confirm, Done, Retract, Token  # noqa: E402
from splitrt.device.grpc_verifier import GrpcVerifierLink  # noqa: E402
from splitrt.device.language import LanguageClient, connect_language  # noqa: E402
from splitrt.errors import (
    BadFrame,
    BundleError,
    InvalidInput,
    LinkLost,
    ModelNotFound,
    Overloaded,
    RemoteFailure,
    VersionMismatch,
)  # noqa: E402
from splitrt.language.bundle import LanguageBundle, load_language, make_language  # noqa: E402
from splitrt.language.moa import MoaDrafter  # noqa: E402
from splitrt.language.plain import plain_tokens  # noqa: E402
from splitrt.language.prefix import prefix_hash  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.text import Stop, Text  # noqa: E402
from splitrt.netem import Netem  # noqa: E402
from splitrt.netem.shape import Shape  # noqa: E402
from splitrt.policy.backoff import Pace  # noqa: E402
from splitrt.policy.queue import InFlight  # noqa: E402
from splitrt.rpc import speculation, status  # noqa: E402
from splitrt.rpc.messages import hello_to_wire  # noqa: E402
from splitrt.rpc.rounds import Opening, Round, Verdict  # noqa: E402
from splitrt.rpc.v1 import speculate_pb2 as pb  # noqa: E402
from splitrt.rpc.v1 import speculate_pb2_grpc as pb_grpc  # noqa: E402
from splitrt.server.serve import RunningServer, serve  # noqa: E402
from splitrt.server.verifier import Verifier

pytestmark = pytest.mark.usefixtures("one_thread")
PROMPT = "the sun"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> LanguageBundle:
    return save_pair(tmp_path_factory.mktemp("pair"))


def verifier_of(server: RunningServer) -> Verifier:
    """The first target of a server that runs it in this process."""
    target = next(iter(server.gateway.catalogue.targets.values()))
    assert isinstance(target, Verifier)
    return target


@asynccontextmanager
async def serving(bundle: LanguageBundle, **settings: Any) -> AsyncIterator[RunningServer]:
    given = {"listen": "127.0.0.1:0", "bundles": (str(bundle.folder),), "drain_grace_s": 0.1, **settings}
    async with serve(ServerConfig(**given)) as server:
        yield server


def plainly(bundle: LanguageBundle, sampling: Sampling, max_tokens: int, prompt: str = PROMPT) -> Text:
    tokenizer, model = bundle.tokenizer(), bundle.model("target")
    prompt_ids = tokenizer.encode(prompt)
    text = Text(tokenizer, prompt_ids, Stop(max_tokens=max_tokens, ends=frozenset(bundle.manifest.ends)))
    for token in plain_tokens(model, prompt_ids, sampling):
        text.push(token)
        if text.reason is not None:
            break
    return text


async def collect(client: LanguageClient, **wish: Any) -> tuple[list[Any], Done, str]:
    """All events, the last, and the text as a caller puts it together."""
    events: list[Any] = []
    text = ""
    async for event in client.generate(PROMPT, **wish):
        events.append(event)
        if isinstance(event, Token):
            text += event.text
        elif isinstance(event, Retract):
            text = text[: len(text) - event.characters]
    assert isinstance(events[-1], Done)
    return events, events[-1], text


@pytest.mark.parametrize("temperature", [0.0, 1.0])
async def test_the_text_is_that_of_plain_decoding(temperature: float, bundle: LanguageBundle) -> None:
    wanted = plainly(bundle, Sampling(temperature=temperature, seed=9), 40)
    async with serving(bundle) as server:
        assert verifier_of(server).difference == 0.0
        async with connect_language(server.address, bundle=str(bundle.folder)) as client:
            for drafts in (0, 4):
                _, done, text = await collect(
                    client, max_tokens=40, temperature=temperature, seed=9, mode="split", draft_tokens=drafts
                )
                assert text == done.text == wanted.shown
                assert list(done.tokens) == wanted.tokens
                assert done.statistics.rounds <= (40 if drafts == 0 else 36)
            read = server.metrics.registry.get_sample_value
            drafted = read("splitrt_draft_tokens_total", {"bundle": "tiny", "fate": "drafted"})
            assert drafted is not None
            assert drafted >= done.statistics.drafted > 0
            assert done.statistics.draft_bytes <= 8 * done.statistics.drafted + 64 * done.statistics.rounds


async def test_two_rounds_in_flight_are_answered_in_one_way_of_the_link(bundle: LanguageBundle) -> None:
    truth = plainly(bundle, Sampling(), 40)
    took = {}
    async with serving(bundle) as server, Netem(to=server.address, shape=Shape(rtt_ms=60)) as link:
        client = LanguageClient(bundle, ClientConfig(servers=(link.address,)))
        oracle = Oracle([*bundle.tokenizer().encode(PROMPT), *truth.tokens])
        client._drafter = lambda: oracle
        for in_flight in (1, 2):
            _, done, text = await collect(
                client, max_tokens=40, mode="split", draft_tokens=3, in_flight=in_flight, patience_s=5
            )
            assert text == done.text == truth.shown
            assert done.statistics.hopes_met == done.statistics.hopes
            assert done.statistics.replays == done.statistics.strays == 0
            took[in_flight] = done.statistics.seconds
    assert took[2] < 0.8 * took[1]


@pytest.mark.parametrize(
    ("temperature", "breaks", "mode", "in_flight"),
    [(0.0, "cut", "split", 1), (1.0, "cut", "split", 2), (1.0, "half_open", "split", 2), (1.0, "cut", "stream", 1)],
)
async def test_through_an_outage_the_text_is_the_same(
    temperature: float, breaks: str, mode: Any, in_flight: int, bundle: LanguageBundle
) -> None:
    wanted = plainly(bundle, Sampling(temperature=temperature, seed=9), 60)
    async with serving(bundle) as server, Netem(to=server.address, shape=Shape(rtt_ms=4)) as link:
        config = ClientConfig(servers=(link.address,), connect_timeout_s=0.5)
        client = LanguageClient(bundle, config)
        said, text, done, was_alone = 0, "", None, False
        async for event in client.generate(
            PROMPT, max_tokens=60, temperature=temperature, seed=9, mode=mode, in_flight=in_flight, patience_s=0.05
        ):
            if isinstance(event, Token):
                said += 1
                text += event.text
                was_alone |= event.provisional
                if said == 8:
                    getattr(link, breaks)()
                    asyncio.get_running_loop().call_later(0.4, link.resume)
            elif isinstance(event, Retract):
                text = text[: len(text) - event.characters]
            elif isinstance(event, Done):
                done = event
        assert done is not None
        assert was_alone
        assert done.statistics.connections >= 2
        assert text == done.text == wanted.shown


async def test_a_drafter_that_sees_states_is_sent_them_and_again_after_a_loss(tmp_path: Path) -> None:
    bundle = save_pair(tmp_path / "pair", moa=True)
    wanted = plainly(bundle, Sampling(temperature=1.0, seed=9), 30)
    settings: dict[str, Any] = {"max_tokens": 30, "temperature": 1.0, "seed": 9, "mode": "split", "draft_tokens": 2}
    async with serving(bundle) as server, Netem(to=server.address, shape=Shape(rtt_ms=2)) as link:
        fetched = tmp_path / "fetched"
        async with connect_language(link.address, bundle="tiny", bundles_dir=fetched, drafter="moa") as client:
            assert not (client.bundle.folder / "states").exists()
            _, done, text = await collect(client, **settings)
            assert text == done.text == wanted.shown
            read = len(bundle.tokenizer().encode(PROMPT)) + len(done.tokens) - 1  # the last that is said is not read
            # Each once; the last round may have read beyond the end.
            assert 0 <= done.statistics.state_bytes - MOA.state_bytes * read <= 2 * MOA.state_bytes
            said = 0
            async for event in client.generate(PROMPT, patience_s=0.05, **settings):
                said += isinstance(event, Token)
                if said == 8 and isinstance(event, Token):
                    link.cut()
                    asyncio.get_running_loop().call_later(0.2, link.resume)
                if isinstance(event, Done):
                    assert event.text == wanted.shown
                    assert event.statistics.connections >= 2
                    assert event.statistics.state_bytes >= MOA.state_bytes * read


async def test_states_of_a_bundle_without_them_are_refused(bundle: LanguageBundle) -> None:
    async with serving(bundle) as server:
        client = LanguageClient(bundle, ClientConfig(servers=(server.address,)))
        with pytest.raises(BundleError, match="has no Mixture of Attentions"):
            LanguageClient(bundle, client.config, "moa")
        client._drafter = lambda: MoaDrafter(MOA, random_weights(MOA, 0))  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="no drafter that sees them"):
            await collect(client, max_tokens=4, mode="split")


async def test_a_server_that_lost_everything_is_sent_the_text_again(bundle: LanguageBundle) -> None:
    wanted = plainly(bundle, Sampling(), 40)
    async with serving(bundle) as server:
        async with connect_language(server.address, bundle=str(bundle.folder)) as client:
            said, done = 0, None
            async for event in client.generate(PROMPT, max_tokens=40):
                said += isinstance(event, Token)
                if said == 10:
                    verifier_of(server).forget()
                if isinstance(event, Done):
                    done = event
            assert done is not None
            assert done.text == wanted.shown
            assert done.statistics.replays >= 1


async def test_a_text_that_begins_like_an_earlier_one_is_not_read_again(bundle: LanguageBundle) -> None:
    prompt = "the cat sat on the sun and then the dog sat in the sun, the cat and the dog"
    wanted = plainly(bundle, Sampling(), 10, prompt + " at")
    async with serving(bundle) as server:
        async with connect_language(server.address, bundle=str(bundle.folder)) as client:
            for text in (prompt, prompt + " at"):
                events = [event async for event in client.generate(text, max_tokens=10)]
            assert isinstance(events[-1], Done)
            assert events[-1].text == wanted.shown
            assert verifier_of(server).borrowed >= 32


async def test_a_device_without_the_bundle_fetches_the_drafters_half_and_no_more(
    bundle: LanguageBundle, tmp_path: Path
) -> None:
    wanted = plainly(bundle, Sampling(), 10)
    async with serving(bundle) as server:
        for _ in range(2):  # the second time it is there
            async with connect_language(server.address, bundle="tiny", bundles_dir=tmp_path) as client:
                events = [event async for event in client.generate(PROMPT, max_tokens=10)]
                assert isinstance(events[-1], Done)
                assert events[-1].text == wanted.shown
        with pytest.raises(ModelNotFound, match="no server gave it"):
            async with connect_language(server.address, bundle="other", bundles_dir=tmp_path):
                pass
    files = {path.relative_to(tmp_path / "tiny-1").as_posix() for path in (tmp_path / "tiny-1").rglob("*.*")}
    assert files == set(bundle.head_files())
    assert not any("target" in file for file in files)


async def test_texts_of_one_client_share_a_connection_and_a_broken_one_is_not_kept(bundle: LanguageBundle) -> None:
    wanted = plainly(bundle, Sampling(), 20)
    async with serving(bundle) as server, Netem(to=server.address) as link:
        async with connect_language(link.address, bundle=str(bundle.folder)) as client:
            for connections in (1, 1, 1, 2):
                if connections == 2:
                    link.reset()
                _, done, text = await collect(client, max_tokens=20)
                assert text == done.text == wanted.shown
                assert link.connections == connections


async def test_another_server_takes_the_text_over(bundle: LanguageBundle) -> None:
    wanted = plainly(bundle, Sampling(temperature=1, seed=2), 60)
    async with serving(bundle) as second:
        first = serving(bundle)
        one = await first.__aenter__()
        config = ClientConfig(servers=(one.address, second.address), connect_timeout_s=0.5)
        said, events = 0, []
        async for event in LanguageClient(bundle, config).generate(PROMPT, max_tokens=60, temperature=1, seed=2):
            events.append(event)
            said += isinstance(event, Token)
            if said == 8 and isinstance(event, Token):
                await first.__aexit__(None, None, None)
        assert isinstance(events[-1], Done)
        assert events[-1].text == wanted.shown
        assert verifier_of(second).rounds > 0


async def test_a_server_that_was_never_there_is_an_error_and_what_was_said_is_provisional(
    bundle: LanguageBundle,
) -> None:
    client = LanguageClient(bundle, ClientConfig(servers=("127.0.0.1:1",), connect_timeout_s=0.3))
    events: list[Any] = []

    async def listen() -> None:
        async for event in client.generate(PROMPT, max_tokens=10, patience_s=0.05):
            events.append(event)

    with pytest.raises(LinkLost, match="127.0.0.1:1"):
        await listen()
    assert not any(isinstance(event, Confirm | Done) for event in events)
    assert all(event.provisional for event in events if isinstance(event, Token))


async def test_another_tokenizer_or_bundle_is_refused_with_both_sides_shown(
    bundle: LanguageBundle, tmp_path: Path
) -> None:
    folder = make_language(
        tmp_path,
        name="tiny",
        version="1",
        target=bundle.folder / "target",
        draft=bundle.folder / "draft",
        tokenizer=save_tokenizer(tmp_path / "tokenizer.json", [f" w{place}" for place in range(15)]),
    )
    other = load_language(folder)
    async with serving(bundle) as server:
        with pytest.raises(VersionMismatch, match="tokenizer must have SHA-256") as caught:
            await collect(LanguageClient(other, ClientConfig(servers=(server.address,))))
        assert other.tokenizer_digest[:8].hex() in str(caught.value)
        assert bundle.tokenizer_digest[:8].hex() in str(caught.value)
        renamed = replace(bundle, manifest=bundle.manifest.model_copy(update={"name": "other"}))
        with pytest.raises(ModelNotFound, match="bundle must be one of tiny"):
            await collect(LanguageClient(renamed, ClientConfig(servers=(server.address,))))
        changed = replace(bundle, digest=bytes(32))
        with pytest.raises(VersionMismatch, match="digest of tiny-1"):
            await collect(LanguageClient(changed, ClientConfig(servers=(server.address,))))
        with pytest.raises(InvalidInput, match="prompt must be below"):
            await anext(LanguageClient(bundle, ClientConfig(servers=(server.address,))).generate([1] * 160))


def opening_for(bundle: LanguageBundle) -> Opening:
    return Opening(
        bundle="tiny",
        version="1",
        bundle_digest=bundle.digest,
        tokenizer_digest=bundle.tokenizer_digest,
        vocabulary=TARGET.vocabulary,
        session=bytes(16),
        sampling=Sampling(),
    )


async def test_coming_back_is_paced_by_the_rounds_that_were_on_their_way(bundle: LanguageBundle) -> None:
    prompt = tuple(bundle.tokenizer().encode(PROMPT))
    one = Round(round=1, base=len(prompt), base_hash=prefix_hash(prompt), start=0, prefix=prompt)
    asked: asyncio.Queue[InFlight] = asyncio.Queue()

    def pace(in_flight: InFlight) -> Pace:
        asked.put_nowait(in_flight)
        return Pace()

    async with serving(bundle) as server, Netem(to=server.address) as link:
        config = ClientConfig(servers=(link.address,))
        async with GrpcVerifierLink(config, opening_for(bundle), pace=pace) as verifier, asyncio.timeout(10):
            while verifier.opened is None:
                await verifier.wait(1.0)
            verifier.send(one)
            while verifier.take() is None:
                await verifier.wait(1.0)
            link.stall()
            sent_bytes = verifier.send(replace(one, round=2))
            link.cut()
            assert [flight.link_bytes for flight in (await asked.get()).frames] == [sent_bytes]


@asynccontextmanager
async def raw_stream(server: RunningServer, bundle: LanguageBundle) -> AsyncIterator[Any]:
    async with grpc.aio.insecure_channel(server.address) as channel:
        call = pb_grpc.SpeculateStub(channel).Generate()  # type: ignore[no-untyped-call]
        await call.write(speculation.opening_to_wire(opening_for(bundle)))
        assert (await call.read()).WhichOneof("body") == "opened"
        yield call


async def test_a_bad_round_ends_alone_and_the_session_goes_on(bundle: LanguageBundle) -> None:
    prompt = (1, 262, 259)
    good = Round(round=7, base=3, base_hash=prefix_hash(prompt), start=0, prefix=prompt)
    bad = [
        pb.Round(round=7, ids=[1, 2], back=bytes([0, 5])),  # an orphan
        pb.Round(round=7, base=3, prefix=prompt, base_hash=good.base_hash, ids=[TARGET.vocabulary]),
        pb.Round(round=7, base=3, prefix=[1, 2, TARGET.vocabulary]),
        pb.Round(round=7, base=3, prefix=prompt, base_hash=1),
        pb.Round(round=7, base=3, prefix=prompt, base_hash=good.base_hash, ids=[5] * 200),
        pb.Round(round=7, base=160, prefix=[1] * 160),
        pb.Round(round=7),
    ]
    async with serving(bundle) as server, raw_stream(server, bundle) as call:
        await call.write(speculation.round_to_wire(good))
        first = speculation.from_verifier(await call.read())
        for wire in bad:
            await call.write(pb.FromDrafter(round=wire))
            verdict = speculation.from_verifier(await call.read())
            assert isinstance(verdict, Verdict)
            assert isinstance(verdict.error, BadFrame | InvalidInput), wire
        await call.write(speculation.round_to_wire(replace(good, start=3, prefix=())))
        again = speculation.from_verifier(await call.read())
        assert isinstance(first, Verdict)
        assert isinstance(again, Verdict)
        assert again.tokens == first.tokens  # the same round again: the same verdict


async def test_a_foreign_prefix_is_asked_for(bundle: LanguageBundle) -> None:
    async with serving(bundle) as server, raw_stream(server, bundle) as call:
        stale = Round(round=1, base=9, base_hash=5, start=9)
        await call.write(speculation.round_to_wire(stale))
        verdict = speculation.from_verifier(await call.read())
        assert isinstance(verdict, Verdict)
        assert verdict.need_prefix


async def test_the_server_goes_on_alone_until_it_is_asked_again(bundle: LanguageBundle) -> None:
    prompt = tuple(bundle.tokenizer().encode(PROMPT))
    wanted = plainly(bundle, Sampling(), 12).tokens
    for drafted in (0, 3):
        async with serving(bundle) as server, raw_stream(server, bundle) as call:
            one = Round(
                round=1,
                base=len(prompt),
                base_hash=prefix_hash(prompt),
                start=0,
                prefix=prompt,
                more=len(wanted) - 1,
                drafted=drafted,
            )
            await call.write(speculation.round_to_wire(one))
            said: list[int] = []
            while len(said) < len(wanted):
                verdict = speculation.from_verifier(await call.read())
                assert isinstance(verdict, Verdict)
                assert verdict.base == len(prompt) + len(said)
                said += verdict.tokens
            assert said[: len(wanted)] == wanted


def test_a_bundle_of_two_vocabularies_or_with_a_changed_file_is_refused(bundle: LanguageBundle, tmp_path: Path) -> None:
    small = replace(TARGET, vocabulary=TARGET.vocabulary - 1)
    folder = save_stories(tmp_path / "small", small, random_weights(small, 0))
    parts: dict[str, Any] = {"target": bundle.folder / "target", "tokenizer": bundle.folder / "tokenizer.json"}
    with pytest.raises(BundleError, match="one vocabulary"):
        make_language(tmp_path, name="two", version="1", draft=folder, **parts)
    made = make_language(tmp_path, name="whole", version="1", draft=bundle.folder / "draft", **parts)
    (made / "draft" / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"draft/config.json must have SHA-256"):
        load_language(made)


async def test_generate_prints_the_text(bundle: LanguageBundle, tmp_path: Path) -> None:
    wanted = plainly(bundle, Sampling(), 20)
    async with serving(bundle) as server:
        command = ["generate", PROMPT, "--server", server.address, "--bundle", str(bundle.folder)]
        ran = await asyncio.to_thread(CliRunner().invoke, app, [*command, "--max-tokens", "20"])
    assert ran.exit_code == 0, ran.output
    assert ran.output == PROMPT + wanted.shown + "\n"


def test_pair_makes_a_bundle(bundle: LanguageBundle, tmp_path: Path) -> None:
    words = ["pair", str(bundle.folder / "target"), "--draft", str(bundle.folder / "draft"), "--name", "made"]
    words += ["--tokenizer", str(bundle.folder / "tokenizer.json"), "--out", str(tmp_path), "--ends", "2"]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    assert load_language(tmp_path / "made-1").manifest.ends == (2,)
    assert [path.name for path in tmp_path.iterdir()] == ["made-1"]
    assert "must not hold made-1 already" in str(CliRunner().invoke(app, words).exception)
    nameless = [word if word != "made" else "Made Up" for word in words]
    assert "must have a name like" in str(CliRunner().invoke(app, nameless).exception)
    assert [path.name for path in tmp_path.iterdir()] == ["made-1"]


async def test_stories260k_is_told_through_an_outage(data: Path, tmp_path: Path) -> None:
    import shutil

    source = data / "lm_stories260k"
    for half, name in (("target", "stories260k"), ("draft", "draft40k")):
        (tmp_path / half).mkdir()
        shutil.copyfile(source / f"{name}.config.json", tmp_path / half / "config.json")
        shutil.copyfile(source / f"{name}.safetensors", tmp_path / half / "model.safetensors")
    parts: dict[str, Any] = {half: tmp_path / half for half in ("target", "draft")}
    folder = make_language(
        tmp_path, name="stories", version="1", tokenizer=source / "tokenizer.json", ends=(1, 2), **parts
    )
    bundle = load_language(folder)
    for sampling in (Sampling(), Sampling(temperature=1, seed=4)):
        wanted = plainly(bundle, sampling, 80, "Once upon a time")
        async with serving(bundle) as server, Netem(to=server.address, shape=Shape(rtt_ms=4)) as link:
            client = LanguageClient(bundle, ClientConfig(servers=(link.address,), connect_timeout_s=0.5))
            said = 0
            async for event in client.generate(
                "Once upon a time",
                max_tokens=80,
                temperature=sampling.temperature,
                seed=sampling.seed,
                patience_s=0.05,
            ):
                said += isinstance(event, Token)
                if said == 20 and isinstance(event, Token):
                    link.cut()
                    asyncio.get_running_loop().call_later(0.2, link.resume)
                if isinstance(event, Done):
                    assert event.text == wanted.shown
                    assert event.statistics.provisional > 0


async def test_streams_that_all_wait_before_their_opening_are_let_in_to_the_limit_and_no_further(
    bundle: LanguageBundle,
) -> None:
    async with serving(bundle, max_streams=1) as server, grpc.aio.insecure_channel(server.address) as channel:
        calls = [pb_grpc.SpeculateStub(channel).Generate() for _ in range(3)]  # type: ignore[no-untyped-call]
        await asyncio.gather(*(call.wait_for_connection() for call in calls))
        await asyncio.sleep(0.05)  # until all are read from
        ends = []
        for call in calls:
            await call.write(speculation.opening_to_wire(opening_for(bundle)))
            try:
                ends.append((await call.read()).WhichOneof("body"))
            except grpc.RpcError as error:
                ends.append(error.code())
        for call in calls:
            call.cancel()
    assert ends == ["opened", grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.RESOURCE_EXHAUSTED]


async def test_a_stream_that_waited_before_its_opening_is_not_let_in_to_a_server_that_drains(
    bundle: LanguageBundle,
) -> None:
    async with serving(bundle) as server, grpc.aio.insecure_channel(server.address) as channel:
        call = pb_grpc.SpeculateStub(channel).Generate()  # type: ignore[no-untyped-call]
        await call.wait_for_connection()
        await asyncio.sleep(0.05)
        server.gateway.drain()
        await call.write(speculation.opening_to_wire(opening_for(bundle)))
        with pytest.raises(grpc.RpcError, match="takes no new streams"):
            await call.read()


async def test_a_text_takes_one_of_the_streams_that_frames_may_take(bundle: LanguageBundle, photos: Bundle) -> None:
    async with (
        serving(bundle, bundles=("photos", str(bundle.folder)), max_streams=1) as server,
        raw_stream(server, bundle) as call,
    ):
        async with loopback.raw_stream(server.address, photos, greeted=False) as frames:
            await frames.say(hello_to_wire(loopback.hello(photos)))
            with pytest.raises(Overloaded, match="at most 1 streams"):
                await frames.hear()
        call.cancel()


async def test_a_target_that_fails_ends_its_streams_and_tells_nothing_of_its_inside(
    bundle: LanguageBundle, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def read_many(self, readings: object) -> object:
            raise RuntimeError("broken on purpose, with /a/path in it")

    one = Round(round=1, base=2, base_hash=prefix_hash([5, 6]), start=0, prefix=(5, 6))
    async with serving(bundle) as server, raw_stream(server, bundle) as call:
        passes: Any = verifier_of(server).passes
        passes._model = Broken()
        await call.write(speculation.round_to_wire(one))
        with pytest.raises(grpc.RpcError) as ended:
            await call.read()
        error = status.from_grpc(ended.value, "server")
    assert isinstance(error, RemoteFailure)
    assert "path" not in str(error)
    assert str(error).rpartition(" ")[2] in caplog.text  # what finds it in the log
