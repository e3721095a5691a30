"""The tails' declarative deployment: one content in two files, of bundles, settings and a program that exist."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
import yaml
from deployed import DEPLOY, at, documents

from splitrt.bundle import find_bundle
from splitrt.config import ServerConfig

FILE = DEPLOY / "ray/serve.yaml"
CONFIG: dict[str, Any] = yaml.safe_load(FILE.read_text())


def test_the_rayservice_deploys_the_same_applications() -> None:
    (service,) = documents((DEPLOY / "kubernetes/base/rayservice.yaml").read_text())
    config = yaml.safe_load(at(service, "spec.serveConfigV2"))
    assert config == CONFIG


def test_an_application_is_named_for_the_version_of_its_bundle() -> None:
    for one in CONFIG["applications"]:
        assert one["name"] == find_bundle(one["args"]["bundle"]).name


def test_ray_serve_itself_listens_nowhere() -> None:
    assert CONFIG["proxy_location"] == "Disabled"  # as the gateway starts it
    assert "grpc_options" not in CONFIG  # its ingress knows no TLS
    assert {one["route_prefix"] for one in CONFIG["applications"]} == {None}


def test_the_program_and_its_arguments_exist() -> None:
    for one in CONFIG["applications"]:
        module, _, name = one["import_path"].partition(":")
        spec = find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        with open(spec.origin) as source:
            assert f"def {name}(" in source.read()
        assert one["args"].keys() - {"bundle"} <= ServerConfig.model_fields.keys()


@pytest.mark.ray
def test_ray_takes_the_file() -> None:
    if find_spec("ray") is None:
        pytest.skip("needs the server extra")
    program = (
        "import sys, yaml\n"
        "from ray.serve.schema import ServeDeploySchema\n"
        "ServeDeploySchema.model_validate(yaml.safe_load(open(sys.argv[1])))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(FILE)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
