"""The units: their commands and settings exist, their credentials are made by `--init-tls`, systemd takes them."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from deployed import DEPLOY, METRICS_PORT, parse_command, unknown_settings

from splitrt.cli.papers import make_papers
from splitrt.config import ClientConfig, ServerConfig, read_settings

UNITS = ("server", "device")
PROGRAM = "/opt/splitrt/bin/splitrt"
HARDENED = {
    "DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes",
    "CapabilityBoundingSet=", "RestrictSUIDSGID=yes", "RestrictNamespaces=yes", "MemoryDenyWriteExecute=yes",
    "SystemCallFilter=@system-service", "SystemCallArchitectures=native", "UMask=0077", "ProtectProc=invisible",
}  # fmt: skip
analyze = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def unit(name: str) -> str:
    return (DEPLOY / f"systemd/splitrt-{name}.service").read_text()


def values(name: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", unit(name), re.MULTILINE)


def environment_file(name: str) -> dict[str, str]:
    """As systemd reads it: quotes as a shell's, no expansion."""
    lines = (DEPLOY / f"systemd/{name}.env").read_text().splitlines()
    words = (shlex.split(line)[0] for line in lines if line and not line.startswith("#"))
    return dict(word.split("=", 1) for word in words)


def environment(name: str, credentials: Path) -> dict[str, str]:
    """Of the unit and, over it, of the file that it names."""
    given = dict(value.split("=", 1) for value in values(name, "Environment"))
    given = {key: value.replace("%d", str(credentials)).replace("%C", "/var/cache") for key, value in given.items()}
    return given | environment_file(name)


@pytest.mark.parametrize("name", UNITS)
def test_a_units_command_exists_with_its_options(name: str) -> None:
    (command,) = values(name, "ExecStart")
    given = environment(name, Path("/run/credentials"))
    words = [re.sub(r"\$\{(\w+)\}", lambda found: given[found[1]], word) for word in shlex.split(command)]
    assert words[0] == PROGRAM
    assert parse_command(["splitrt", *words[1:]])["config"] == Path(f"%d/{name}.toml")
    assert values(name, "EnvironmentFile") == [f"-/etc/splitrt/{name}.env"]


@pytest.mark.parametrize("name", UNITS)
def test_a_units_credentials_are_papers_of_init_tls_and_its_settings_hold(name: str, tmp_path: Path) -> None:
    make_papers(tmp_path, ["edge.example"], ["device"], days=1)
    loaded = dict(value.split(":", 1) for value in values(name, "LoadCredential"))
    assert {path.removeprefix("/etc/splitrt/") for path in loaded.values()} == loaded.keys()
    assert all((tmp_path / credential).is_file() for credential in loaded)
    assert set(re.findall(r"%d/(\S+)", unit(name))) <= loaded.keys()
    given = environment(name, tmp_path)
    assert not unknown_settings(given)
    file = tmp_path / f"{name}.toml"
    if name == "server":
        server = read_settings(ServerConfig, "server", file, {}, given)
        assert server.metrics == f"127.0.0.1:{METRICS_PORT}"
        assert server.client_ca == tmp_path / "authority.pem"
        assert float(values(name, "TimeoutStopSec")[0]) > server.drain_grace_s
    else:
        device = read_settings(ClientConfig, "client", file, {}, given)
        assert device.tls_ca == tmp_path / "authority.pem"
        assert device.token is not None


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_hardened(name: str) -> None:
    assert set(unit(name).splitlines()) >= HARDENED


def test_environment_files_hold_no_secret() -> None:
    for name in UNITS:
        assert not [key for key in environment_file(name) if "TOKEN" in key or "KEY" in key]


@analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_finds_no_fault_with_a_unit(name: str, tmp_path: Path) -> None:
    file = tmp_path / f"splitrt-{name}.service"
    file.write_text(unit(name).replace(PROGRAM, sys.executable))  # it must lie somewhere
    done = subprocess.run(["systemd-analyze", "verify", str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@analyze
@pytest.mark.parametrize("name", UNITS)
def test_systemd_rates_a_units_exposure_below_2_of_10(name: str) -> None:
    words = ["systemd-analyze", "security", "--offline=true", "--threshold=20"]
    file = DEPLOY / f"systemd/splitrt-{name}.service"
    done = subprocess.run([*words, str(file)], capture_output=True, text=True, check=False)
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd is older than 250")
    assert done.returncode == 0, done.stdout[-200:]
