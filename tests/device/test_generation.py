"""Whatever the link loses, repeats, reorders or restarts: the text is that of plain decoding, byte for byte."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="needs the torch extra")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from language_pairs import AlwaysWrong, Oracle, Random, save_pair  # noqa: E402

from splitrt.device.events import Confirm, Done, Event, Link, Retract, Token  # noqa: E402
from splitrt.device.generation import Generation  # noqa: E402
from splitrt.device.pace import Pace  # noqa: E402
from splitrt.device.thinking import PROBE, Thinking  # noqa: E402
from splitrt.device.verifier_link import ScriptedVerifierLink  # noqa: E402
from splitrt.device.wish import LONGEST_DRAFT, Offline, Wish  # noqa: E402
from splitrt.errors import BundleError, InvalidInput  # noqa: E402
from splitrt.language.bundle import load_language  # noqa: E402
from splitrt.language.draft import Drafter, ModelDrafter, PromptLookup  # noqa: E402
from splitrt.language.moa import MoaDrafter  # noqa: E402
from splitrt.language.plain import plain_tokens  # noqa: E402
from splitrt.language.sampling import Sampling  # noqa: E402
from splitrt.language.text import Stop, Text  # noqa: E402
from splitrt.rpc.rounds import Opened, Round, Verdict  # noqa: E402
from splitrt.server.verifier import MAX_NODES, Verifier  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
SAMPLINGS = [
    Sampling(),
    Sampling(temperature=1.0, seed=11),
    Sampling(temperature=0.8, top_k=30, top_p=0.95, repetition_penalty=1.2, seed=2),
]
DRAFTERS = ["good", "moa", "lookup", "random", "wrong", "oracle"]


class Bench:
    """A bundle, its verifier, and what plain decoding says."""

    def __init__(self, folder: object) -> None:
        self.bundle = save_pair(folder, moa=True)  # type: ignore[arg-type]
        self.tokenizer = self.bundle.tokenizer()
        self.verifier = Verifier(self.bundle)
        self.draft = self.bundle.model("draft")
        self.plain = lru_cache(None)(self._plain)
        self.drafters: dict[str, Drafter] = {"slow": Slow()}

    def _plain(self, prompt: tuple[int, ...], sampling: Sampling, stop: Stop) -> Text:
        text = Text(self.tokenizer, prompt, stop)
        for token in plain_tokens(self.verifier.target, prompt, sampling):
            text.push(token)
            if text.reason is not None:
                break
        return text

    def drafter(self, kind: str, prompt: Sequence[int], text: Text) -> Drafter:
        truth = [*prompt, *text.tokens]
        if kind in self.drafters:
            return self.drafters[kind]
        drafters: dict[str, Callable[[], Drafter]] = {
            "good": lambda: ModelDrafter(self.draft),
            "moa": lambda: MoaDrafter(*self.bundle.moa()),
            "lookup": PromptLookup,
            "random": Random,
            "wrong": lambda: AlwaysWrong(truth),
            "oracle": lambda: Oracle(truth),
        }
        return drafters[kind]()

    def generate(
        self,
        wish: Wish,
        kind: str = "good",
        faults: float = 0.0,
        seed: int = 0,
        slow: int = 0,
        pace: Pace | None = None,
        takes_s: float = 0.0,
    ) -> tuple[list[Event], Done, Text]:
        text = self.plain(wish.prompt, wish.sampling, wish.stop)
        key = ("tester", bytes(16))
        self.verifier.forget()

        def answer(one: object) -> Verdict:
            return self.verifier.answer(key, one, wish.sampling, states=kind == "moa")  # type: ignore[arg-type]

        opened = Opened(context=self.bundle.manifest.context, max_nodes=MAX_NODES)
        link = ScriptedVerifierLink(
            answer,
            opened,
            go_on=lambda one, base: self.verifier.answer_alone(key, one, base, wish.sampling),
            restart=self.verifier.forget,
            faults=faults,
            slow=slow,
            seed=seed,
        )
        drafter = self.drafter(kind, wish.prompt, text)
        generation = Generation(self.bundle, self.tokenizer, drafter, wish, lambda _: link, pace=pace)

        async def collect() -> list[Event]:
            events = []
            async with asyncio.timeout(60):
                async for event in generation.events():
                    events.append(event)
                    await asyncio.sleep(takes_s)
            return events

        events = asyncio.run(collect())
        done = events[-1]
        assert isinstance(done, Done)
        return events, done, text


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("pair"))


def wish(sampling: Sampling, offline: Offline = "verify", **settings: object) -> Wish:
    stop = Stop(max_tokens=40, ends=frozenset([2]), strings=("zz",))
    return Wish(prompt=(1, 262, 259), vocabulary=274, sampling=sampling, stop=stop, offline=offline, **settings)  # type: ignore[arg-type]


def heard(events: list[Event]) -> str:
    """The text as a caller puts it together."""
    text = ""
    for event in events:
        if isinstance(event, Token):
            text += event.text
        elif isinstance(event, Retract):
            text = text[: len(text) - event.characters]
    return text


@pytest.mark.parametrize("kind", DRAFTERS)
@pytest.mark.parametrize("sampling", SAMPLINGS, ids=["greedy", "seeded", "warped"])
def test_the_text_is_plain_decoding_whoever_drafts(kind: str, sampling: Sampling, bench: Bench) -> None:
    for draft_tokens in (0, 1, 4, 8):
        events, done, text = bench.generate(wish(sampling, draft_tokens=draft_tokens), kind)
        assert done.text == heard(events) == text.shown
        assert list(done.tokens) == text.tokens
        assert done.reason == text.reason
        accepted = done.statistics.accepted
        assert (accepted == 0) == (draft_tokens == 0 or kind == "wrong") or kind in ("moa", "lookup", "random")
        assert (done.statistics.state_bytes > 0) == (kind == "moa")
    assert kind != "oracle" or done.statistics.rounds <= 6


@pytest.mark.parametrize("mode", ["split", "stream", "server", "auto"])
@pytest.mark.parametrize("branches", [1, 3])
def test_the_text_is_plain_decoding_whichever_side_says_it(mode: Any, branches: int, bench: Bench) -> None:
    for sampling in SAMPLINGS:
        asked = wish(sampling, mode=mode, branches=branches, draft_tokens=None if mode == "auto" else 3)
        events, done, text = bench.generate(asked)
        assert done.text == heard(events) == text.shown
        assert list(done.tokens) == text.tokens
        assert mode not in ("stream", "server") or done.statistics.rounds == 1


@pytest.mark.parametrize("kind", DRAFTERS)
def test_a_round_sent_in_hope_of_the_one_before_saves_its_way_and_changes_nothing(kind: str, bench: Bench) -> None:
    sampling, rounds = SAMPLINGS[DRAFTERS.index(kind) % 3], []
    for in_flight in (1, 2):
        asked = wish(sampling, draft_tokens=2, in_flight=in_flight)
        events, done, text = bench.generate(asked, kind, slow=8)
        assert done.text == heard(events) == text.shown
        assert list(done.tokens) == text.tokens
        statistics = done.statistics
        assert (statistics.hopes > 0) == (in_flight == 2)
        assert statistics.hopes_met <= statistics.hopes
        assert kind != "oracle" or statistics.hopes_met == statistics.hopes
        assert kind != "wrong" or statistics.hopes_met == 0
        assert statistics.replays == 0
        rounds.append(statistics.rounds)
    assert rounds[0] == rounds[1]  # a hope that fails is no round


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    kind=st.sampled_from(DRAFTERS),
    sampling=st.sampled_from(SAMPLINGS),
    offline=st.sampled_from(["verify", "hold"]),
    draft_tokens=st.sampled_from([None, 0, 1, 3, 6]),
    branches=st.sampled_from([1, 1, 3]),
    mode=st.sampled_from(["auto", "split", "split", "stream", "server"]),
    in_flight=st.sampled_from([1, 2, 2]),
    slow=st.sampled_from([0, 8]),
    patience_s=st.sampled_from([0.0, None]),
    faults=st.sampled_from([0.05, 0.2, 0.5]),
)
def test_no_schedule_of_faults_changes_the_text(
    seed: int,
    kind: str,
    sampling: Sampling,
    offline: Offline,
    draft_tokens: int | None,
    branches: int,
    mode: Any,
    in_flight: int,
    slow: int,
    patience_s: float | None,
    faults: float,
    bench: Bench,
) -> None:
    asked = wish(
        sampling,
        offline,
        draft_tokens=draft_tokens,
        branches=branches,
        mode=mode,
        in_flight=in_flight,
        patience_s=patience_s,
    )
    events, done, text = bench.generate(asked, kind, faults, seed, slow)
    assert done.text == heard(events) == text.shown
    assert list(done.tokens) == text.tokens
    assert done.reason == text.reason
    if offline == "hold":
        assert done.statistics.retracted == 0
        assert not any(isinstance(event, Token) and event.provisional for event in events)


def test_faults_do_happen_and_provisional_words_are_retracted_or_confirmed(bench: Bench) -> None:
    total = {"provisional": 0, "retracted": 0, "confirmed": 0, "strays": 0, "replays": 0, "connections": 0}
    total |= {"hopes": 0, "hopes_met": 0}
    for seed in range(6):
        asked = wish(SAMPLINGS[seed % 3], patience_s=None if seed % 2 else 0.0, in_flight=2)
        events, done, _ = bench.generate(asked, "oracle" if seed % 2 else "good", 0.3, seed)
        confirmed = sum(event.tokens for event in events if isinstance(event, Confirm))
        statistics = done.statistics
        assert statistics.provisional == statistics.retracted + confirmed
        total["confirmed"] += confirmed
        for name in total.keys() - {"confirmed"}:
            total[name] += getattr(statistics, name)
    assert all(count > 0 for count in total.values()), total


def test_kept_words_stay_and_the_target_goes_on_behind_them(bench: Bench) -> None:
    different = 0
    for seed in range(6):
        asked = wish(Sampling(), "keep", patience_s=0.0)
        events, done, text = bench.generate(asked, "good", 0.2, seed)
        assert done.text == heard(events)
        assert done.statistics.retracted == 0
        different += done.text != text.shown
        if done.statistics.kept == 0:
            assert done.text == text.shown
    assert different


def test_a_text_that_fills_the_context_ends_there(bench: Bench) -> None:
    stop = Stop(max_tokens=10_000)
    asked = Wish(prompt=(1,) * 150, vocabulary=274, sampling=Sampling(), stop=stop)
    _, done, text = bench.generate(asked)
    assert done.reason == "length"
    assert list(done.tokens) == text.tokens
    assert len(done.tokens) == bench.bundle.manifest.context - 150


def test_wishes_that_cannot_be_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidInput, match="offline must be"):
        wish(Sampling(), "perhaps")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="draft_tokens"):
        wish(Sampling(), draft_tokens=99)
    with pytest.raises(InvalidInput, match="in_flight must be 1 or 2, got 3"):
        wish(Sampling(), in_flight=3)
    full = Wish(prompt=(1,) * 160, vocabulary=274, sampling=Sampling(), stop=Stop())
    with pytest.raises(InvalidInput, match="prompt must be below 160"):
        Generation(bench.bundle, bench.tokenizer, PromptLookup(), full, lambda _: pytest.fail("not reached"))


def test_a_verdict_that_is_none_of_the_drafts_is_refused(bench: Bench) -> None:
    for path, tokens in (((1,), (3,)), ((0, 0), (3,)), ((), ()), ((), (999,))):
        opened = Opened(context=160, max_nodes=MAX_NODES)

        def lie(one: object, path: tuple[int, ...] = path, tokens: tuple[int, ...] = tokens) -> Verdict:
            return Verdict(round=one.round, base=one.base, path=path, tokens=tokens)  # type: ignore[attr-defined]

        link = ScriptedVerifierLink(lie, opened)
        with pytest.raises(InvalidInput, match="verdict"):
            asyncio.run(exhaust(bench, link))


def test_states_that_cannot_be_are_refused(bench: Bench) -> None:
    config, _ = bench.bundle.moa()
    for states in (bytes(config.state_bytes - 1), bytes(config.state_bytes * (config.window + 1)), b"\xff" * 28):

        def lie(one: object, states: bytes = states) -> Verdict:
            return Verdict(round=one.round, base=one.base, tokens=(5,), states=states)  # type: ignore[attr-defined]

        link = ScriptedVerifierLink(lie, Opened(context=160, max_nodes=MAX_NODES))
        with pytest.raises(InvalidInput, match="state"):
            asyncio.run(exhaust(bench, link, MoaDrafter(*bench.bundle.moa())))


async def exhaust(bench: Bench, link: ScriptedVerifierLink, drafter: Drafter | None = None) -> None:
    drafter = drafter or ModelDrafter(bench.draft)
    async for _ in Generation(bench.bundle, bench.tokenizer, drafter, wish(Sampling()), lambda _: link).events():
        pass


@pytest.mark.parametrize("settings", [{"mode": "split"}, {"mode": "stream"}])
def test_who_takes_events_slowly_is_not_told_that_the_server_is_away(settings: Any, bench: Bench) -> None:
    asked = replace(wish(Sampling(), draft_tokens=4, patience_s=0.02, **settings), stop=Stop(max_tokens=6))
    events = bench.generate(asked, takes_s=0.03)[0]
    assert not any(isinstance(event, Link) for event in events)


def test_a_slow_drafter_is_not_a_server_that_is_away(bench: Bench) -> None:
    asked = replace(wish(Sampling(), draft_tokens=4, patience_s=0.03, offline="keep"), stop=Stop(max_tokens=8))
    events, done, text = bench.generate(asked, "slow")
    assert not any(isinstance(event, Link) for event in events)
    assert list(done.tokens) == text.tokens


def test_where_nothing_is_drafted_the_drafter_rests(bench: Bench) -> None:
    drafter = bench.drafters["counting"] = Counting()
    bench.generate(wish(Sampling(), draft_tokens=0, mode="split"), "counting", slow=5)
    assert drafter.steps == 0


def test_drafts_that_did_not_pay_are_tried_again_now_and_then(bench: Bench) -> None:
    pace = Pace()
    for _ in range(100):
        pace.reach.add(1, 0)
    pace.drafted(10.0)
    assert pace.plan(LONGEST_DRAFT).length == 0
    for branches in (1, 3):
        asked = wish(Sampling(), draft_tokens=None, mode="split", branches=branches)
        _, done, text = bench.generate(asked, pace=pace)
        assert list(done.tokens) == text.tokens
        assert 0 < done.statistics.drafted <= len(text.tokens) // PROBE + 1


def test_a_drafter_that_got_better_is_used_again(bench: Bench) -> None:
    pace, truth = Pace(), [5] * 60
    asked = wish(Sampling(), draft_tokens=None, mode="split")
    pace.drafted(0.004)

    def answered(ids: tuple[int, ...], accepted: int) -> None:
        one = Round(round=1, base=3, base_hash=0, start=2, prefix=(1,), ids=ids, parents=tuple(range(-1, len(ids) - 1)))
        verdict = Verdict(round=1, base=3, path=tuple(range(accepted)), tokens=(5,))
        pace.answered(one, verdict, [0.9] * len(ids), 40, 0.0, 0.01)

    for _ in range(60):
        answered((5,), 0)
    assert pace.plan(LONGEST_DRAFT).length == 0

    async def rounds() -> int:
        thinking = Thinking(Oracle(truth), asked, pace)
        for number in range(40 * PROBE):
            draft = await thinking.draft([1, 2, 3], 40, alone=False)
            answered(draft.ids, len(draft.ids))
            thinking.guess.take(len(thinking.guess))
            if len(draft.ids) > 1:
                return number
        return -1

    assert asyncio.run(rounds()) > 0


def test_a_prompt_of_tokens_that_are_none_is_refused() -> None:
    for token in (-1, 274, 1 << 40):
        with pytest.raises(InvalidInput, match="from 0 to 273"):
            Wish(prompt=(1, token), vocabulary=274, sampling=Sampling(), stop=Stop())


def test_a_server_does_not_take_a_bundle_of_longer_texts_than_its_target_reads(bench: Bench, tmp_path: Path) -> None:
    folder = shutil.copytree(bench.bundle.folder, tmp_path / "tiny-1")
    manifest = folder / "language.toml"
    manifest.write_text(manifest.read_text().replace("context = 160", "context = 161"))
    with pytest.raises(BundleError, match="at most its target's 160 tokens, got 161"):
        Verifier(load_language(folder))


class Counting:
    def __init__(self) -> None:
        self.steps = 0

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        self.steps += 1
        return 5, 0.5


class Slow:
    """A hundredth of a second a token, and wrong."""

    def step(self, tokens: Sequence[int], sampling: Sampling) -> tuple[int, float] | None:
        time.sleep(0.01)
        return 5, 0.5
