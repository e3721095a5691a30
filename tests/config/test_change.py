from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitrt.config import ServerConfig, changes, refuse_restarts
from splitrt.errors import ConfigError

VALUES: dict[str, list[Any]] = {
    "listen": ["127.0.0.1:1", "127.0.0.1:2"],
    "threads": [1, 2],
    "drain_grace_s": [1.0, 2.0],
    "tokens": [{}, {"a": "first"}, {"a": "second"}],
}
some_settings = st.fixed_dictionaries({key: st.sampled_from(values) for key, values in VALUES.items()})


@given(old=some_settings, new=some_settings)
def test_what_changed_is_what_differs(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = changes(ServerConfig(**old), ServerConfig(**new))
    assert set(found) == {key for key in VALUES if old[key] != new[key]}


@given(old=some_settings, new=some_settings)
def test_a_change_is_refused_exactly_where_a_key_needs_a_restart(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = changes(ServerConfig(**old), ServerConfig(**new))
    needs_restart = {key for key in ("listen", "threads") if old[key] != new[key]}
    if not needs_restart:
        refuse_restarts("server", found, {"tokens", "drain_grace_s"})
        return
    with pytest.raises(ConfigError) as refusal:
        refuse_restarts("server", found, {"tokens", "drain_grace_s"})
    for key in needs_restart:
        assert f"server.{key} is {old[key]!r} and would be {new[key]!r}" in str(refusal.value)
    assert "restart" in str(refusal.value)
    assert "drain_grace_s" not in str(refusal.value)


def test_a_change_of_a_secret_shows_neither_the_old_one_nor_the_new() -> None:
    found = changes(ServerConfig(tokens={"a": "first"}), ServerConfig(tokens={"a": "second"}))
    assert "first" not in str(found["tokens"])
    assert "second" not in str(found["tokens"])
