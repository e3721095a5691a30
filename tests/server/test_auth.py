from __future__ import annotations

import traceback
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from splitrt.errors import Unauthenticated
from splitrt.server.auth import Metadata, call_principal, principal

PEER = "ipv4:10.0.0.7:4242"
TOKENS = {"alice": SecretStr("a1ice-t0ken"), "bob": SecretStr("b0b-t0ken")}
relaxed = settings(deadline=None)


def bearer(token: str) -> Metadata:
    return [("user-agent", "grpc"), ("authorization", f"Bearer {token}")]


@pytest.mark.parametrize("name", TOKENS)
def test_a_token_names_its_owner(name: str) -> None:
    assert principal(TOKENS, bearer(TOKENS[name].get_secret_value()), None, PEER) == name


@pytest.mark.parametrize(
    "metadata",
    [
        [],
        bearer(""),
        bearer("a1ice-t0keN"),
        bearer("a1ice-t0ken "),
        bearer(" a1ice-t0ken"),
        bearer("a1ice-t0ke"),
        bearer("a1ice-t0kenn"),
        bearer("alice"),
        bearer("töken"),
        [("authorization", "a1ice-t0ken")],
        [("authorization", "Basic a1ice-t0ken")],
        [("authorization", b"Bearer a1ice-t0ken")],
        [("authorization-bin", "Bearer a1ice-t0ken")],
        [("x-token", "Bearer a1ice-t0ken")],
    ],
)
def test_anything_but_the_very_token_is_refused(metadata: Metadata) -> None:
    with pytest.raises(Unauthenticated, match="a valid bearer token is wanted"):
        principal(TOKENS, metadata, [b"CN=alice"], PEER)


@relaxed
@given(st.text(max_size=40))
def test_a_guessed_token_is_refused_and_never_echoed(guess: str) -> None:
    with pytest.raises(Unauthenticated) as refusal:
        principal(TOKENS, bearer(guess), None, PEER)
    assert str(refusal.value).endswith("got another" if guess else "got none")


def test_a_refusal_shows_no_token() -> None:
    with pytest.raises(Unauthenticated) as refusal:
        principal(TOKENS, bearer("guessed-t0ken"), None, PEER)
    shown = "".join(traceback.format_exception(refusal.value)).replace('bearer("guessed-t0ken")', "")
    assert "t0ken" not in shown


@pytest.mark.parametrize("metadata", [[], bearer("")])
def test_an_empty_token_in_the_configuration_lets_nobody_in(metadata: Metadata) -> None:
    with pytest.raises(Unauthenticated):
        principal({"nobody": SecretStr("")}, metadata, None, PEER)


def test_where_tokens_are_asked_for_a_certificate_alone_is_not_enough() -> None:
    with pytest.raises(Unauthenticated):
        principal(TOKENS, [], [b"device-7"], PEER)


def test_without_tokens_the_certificate_names_the_caller() -> None:
    assert principal({}, bearer("ignored"), [b"device-7", b"other"], PEER) == "device-7"


def test_a_certificate_name_that_is_no_utf8_is_still_a_name() -> None:
    assert principal({}, [], [b"\xffdevice"], PEER)


@pytest.mark.parametrize(
    ("peer", "name"),
    [
        (PEER, "ipv4:10.0.0.7"),
        ("ipv6:[::1]:4242", "ipv6:[::1]"),
        ("ipv6:%5B::1%5D:4242", "ipv6:%5B::1%5D"),
        ("unix:", "unix"),
        ("", "local"),
    ],
)
@pytest.mark.parametrize("identity", [None, []])
def test_without_either_the_address_names_the_caller_and_not_its_port(
    peer: str, name: str, identity: list[bytes] | None
) -> None:
    assert principal({}, [], identity, peer) == name


@pytest.mark.parametrize("metadata", [None, (("authorization", "Bearer b0b-t0ken"),)])
def test_a_calls_context_is_read_the_same_way(metadata: tuple[tuple[str, str], ...] | None) -> None:
    context = SimpleNamespace(invocation_metadata=lambda: metadata, peer_identities=lambda: None, peer=lambda: PEER)
    assert call_principal({} if metadata is None else TOKENS, context) == (
        "ipv4:10.0.0.7" if metadata is None else "bob"
    )
