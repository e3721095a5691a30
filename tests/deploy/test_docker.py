"""The images: what goes in, who runs it, and that their commands are commands of ours."""

from __future__ import annotations

import re
import tomllib
from fnmatch import fnmatch
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from deployed import DEPLOY, GATEWAY_PORT, METRICS_PORT, ROOT, Stage, parse_command, stages, unknown_settings
from packaging.requirements import Requirement

IMAGES = {"device": stages(DEPLOY / "docker/device.Dockerfile"), "server": stages(DEPLOY / "docker/server.Dockerfile")}
# What somebody runs: (file, stage).
TARGETS = [("device", "device"), ("device", "demo"), ("server", "server")]


def whole(image: str, target: str) -> Stage:
    """A stage with the instructions of those it is built on."""
    stage = IMAGES[image][target]
    if stage.base not in IMAGES[image]:
        return stage
    below = whole(image, stage.base)
    return Stage(below.base, stage.name, below.instructions + stage.instructions)


@pytest.mark.parametrize(("image", "target"), TARGETS)
def test_what_an_image_runs_is_a_command_with_options_that_exist(image: str, target: str) -> None:
    stage = whole(image, target)
    assert stage.words("ENTRYPOINT") == ["splitrt"]
    parse_command(["splitrt", *stage.words("CMD")])
    check = stage.of("HEALTHCHECK")[-1]
    if check != "NONE":
        _, _, command = check.partition("CMD ")
        assert parse_command(Stage("", "", [("CMD", command)]).words("CMD"))["health"] is True


@pytest.mark.parametrize(("image", "target"), TARGETS)
def test_an_image_does_not_run_as_root_and_its_settings_are_known(image: str, target: str) -> None:
    stage = whole(image, target)
    uid, _, _ = stage.of("USER")[-1].partition(":")
    assert int(uid) >= 10_000  # by number, so that Kubernetes can see that it is not root
    assert not unknown_settings(re.findall(r"\bSPLITRT_\w+", " ".join(stage.of("ENV"))))


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_holds_every_package_and_all_that_it_copies_reaches_the_builder(image: str) -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied: set[str] = set()
    for stage in IMAGES[image].values():
        for line in stage.of("COPY"):
            *sources, _ = line.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in IMAGES[image]
                continue
            copied.update(sources)
    assert all((ROOT / source).exists() for source in copied)
    assert copied == allowed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert copied >= {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], project["project"]["readme"]}


@pytest.mark.parametrize("secret", ["deploy/compose/papers/server.key", "deploy/compose/papers/server.toml", ".git"])
def test_no_secret_reaches_the_builder(secret: str) -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    assert not any(fnmatch(secret, f"{line[1:]}*") for line in lines if line.startswith("!"))


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_has_the_python_that_is_tested(image: str) -> None:
    file = (DEPLOY / f"docker/{image}.Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert re.findall(r"^ARG PYTHON=(\S+)$", file, re.MULTILINE) == [project["requires-python"].removeprefix(">=")]


def test_the_server_opens_the_ports_that_all_files_name() -> None:
    stage = whole("server", "server")
    assert [int(port) for port in stage.of("EXPOSE")[-1].split()] == [GATEWAY_PORT, METRICS_PORT]
    flags = parse_command(["splitrt", *stage.words("CMD")])
    assert flags["listen"] == f"0.0.0.0:{GATEWAY_PORT}"
    assert flags["metrics"] == f"0.0.0.0:{METRICS_PORT}"


def test_the_servers_build_argument_chooses_among_extras_that_exist() -> None:
    text = (DEPLOY / "docker/server.Dockerfile").read_text()
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r"^ARG EXTRAS=(\S+)$", text, re.MULTILINE) + re.findall(r'"([a-z,]*)" ', text)
    assert len(named) >= 4
    for choice in named:
        assert {extra for extra in choice.split(",") if extra} <= extras.keys()


def test_the_device_image_takes_no_extras() -> None:
    (install,) = IMAGES["device"]["build"].of("RUN")
    assert install.endswith(" .")


def test_what_the_device_image_installs_is_less_than_400_mb() -> None:
    """The base requirements and theirs, as they lie in this environment, and splitrt itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    waiting, seen, size = [Requirement(line) for line in project["dependencies"]], set[str](), 0
    while waiting:
        requirement = waiting.pop()
        if requirement.name.lower() in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(requirement.name.lower())
        try:
            found = distribution(requirement.name)
        except PackageNotFoundError:
            pytest.fail(f"{requirement.name} is a base requirement and is not installed")
        size += sum(file.size or 0 for file in found.files or ())
        waiting += [Requirement(line) for line in found.requires or ()]
    assert not {"torch", "ray", "matplotlib", "scikit-image"} & seen
    for package in ("splitrt", "head_models", "tail_models"):
        size += sum(file.stat().st_size for file in Path(ROOT / package).rglob("*") if file.is_file())
    assert 50e6 < size < 400e6
