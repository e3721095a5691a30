from __future__ import annotations

import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.config import ClientConfig, ServerConfig, data_folder, problems_of, read_settings, read_with_origins
from splitrt.errors import ConfigError

SECRET = "s3cret-t0ken"
relaxed = settings(deadline=None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "splitrt.toml"
    path.write_text('[server]\nmax_batch = 2\n[client]\nservers = ["file:1"]\ndeadline_ms = 11\nthreads = 2\n')
    return path


def client(**where: Any) -> ClientConfig:
    return read_settings(ClientConfig, "client", **({"environment": {}} | where))


def server(**where: Any) -> ServerConfig:
    return read_settings(ServerConfig, "server", **({"environment": {}} | where))


def test_flags_win_over_environment_and_environment_over_the_file(file: Path) -> None:
    environment = {"SPLITRT_CLIENT_DEADLINE_MS": "22", "SPLITRT_CLIENT_THREADS": "3"}
    settings = client(file=file, environment=environment, flags={"threads": 4})
    assert (settings.servers, settings.deadline_ms, settings.threads) == (("file:1",), 22, 4)


def test_without_file_environment_and_flags_the_defaults_hold() -> None:
    assert client() == ClientConfig()
    assert server() == ServerConfig()


def test_a_flag_that_is_not_given_hides_nothing(file: Path) -> None:
    assert client(file=file, flags={"deadline_ms": None}).deadline_ms == 11


def test_each_side_reads_its_own_table_only(file: Path) -> None:
    assert server(file=file).max_batch == 2
    assert server(environment={"SPLITRT_CLIENT_THREADS": "3", "SPLITRT_DATA": "/x"}) == ServerConfig()


def test_a_file_without_our_table_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert server(file=tmp_path / "empty.toml") == ServerConfig()


@pytest.mark.parametrize(
    ("text", "servers"),
    [('["a:1", "b:2"]', ("a:1", "b:2")), ("['a:1']", ("a:1",))],
)
def test_an_array_in_the_environment_is_toml(text: str, servers: tuple[str, ...]) -> None:
    assert client(environment={"SPLITRT_CLIENT_SERVERS": text}).servers == servers


@pytest.mark.parametrize("text", ["0.0.0.0:7070", '"0.0.0.0:7070"'])
def test_text_in_the_environment_may_be_quoted_or_not(text: str) -> None:
    assert server(environment={"SPLITRT_SERVER_LISTEN": text}).listen == "0.0.0.0:7070"


def test_numbers_and_booleans_in_the_environment_are_read() -> None:
    environment = {"SPLITRT_SERVER_REFLECTION": "true", "SPLITRT_SERVER_DRAIN_GRACE_S": "2.5"}
    settings = server(environment=environment)
    assert settings.reflection is True
    assert settings.drain_grace_s == 2.5


@pytest.mark.parametrize("token", ["12345", "1e5", "true", "2024-01-01", "0x10", "inf", "a b # c", "a=b", "[x"])
def test_a_token_that_looks_like_something_else_is_taken_as_it_is(token: str) -> None:
    given = client(environment={"SPLITRT_CLIENT_TOKEN": token}).token
    assert given is not None
    assert given.get_secret_value() == token


@relaxed
@given(text=st.text(max_size=30))
def test_any_text_in_the_environment_is_taken_or_refused_as_config(text: str) -> None:
    for name in ("SPLITRT_CLIENT_SERVERS", "SPLITRT_CLIENT_DEADLINE_MS", "SPLITRT_CLIENT_TOKEN"):
        with suppress(ConfigError):
            assert isinstance(client(environment={name: text}), ClientConfig)


def test_an_unknown_key_of_the_file_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text("[client]\ndeadline = 5\n")
    with pytest.raises(ConfigError, match=r"client\.deadline is not known.*did you mean 'deadline_ms'"):
        client(file=path)


def test_an_unknown_table_names_the_nearest(tmp_path: Path) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text("[sever]\n")
    with pytest.raises(ConfigError, match="sever is not known.*did you mean 'server'"):
        client(file=path)


def test_an_unknown_variable_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="environment: max_bach is not known.*did you mean 'max_batch'"):
        server(environment={"SPLITRT_SERVER_MAX_BACH": "3"})


def test_an_unknown_flag_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"client\.thread is not known.*did you mean 'threads'"):
        client(flags={"thread": 3})


