from __future__ import annotations

from contextlib import suppress

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.errors import BadFrame, InvalidInput, SplitError
from splitrt.language.sampling import Sampling
from splitrt.rpc.rounds import MOST_NODES, Opened, Opening, Round, Verdict, check_verdict
from splitrt.rpc.speculation import (
    from_drafter,
    from_verifier,
    link_bytes,
    opened_to_wire,
    opening_to_wire,
    refused,
    round_to_wire,
    verdict_to_wire,
)
from splitrt.rpc.v1 import speculate_pb2 as pb

relaxed = settings(deadline=None)
ID = st.integers(0, (1 << 20) - 1)


@st.composite
def rounds(draw: st.DrawFn) -> Round:
    nodes = draw(st.integers(0, MOST_NODES if draw(st.booleans()) else 8))
    prefix = draw(st.lists(ID, max_size=10))
    start = draw(st.integers(0, 1 << 20))
    return Round(
        round=draw(st.integers(0, 2**32 - 1)),
        base=start + len(prefix),
        base_hash=draw(st.integers(0, 2**64 - 1)),
        start=start,
        prefix=tuple(prefix),
        ids=tuple(draw(st.lists(ID, min_size=nodes, max_size=nodes))),
        parents=tuple(draw(st.integers(-1, node - 1)) for node in range(nodes)),
        more=draw(st.integers(0, 2**32 - 1)),
        drafted=draw(st.integers(0, 100)),
    )


@relaxed
@given(one=rounds())
def test_a_round_arrives_as_it_was_sent_within_its_budget(one: Round) -> None:
    wire = round_to_wire(one)
    assert from_drafter(pb.FromDrafter.FromString(wire.SerializeToString())) == one
    assert link_bytes(wire) <= 64 + 8 * len(one.ids) + 4 * len(one.prefix)


@relaxed
@given(
    seed=st.integers(0, 2**64 - 1),
    temperature=st.floats(0, 100),
    top_p=st.floats(0.01, 1),
    ends=st.lists(ID, max_size=64),
)
def test_an_opening_arrives_as_it_was_sent(seed: int, temperature: float, top_p: float, ends: list[int]) -> None:
    opening = Opening(
        bundle="stories",
        version="1",
        bundle_digest=b"d" * 32,
        tokenizer_digest=b"t" * 32,
        vocabulary=512,
        session=b"s" * 16,
        sampling=Sampling(temperature=temperature, top_p=top_p, seed=seed),
        ends=tuple(ends),
    )
    assert from_drafter(pb.FromDrafter.FromString(opening_to_wire(opening).SerializeToString())) == opening


@relaxed
@given(path=st.lists(st.integers(0, 255)), tokens=st.lists(ID), need=st.booleans())
def test_a_verdict_arrives_as_it_was_sent(path: list[int], tokens: list[int], need: bool) -> None:
    verdict = Verdict(round=3, base=9, path=tuple(path), tokens=tuple(tokens), queue_s=0.5, need_prefix=need)
    assert from_verifier(pb.FromVerifier.FromString(verdict_to_wire(verdict).SerializeToString())) == verdict
    opened = Opened(context=9, max_nodes=8, held=7, held_hash=2**64 - 1)
    assert from_verifier(pb.FromVerifier.FromString(opened_to_wire(opened).SerializeToString())) == opened


@relaxed
@given(data=st.binary(max_size=60))
def test_any_bytes_that_are_a_message_become_a_value_or_a_typed_error(data: bytes) -> None:
    with suppress(DecodeError, SplitError):
        assert isinstance(from_drafter(pb.FromDrafter.FromString(data)), Opening | Round)
    with suppress(DecodeError, SplitError):
        assert isinstance(from_verifier(pb.FromVerifier.FromString(data)), Opened | Verdict)


@pytest.mark.parametrize(
    ("wire", "reason"),
    [
        (pb.Round(ids=[1, 2], back=bytes([0, 2])), "tree"),  # before the first: an orphan
        (pb.Round(ids=[1, 2], back=bytes([1, 1])), "tree"),
        (pb.Round(ids=[1, 2], back=bytes([0])), "tree"),
        (pb.Round(ids=[1] * 256), "tree"),
        (pb.Round(base=3, prefix=[1, 2]), "prefix"),
    ],
)
def test_a_draft_that_is_no_tree_is_refused_as_a_round_and_not_as_a_stream(wire: pb.Round, reason: str) -> None:
    message = pb.FromDrafter(round=wire)
    with pytest.raises(BadFrame) as caught:
        from_drafter(message)
    assert caught.value.reason == reason
    assert refused(message, caught.value) == Verdict(round=0, base=wire.base, error=caught.value)
    assert refused(pb.FromDrafter(), caught.value) is None


def test_settings_that_cannot_be_are_refused_off_the_wire() -> None:
    for sampling in (pb.Sampling(temperature=-1, top_p=1, repetition_penalty=1), pb.Sampling(top_p=0)):
        with pytest.raises(InvalidInput):
            from_drafter(pb.FromDrafter(open=pb.Open(session=bytes(16), sampling=sampling)))
    with pytest.raises(BadFrame, match="session must be"):
        from_drafter(pb.FromDrafter(open=pb.Open(session=b"short")))


def test_a_verdicts_path_must_be_one_of_the_draft() -> None:
    one = Round(round=1, base=3, base_hash=0, start=3, ids=(5, 6, 7), parents=(-1, -1, 0))
    for path in ((), (0,), (1,), (0, 2)):
        check_verdict(Verdict(round=1, base=3, path=path, tokens=(9,)), one, 10)
    for path in ((2,), (1, 2), (3,), (0, 1)):
        with pytest.raises(InvalidInput, match="path"):
            check_verdict(Verdict(round=1, base=3, path=path, tokens=(9,)), one, 10)
    with pytest.raises(InvalidInput, match="tokens below"):
        check_verdict(Verdict(round=1, base=3, tokens=(10,)), one, 10)


def test_a_server_that_takes_wider_drafts_than_can_be_sent_is_sent_those_that_can() -> None:
    opened = from_verifier(pb.FromVerifier(opened=pb.Opened(protocol=1, context=4096, max_nodes=100_000)))
    assert isinstance(opened, Opened)
    widest = opened.max_nodes
    one = Round(
        round=1, base=1, base_hash=0, start=0, prefix=(1,), ids=(1,) * widest, parents=(-1,) + (0,) * (widest - 1)
    )
    assert from_drafter(round_to_wire(one)) == one
