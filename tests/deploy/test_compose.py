"""The compose file: hardened, one port, and its papers are those that its first line makes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography import x509
from deployed import DEPLOY, GATEWAY_PORT, METRICS_PORT, parse_command, stages, unknown_settings

from splitrt.cli.papers import make_papers
from splitrt.config import ClientConfig, ServerConfig, read_settings

FILE = DEPLOY / "compose/compose.yaml"
COMPOSE: dict[str, Any] = yaml.safe_load(FILE.read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SECRETS = "/run/secrets/"


def init_command() -> dict[str, Any]:
    """What the file's head says to run first."""
    (line,) = (line.lstrip("# ") for line in FILE.read_text().splitlines() if "--init-tls" in line)
    return parse_command(shlex.split(line))


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    wanted = init_command()
    folder = tmp_path_factory.mktemp("papers")
    make_papers(folder, wanted["name"], wanted["device"], days=1)
    return folder


def environment(service: str, papers: Path) -> dict[str, str]:
    return {name: value.replace(SECRETS, f"{papers}/") for name, value in SERVICES[service]["environment"].items()}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_cannot_write_to_its_image_or_gain_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "mem_limit" in service
    assert not {"privileged", "cap_add", "network_mode", "pid"} & service.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_an_image_is_built_here_or_of_a_named_version(name: str) -> None:
    service = SERVICES[name]
    if "build" not in service:
        assert re.fullmatch(r"[a-z/]+:v?\d+\.\d+\.\d+", service["image"])
        return
    context = (FILE.parent / service["build"]["context"]).resolve()
    assert context == DEPLOY.parent
    target = service["build"].get("target")
    assert target is None or target in stages(context / service["build"]["dockerfile"])


def test_only_grafana_is_reached_from_outside_and_from_this_machine_alone() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert published == {"grafana": ["127.0.0.1:3000:3000"]}
    assert COMPOSE["networks"]["link"] == {"internal": True}
    assert SERVICES["device"]["networks"] == ["link"]


def test_every_secret_is_a_file_that_the_first_line_makes_and_every_one_used_is_given(papers: Path) -> None:
    assert init_command()["init_tls"] == Path("deploy/compose/papers")
    assert (FILE.parent / ".gitignore").read_text().splitlines()[-1] == "/papers/"
    for name, secret in COMPOSE["secrets"].items():
        assert secret == {"file": f"papers/{name}"}
        assert (papers / name).is_file()
    for service in SERVICES.values():
        words = [*service.get("command", []), *service.get("environment", {}).values()]
        used = {word.removeprefix(SECRETS) for word in words if word.startswith(SECRETS)}
        assert used == set(service.get("secrets", []))
    assert "authority.key" not in COMPOSE["secrets"]


def test_the_servers_command_and_environment_are_settings_that_hold(papers: Path) -> None:
    flags = parse_command(["splitrt", *SERVICES["server"]["command"]])
    assert flags["metrics"] == f"0.0.0.0:{METRICS_PORT}"
    given = environment("server", papers)
    assert not unknown_settings(given)
    config = read_settings(ServerConfig, "server", papers / flags["config"].name, {}, given)
    assert config.listen == f"0.0.0.0:{GATEWAY_PORT}"
    assert config.client_ca == papers / "authority.pem"
    assert config.tokens
    health = read_settings(ClientConfig, "client", None, {}, given)
    assert (health.tls_cert, health.tls_key) == (papers / "health.pem", papers / "health.key")


def test_the_device_asks_the_server_by_a_name_in_its_certificate(papers: Path) -> None:
    flags = parse_command(["splitrt", *SERVICES["device"]["command"]])
    assert flags["loop"] is True
    given = environment("device", papers)
    config = read_settings(ClientConfig, "client", papers / flags["config"].name, {}, given)
    assert config.servers == (f"server:{GATEWAY_PORT}",)
    assert "server" in SERVICES
    server = x509.load_pem_x509_certificate((papers / "server.pem").read_bytes())
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "server" in names.get_values_for_type(x509.DNSName)


@pytest.mark.parametrize("folder", ["prometheus", "grafana/provisioning", "grafana/dashboards"])
def test_a_mounted_folder_is_there(folder: str) -> None:
    mounts = [mount for service in SERVICES.values() for mount in service.get("volumes", [])]
    assert any(mount.startswith(f"../{folder}:") and mount.endswith(":ro") for mount in mounts)
    if not (DEPLOY / folder).is_dir():
        pytest.skip(f"deploy/{folder} is not in this tree")


def test_prometheus_scrapes_the_servers_metrics() -> None:
    file = DEPLOY / "prometheus/prometheus.yml"
    if not file.is_file():
        pytest.skip("deploy/prometheus/prometheus.yml is not in this tree")
    scrapes = yaml.safe_load(file.read_text())["scrape_configs"]
    targets = {target for scrape in scrapes for one in scrape.get("static_configs", []) for target in one["targets"]}
    assert targets == {f"server:{METRICS_PORT}"}


def test_grafana_finds_prometheus_and_the_dashboards() -> None:
    folder = DEPLOY / "grafana/provisioning"
    files = [yaml.safe_load(file.read_text()) for file in sorted(folder.rglob("*.y*ml"))]
    if not files:
        pytest.skip("deploy/grafana/provisioning is not in this tree")
    assert {one["url"] for file in files for one in file.get("datasources", [])} == {"http://prometheus:9090"}
    mounted = [mount.split(":")[1] for mount in SERVICES["grafana"]["volumes"]]
    for provider in (one for file in files for one in file.get("providers", [])):
        assert provider["options"]["path"] in mounted
