"""Log lines for machines: each one is JSON, whatever is said, and can be found by its request."""

from __future__ import annotations

import json
import logging

from hypothesis import given
from hypothesis import strategies as st

from splitrt.logs import JsonLines


def line(message: str, *arguments: object, error: bool = False, **extra: object) -> str:
    try:
        raise ValueError("deep\nbelow") if error else KeyError
    except (ValueError, KeyError) as caught:
        kind = (type(caught), caught, caught.__traceback__) if error else None
        record = logging.LogRecord("splitrt.server", logging.ERROR, "", 0, message, arguments, kind)
    vars(record).update(extra)
    return JsonLines().format(record)


@given(st.text())
def test_whatever_is_said_is_one_line_of_json(text: str) -> None:
    said = line("client said %s", text)
    assert "\n" not in said
    assert json.loads(said)["message"] == f"client said {text}"


def test_a_request_is_a_field_and_other_extras_are_not() -> None:
    said = json.loads(line("tail failed", error=True, request_id="4a", token="secret"))
    assert said["request_id"] == "4a"
    assert said["level"] == "error"
    assert said["time"].endswith("+00:00")
    assert "ValueError: deep\nbelow" in said["error"]
    assert "secret" not in json.dumps(said)