@pytest.mark.parametrize(
    ("side", "flags", "named"),
    [
        (client, {"deadline_ms": 0}, "client.deadline_ms"),
        (client, {"deadline_ms": 60_001}, "client.deadline_ms"),
        (client, {"deadline_ms": float("nan")}, "client.deadline_ms"),
        (client, {"max_waiting": 0}, "client.max_waiting"),
        (client, {"in_flight_bytes": 1023}, "client.in_flight_bytes"),
        (client, {"threads": 0}, "client.threads"),
        (client, {"connect_timeout_s": 0}, "client.connect_timeout_s"),
        (client, {"servers": "a:1"}, "client.servers"),
        (client, {"runner": "tvm"}, "client.runner: Input should be 'onnx' or 'torch', got 'tvm'"),
        (client, {"tls_cert": "c", "tls_ca": "a"}, "client.tls_cert and client.tls_key"),
        (client, {"tls_key": "k"}, "client.tls_cert and client.tls_key"),
        (client, {"tls_cert": "c", "tls_key": "k"}, "client.tls_cert needs client.tls_ca"),
        (server, {"engine": "slurm"}, "server.engine: Input should be 'embedded' or 'ray'"),
        (server, {"tls_cert": "c"}, "server.tls_cert and server.tls_key"),
        (server, {"client_ca": "a"}, "server.client_ca needs"),
        (server, {"max_payload_bytes": 1023}, "server.max_payload_bytes"),
        (server, {"max_payload_bytes": (64 << 20) + 1}, "server.max_payload_bytes"),
        (server, {"max_in_flight": 0}, "server.max_in_flight"),
        (server, {"max_queue_frames": 0}, "server.max_queue_frames"),
        (server, {"max_batch": 1025}, "server.max_batch"),
        (server, {"hello_timeout_s": 0}, "server.hello_timeout_s"),
        (server, {"drain_grace_s": -1}, "server.drain_grace_s"),
        (server, {"threads": 257}, "server.threads"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(side: Any, flags: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        side(flags=flags)
    assert named in str(refusal.value)


def test_a_refused_value_is_shown() -> None:
    with pytest.raises(ConfigError, match=r"client\.threads: .* 64, got 65"):
        client(flags={"threads": 65})


@pytest.mark.parametrize("table", [3, "text", "[]"])
def test_a_table_that_is_none_is_refused(tmp_path: Path, table: object) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text(f"client = {table!r}" if table != "[]" else "[[client]]\nthreads = 1\n")
    with pytest.raises(ConfigError, match="client must be a table"):
        client(file=path)


@pytest.mark.parametrize("content", [b"[client", b"\xff\xfe", b"a = 1\na = 2\n"])
def test_a_file_that_is_no_toml_is_refused_by_its_path(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"splitrt\.toml"):
        client(file=path)


def test_a_file_that_is_absent_is_refused_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        client(file=tmp_path / "absent.toml")


FILES_WITH_SECRETS = [
    f'[client]\ntoken = ["{SECRET}"]\n',
    f'[client]\ntoken = {{ value = "{SECRET}" }}\n',
    f'[client]\ntokens = "{SECRET}"\n',
    f'[client]\ntoken = "{SECRET}"\nthreads = 0\n',
    f'[client]\ntoken = "{SECRET}"\nrunner = "tvm"\n',
    f'[client]\ntoken = "{SECRET}\n',
    f'[client]\ntoken = "{SECRET}"\ntoken = "{SECRET}"\n',
]


@pytest.mark.parametrize("content", FILES_WITH_SECRETS)
def test_no_refusal_of_a_client_file_shows_its_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text(content)
    assert_refused_without_secret(lambda: client(file=path))


@pytest.mark.parametrize(
    "flags",
    [
        {"tokens": SECRET},
        {"tokens": [SECRET]},
        {"tokens": {"alice": [SECRET]}},
        {"tokens": {"alice": SECRET, "bob": 5}},
        {"tokens": {"alice": SECRET}, "threads": 0},
        {"tokens": {"alice": SECRET}, "tls_cert": "c"},
        {"tokns": {"alice": SECRET}},
    ],
)
def test_no_refusal_of_a_server_flag_shows_a_token(flags: dict[str, Any]) -> None:
    assert_refused_without_secret(lambda: server(flags=flags))


@pytest.mark.parametrize("name", ["SPLITRT_CLIENT_TOKN", "SPLITRT_CLIENT_TOKENS"])
def test_no_refusal_of_a_variable_shows_its_token(name: str) -> None:
    assert_refused_without_secret(lambda: client(environment={name: SECRET}))


def assert_refused_without_secret(read: Any) -> None:
    with pytest.raises(ConfigError) as refusal:
        read()
    assert SECRET not in "".join(traceback.format_exception(refusal.value))  # its causes included


def test_settings_do_not_show_tokens_when_printed() -> None:
    assert SECRET not in repr(client(flags={"token": SECRET}))
    assert SECRET not in str(server(flags={"tokens": {"alice": SECRET}}))


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        client().threads = 2  # type: ignore[misc]


def test_the_flag_for_the_data_folder_wins_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLITRT_DATA", "/from/environment")
    assert data_folder(Path("/from/flag")) == Path("/from/flag")
    assert data_folder() == Path("/from/environment")
    monkeypatch.delenv("SPLITRT_DATA")
    assert data_folder() is None


# ── origins ─────────────────────────────────────────────────────────────────────────────────────────


def test_every_value_knows_who_said_it(file: Path) -> None:
    environment = {"SPLITRT_CLIENT_THREADS": "3", "SPLITRT_CLIENT_TOKEN": "s"}
    read = read_with_origins(ClientConfig, "client", file, {"token": "t", "bundle": None}, environment)
    said = {key: origin for key, origin in read.origins.items() if origin != "default"}
    assert said == {
        "servers": "file",
        "deadline_ms": "file",
        "threads": "environment variable SPLITRT_CLIENT_THREADS",
        "token": "flag",
    }
    assert set(read.origins) == set(ClientConfig.model_fields)


@relaxed
@given(
    places=st.dictionaries(
        st.sampled_from(["threads", "deadline_ms", "max_waiting", "audit_seed"]),
        st.sets(st.sampled_from(["file", "environment", "flag"])),
    )
)
def test_the_origin_is_always_the_last_that_gave_the_value(
    places: dict[str, set[str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    number = {"file": 2, "environment": 3, "flag": 4}
    path = tmp_path_factory.mktemp("origins") / "splitrt.toml"
    path.write_text("\n".join(["[client]", *(f"{key} = 2" for key, by in places.items() if "file" in by)]))
    environment = {f"SPLITRT_CLIENT_{key.upper()}": "3" for key, by in places.items() if "environment" in by}
    flags = {key: 4 for key, by in places.items() if "flag" in by}
    read = read_with_origins(ClientConfig, "client", path, flags, environment)
    for key in ("threads", "deadline_ms", "max_waiting", "audit_seed"):
        by = [one for one in ("flag", "environment", "file") if one in places.get(key, ())]
        assert read.origins[key].split()[0] == (by[0] if by else "default")
        if by:
            assert getattr(read.settings, key) == number[by[0]]


# ── problems of a file ──────────────────────────────────────────────────────────────────────────────


def test_a_file_that_reads_has_no_problems(file: Path) -> None:
    assert problems_of(file) == []


def test_every_problem_of_a_file_has_a_line(tmp_path: Path) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text('[sever]\n[server]\nmax_bach = 2\nthreads = 0\nrunner = "tvm"\n[client]\ndeadline_ms = -1\n')
    lines = problems_of(path)
    wanted = (
        "sever is not known",
        "server.max_bach is not known",
        "server.threads",
        "server.runner",
        "client.deadline_ms",
    )
    assert [sum(word in line for line in lines) for word in wanted] == [1] * len(wanted)
    assert len(lines) == len(wanted)


def test_a_table_that_is_none_is_one_problem_of_several(tmp_path: Path) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text("client = 3\n[server]\nthreads = 0\n")
    assert len(problems_of(path)) == 2


@pytest.mark.parametrize("content", FILES_WITH_SECRETS)
def test_no_problem_shows_a_token(tmp_path: Path, content: str) -> None:
    path = tmp_path / "splitrt.toml"
    path.write_text(content)
    with suppress(ConfigError):
        assert SECRET not in "\n".join(problems_of(path))


def test_a_number_of_thousands_of_digits_is_refused_in_a_file_and_in_the_environment(file: Path) -> None:
    file.write_text(f"[client]\nthreads = {'1' * 5000}\n")
    for read in (lambda: client(file=file), lambda: problems_of(file)):
        with pytest.raises(ConfigError, match="must be readable TOML"):
            read()
    with pytest.raises(ConfigError, match="threads"):
        client(environment={"SPLITRT_CLIENT_THREADS": "1" * 5000})
