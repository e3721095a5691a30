from __future__ import annotations

from typing import Any

from splitrt.server.sessions import LanguageSession, Sessions


def sessions(most: int = 2, ttl_s: float = 10.0) -> tuple[Sessions, list[float]]:
    now = [0.0]
    context: Any = None  # nothing here reads it
    return Sessions(lambda: LanguageSession(context), most, ttl_s, lambda: now[0]), now


def test_a_session_is_the_same_until_nobody_asked_for_so_long() -> None:
    held, now = sessions()
    first = held.take(("a", b"1"))
    now[0] = 9.0
    assert held.take(("a", b"1")) is first
    now[0] = 18.0
    assert held.take(("a", b"1")) is first
    now[0] = 28.0
    assert held.take(("a", b"1")) is not first


def test_the_longest_unused_goes_first_and_there_are_never_more_than_may_be() -> None:
    held, _ = sessions(most=2)
    first, second = held.take(("a", b"1")), held.take(("a", b"2"))
    assert held.take(("a", b"1")) is first
    held.take(("a", b"3"))
    assert len(held) == 2
    assert held.take(("a", b"1")) is first
    assert held.take(("a", b"2")) is not second


def test_a_session_that_begins_alike_is_found_among_ones_own_only() -> None:
    held, _ = sessions(most=9)
    texts = {b"1": [*range(40)], b"2": [*range(60)], b"3": [9] * 60}
    for name, tokens in texts.items():
        held.take(("a", name)).context = Held(tokens)  # type: ignore[assignment]
    held.take(("b", b"4")).context = Held([*range(90)])  # type: ignore[assignment]
    found = held.alike(("a", b"new"), [*range(80)])
    assert found is not None
    assert found.tokens == texts[b"2"]
    assert held.alike(("a", b"new"), [*range(20)]) is None
    assert held.alike(("c", b"new"), [*range(80)]) is None


class Held:
    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens


def test_nobody_reaches_anothers_session_by_its_name() -> None:
    held, _ = sessions()
    assert held.take(("a", b"1")) is not held.take(("b", b"1"))
