"""Shape letters: R rows, A symbols of the alphabet, N symbols to code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.entropy import TOTAL, Batch, Decoder, Models, encode
from splitrt.errors import BadFrame

relaxed = settings(deadline=None)


def rows_of(seed: int, rows: int, alphabet: int) -> npt.NDArray[np.uint16]:
    shares = np.random.default_rng(seed).dirichlet(np.full(alphabet, 0.2), rows)
    frequencies = 1 + np.floor(shares * (TOTAL - alphabet)).astype(np.int64)
    frequencies[np.arange(rows), frequencies.argmax(1)] += TOTAL - frequencies.sum(1)
    return frequencies.astype(np.uint16)


@st.composite
def messages(draw: st.DrawFn) -> tuple[Models, list[Batch], int]:
    alphabet, rows = 2 ** draw(st.integers(1, 8)), draw(st.integers(1, 5))
    models = Models(rows_of(draw(st.integers(0, 999)), rows, alphabet))
    batches = []
    for _ in range(draw(st.integers(0, 3))):
        pairs = st.tuples(st.integers(0, alphabet - 1), st.integers(0, rows - 1))
        some = np.array(draw(st.lists(pairs, max_size=40)), np.uint16).reshape(-1, 2)
        batches.append(Batch(symbols_N=some[:, 0].astype(np.uint8), rows_N=some[:, 1]))
    return models, batches, sum(len(one.rows_N) for one in batches)


@relaxed
@given(messages())
def test_what_is_decoded_is_what_was_encoded(one: tuple[Models, list[Batch], int]) -> None:
    models, batches, count = one
    decoder = Decoder(models, encode(models, batches), count)
    for batch in batches:
        np.testing.assert_array_equal(decoder.read(batch.rows_N), batch.symbols_N)
    decoder.finish()


@relaxed
@given(messages())
def test_the_payload_is_within_a_byte_and_a_bit_of_the_ideal(one: tuple[Models, list[Batch], int]) -> None:
    models, batches, _ = one
    assert 8 * len(encode(models, batches)) < models.ideal_bits(batches) * 1.001 + 9


@relaxed
@given(messages())
def test_no_shorter_prefix_decodes_to_the_same(one: tuple[Models, list[Batch], int]) -> None:
    models, batches, count = one
    payload = encode(models, batches)
    if payload:
        try:
            decoder = Decoder(models, payload[:-1], count)
            same = all((decoder.read(batch.rows_N) == batch.symbols_N).all() for batch in batches)
        except BadFrame:
            return
        assert not same


@relaxed
@given(messages(), st.binary(max_size=200))
def test_any_bytes_decode_to_the_alphabet_or_give_bad_frame(
    one: tuple[Models, list[Batch], int], payload: bytes
) -> None:
    models, batches, count = one
    try:
        decoder = Decoder(models, payload, count)
        for batch in batches:
            symbols = decoder.read(batch.rows_N)
            models.ideal_bits([Batch(symbols_N=symbols, rows_N=batch.rows_N)])  # IndexError beyond the alphabet
    except BadFrame:
        return
    assert len(payload) <= 2 * count + 8


@relaxed
@given(messages(), st.binary(max_size=40))
def test_what_is_decoded_can_take_as_many_bytes_as_it_did(one: tuple[Models, list[Batch], int], rest: bytes) -> None:
    models, batches, count = one
    payload, read = encode(models, batches) + rest, []
    try:
        decoder = Decoder(models, payload, count)
        read = [Batch(symbols_N=decoder.read(batch.rows_N), rows_N=batch.rows_N) for batch in batches]
        decoder.finish()
    except BadFrame:
        return
    assert not payload.endswith(b"\0")
    assert len(payload) <= (models.ideal_bits(read) + count / 128) / 8 + 2


@pytest.mark.parametrize("alphabet", [2, 256])
def test_the_longest_payloads_are_not_refused(alphabet: int) -> None:
    """Symbols as likely as can be, where rounding weighs most, and as rare as can be."""
    rows_RA = np.full((1, alphabet), 1, np.uint16)
    rows_RA[0, 0] = TOTAL - alphabet + 1
    for symbol in (0, alphabet - 1):
        batch = Batch(symbols_N=np.full(50_000, symbol, np.uint8), rows_N=np.zeros(50_000, np.uint16))
        decoder = Decoder(Models(rows_RA), encode(Models(rows_RA), [batch]), 50_000)
        assert (decoder.read(batch.rows_N) == symbol).all()
        decoder.finish()


def test_a_payload_too_long_for_its_symbols_is_refused_before_decoding() -> None:
    with pytest.raises(BadFrame, match="must take at most 28 bytes, got 29") as refusal:
        Decoder(Models(rows_of(0, 1, 4)), bytes(29), 10)
    assert refusal.value.reason == "length"


def test_the_bytes_are_the_same_on_every_machine() -> None:
    """They go over the wire: another version of the coder that changes them is another protocol."""
    rows_RA = np.array([[1, 40_000, 25_535], [60_000, 5_000, 536]], np.uint16)
    symbols = np.array([1, 2, 0, 0, 2, 1, 1, 0] * 4, np.uint8)
    rows = np.array([0, 0, 1, 1, 1, 0, 0, 0] * 4, np.uint16)
    assert encode(Models(rows_RA), [Batch(symbols_N=symbols, rows_N=rows)]).hex() == "5f6016bcee3eb3938ef0b5dc05"
