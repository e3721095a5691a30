"""`splitrt doctor --init-tls`: what it writes, for whom, and that it overwrites nothing."""

from __future__ import annotations

import os
import stat
import tomllib
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from splitrt.certificates import Authority
from splitrt.cli import app
from splitrt.cli.papers import make_papers
from splitrt.config import ClientConfig, ServerConfig, read_settings
from splitrt.errors import ConfigError

FILES = {
    *("authority.pem", "authority.key", "server.pem", "server.key", "server.toml"),
    *(f"{device}.{kind}" for device in ("robot-7", "robot-8") for kind in ("pem", "key", "toml")),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_papers(tmp_path / "papers", ["edge.example"], ["robot-7", "robot-8"], days=30)
    return tmp_path / "papers"


def test_every_file_is_for_its_owner_only(folder: Path) -> None:
    assert {file.name for file in folder.iterdir()} == FILES
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o600}


def test_the_settings_of_both_sides_are_read_and_agree(folder: Path) -> None:
    server = read_settings(ServerConfig, "server", folder / "server.toml", environment={})
    assert set(server.tokens) == {"robot-7", "robot-8"}
    for name, token in server.tokens.items():
        device = read_settings(ClientConfig, "client", folder / f"{name}.toml", environment={})
        assert device.token == token
        assert device.tls_ca == server.client_ca
        assert device.servers == ("edge.example:7070",)
        assert device.tls_cert is not None
        assert device.tls_cert.is_file()
    assert len({token.get_secret_value() for token in server.tokens.values()}) == 2


def test_a_second_call_overwrites_nothing_and_leaves_nothing(folder: Path) -> None:
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    with pytest.raises(ConfigError, match=r"overwrites nothing.* holds authority\.key, "):
        make_papers(folder, [], ["another"], days=30)
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before


def test_a_dangling_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "authority.key").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match=r"holds authority\.key"):
        make_papers(tmp_path, [], ["device"], days=30)
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("devices", [["server"], ["authority"], ["a", "a"], ["../a"], [""]])
def test_a_device_that_needs_the_file_of_another_is_refused(tmp_path: Path, devices: list[str]) -> None:
    with pytest.raises(ConfigError):
        make_papers(tmp_path, [], devices, days=30)
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigError, match="must be a folder that can be written to"):
        make_papers(tmp_path / "papers", [], ["device"], days=30)


def test_the_command_shows_settings_that_are_toml_and_no_token(tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["doctor", "--init-tls", str(tmp_path), "--name", "2001:db8::5", "--days", "9"])
    assert shown.exit_code == 0, shown.output
    made, server, device = shown.output.partition("\nkeep authority.key")[0].split("\n# splitrt ")
    assert "valid for 9 days" in made
    assert tomllib.loads("# " + server)["server"]["client_ca"] == str(tmp_path / "authority.pem")
    assert tomllib.loads("# " + device)["client"]["servers"] == ["[2001:db8::5]:7070"]
    token = tomllib.loads((tmp_path / "device.toml").read_text())["client"]["token"]
    assert len(token) >= 40
    assert token not in shown.output


def test_doctor_counts_the_days_of_configured_certificates(tmp_path: Path) -> None:
    make_papers(tmp_path, [], ["device"], days=30)
    for config, keys in (("device.toml", ("client.tls_ca", "client.tls_cert")), ("server.toml", ("server.tls_cert",))):
        shown = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / config)])
        assert shown.exit_code == 0, shown.output
        for key in keys:
            assert f"{key} 30.0 days left" in shown.output
    expired = Authority(days=1, now=datetime(2020, 1, 1, tzinfo=UTC)).device("device").certificate_pem
    for content, complaint in ((expired, "device.pem has expired"), (b"none", "device.pem cannot be read")):
        (tmp_path / "device.pem").write_bytes(content)
        shown = CliRunner().invoke(app, ["doctor", "--config", str(tmp_path / "device.toml")])
        assert shown.exit_code == 1
        assert complaint in shown.output
