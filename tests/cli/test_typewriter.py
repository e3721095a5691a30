from __future__ import annotations

import pytest

from splitrt.cli.typewriter import Typewriter
from splitrt.device.events import Confirm, Event, Link, Retract, Token

HEARD: list[Event] = [
    Token(1, " a"),
    Link("alone"),
    Token(2, " b", provisional=True),
    Token(3, " wrong", provisional=True),
    Link("up"),
    Confirm(1),
    Retract(1, 6),
    Token(4, " c"),
]


def test_where_nothing_can_be_taken_back_only_what_stands_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with Typewriter("once") as typewriter:
        for event in HEARD:
            typewriter.hear(event)
    assert capsys.readouterr().out == "once a b c\n"


def test_with_json_on_standard_output_the_text_goes_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    with Typewriter("once", quiet=True) as typewriter:
        for event in HEARD:
            typewriter.hear(event)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == "once a b c\n"
