"""The Kubernetes objects: of the right kinds, joined to one another, and closed but for the gateway's port."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from deployed import DEPLOY, GATEWAY_PORT, METRICS_PORT, at, documents, parse_command, unknown_settings

FOLDER = DEPLOY / "kubernetes"
IMAGE = "splitrt-server"
# What an object must have, by apiVersion and kind: enough to notice a field in the wrong place.
WANTED = {
    ("v1", "Namespace"): (),
    ("v1", "ServiceAccount"): ("automountServiceAccountToken",),
    ("v1", "ConfigMap"): ("data",),
    ("v1", "Service"): ("spec.selector", "spec.ports.0.port", "spec.ports.0.appProtocol"),
    ("apps/v1", "Deployment"): ("spec.selector.matchLabels", "spec.template.spec.containers.0.image"),
    ("autoscaling/v2", "HorizontalPodAutoscaler"): ("spec.scaleTargetRef.name", "spec.minReplicas", "spec.metrics.0"),
    ("policy/v1", "PodDisruptionBudget"): ("spec.selector.matchLabels",),
    ("networking.k8s.io/v1", "NetworkPolicy"): ("spec.policyTypes.0",),
    ("monitoring.coreos.com/v1", "PodMonitor"): ("spec.selector.matchLabels", "spec.podMetricsEndpoints.0.port"),
    ("ray.io/v1", "RayService"): (
        "spec.serveConfigV2",
        "spec.rayClusterConfig.rayVersion",
        "spec.rayClusterConfig.headGroupSpec.rayStartParams",
        "spec.rayClusterConfig.headGroupSpec.template.spec.containers.0.image",
        "spec.rayClusterConfig.workerGroupSpecs.0.groupName",
        "spec.rayClusterConfig.workerGroupSpecs.0.template.spec.containers.0.image",
    ),
}
BASE = yaml.safe_load((FOLDER / "base/kustomization.yaml").read_text())
OBJECTS = [one for file in BASE["resources"] for one in documents((FOLDER / "base" / file).read_text())]


def objects(kind: str) -> list[dict[str, Any]]:
    return [one for one in OBJECTS if one["kind"] == kind]


def pods() -> dict[str, dict[str, Any]]:
    """Pod templates by the role that they play."""
    cluster = objects("RayService")[0]["spec"]["rayClusterConfig"]
    (worker,) = cluster["workerGroupSpecs"]
    return {
        "gateway": objects("Deployment")[0]["spec"]["template"],
        "head": cluster["headGroupSpec"]["template"],
        "worker": worker["template"],
    }


def containers() -> Iterator[tuple[str, dict[str, Any]]]:
    for role, pod in pods().items():
        for container in pod["spec"]["containers"] + pod["spec"].get("initContainers", []):
            yield role, container


def container(name: str) -> dict[str, Any]:
    (found,) = (one for _, one in containers() if one["name"] == name)
    return found


def selected(labels: dict[str, str]) -> list[str]:
    return [role for role, pod in pods().items() if labels.items() <= pod["metadata"]["labels"].items()]


def environment(one: dict[str, Any]) -> dict[str, Any]:
    """Variables of a container; a secret's as (secret, key)."""
    (shared,) = objects("ConfigMap")
    given: dict[str, Any] = {}
    for source in one.get("envFrom", []):
        assert source == {"configMapRef": {"name": shared["metadata"]["name"]}}
        given |= shared["data"]
    for variable in one.get("env", []):
        secret = at(variable, "valueFrom.secretKeyRef")
        given[variable["name"]] = (secret["name"], secret["key"]) if secret else variable["value"]
    return given


def test_objects_are_of_known_kinds_and_have_what_such_an_object_must() -> None:
    names = [(one["kind"], one["metadata"]["name"]) for one in OBJECTS]
    assert len(set(names)) == len(names)
    assert {(one["apiVersion"], one["kind"]) for one in OBJECTS} == WANTED.keys()
    for one in OBJECTS:
        for path in WANTED[one["apiVersion"], one["kind"]]:
            assert at(one, path) is not None, f"{one['kind']} {one['metadata']['name']} has no {path}"
    in_folder = {file.name for file in (FOLDER / "base").glob("*.yaml")} - {"kustomization.yaml"}
    assert in_folder == set(BASE["resources"])


@pytest.mark.parametrize("role", ["gateway", "head", "worker"])
def test_a_pod_is_hardened(role: str) -> None:
    spec = pods()[role]["spec"]
    assert at(spec, "securityContext.runAsNonRoot") is True
    assert at(spec, "securityContext.runAsUser") == 10001  # of the image
    assert at(spec, "securityContext.seccompProfile.type") == "RuntimeDefault"
    assert spec["enableServiceLinks"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    volumes = {volume["name"] for volume in spec["volumes"]}
    for one in (one for whose, one in containers() if whose == role):
        assert one["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert one["image"] == IMAGE
        assert at(one, "resources.limits.memory")
        assert {mount["name"] for mount in one["volumeMounts"]} <= volumes


def test_accounts_are_those_that_pods_use_and_see_no_token() -> None:
    accounts = {one["metadata"]["name"]: one["automountServiceAccountToken"] for one in objects("ServiceAccount")}
    assert accounts == {"splitrt-gateway": False, "splitrt-worker": False}
    used = {pod["spec"].get("serviceAccountName") for pod in pods().values()}
    assert used == {*accounts, None}  # None: the head's, KubeRay's own


def test_the_gateways_command_exists_and_its_settings_are_known() -> None:
    gateway = container("gateway")
    flags = parse_command(["splitrt", *gateway["args"]])
    assert flags["engine"] == "ray"
    assert flags["metrics"] == f"0.0.0.0:{METRICS_PORT}"
    assert flags["ray_address"] == "splitrt-head-svc:6379"
    assert f"--address={flags['ray_address']}" in container("ray-node")["command"]
    assert objects("RayService")[0]["metadata"]["name"] == "splitrt"  # KubeRay names the head's service after it
    for _, one in containers():
        assert not unknown_settings(environment(one))
    mounted = [mount["mountPath"] for mount in gateway["volumeMounts"]]
    files = [value for value in environment(gateway).values() if str(value).startswith("/")]
    assert files
    assert all(file.rpartition("/")[0] in mounted for file in [*files, str(flags["config"])])


def test_ports_are_those_of_the_code_and_every_name_of_a_port_is_one() -> None:
    ports = {port["name"]: port["containerPort"] for port in container("gateway")["ports"]}
    assert ports == {"grpc": GATEWAY_PORT, "metrics": METRICS_PORT}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        assert at(container("gateway"), f"{probe}.httpGet.port") in ports
    (service,) = objects("Service")
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"], port["appProtocol"]) == (GATEWAY_PORT, "grpc", "grpc")
    for monitor in objects("PodMonitor"):
        (scraped,) = monitor["spec"]["podMetricsEndpoints"]
        for role in selected(monitor["spec"]["selector"]["matchLabels"]):
            named = [port["name"] for whose, one in containers() if whose == role for port in one.get("ports", [])]
            assert scraped["port"] in named
    head = {port["name"]: port["containerPort"] for port in container("ray-head")["ports"]}
    params = at(objects("RayService")[0], "spec.rayClusterConfig.headGroupSpec.rayStartParams")
    assert head["metrics"] == int(params["metrics-export-port"])
    assert head == {"gcs-server": 6379, "dashboard": 8265, "metrics": 8080, "serve": 8000}


def test_selectors_select() -> None:
    (deployment,) = objects("Deployment")
    assert selected(deployment["spec"]["selector"]["matchLabels"]) == ["gateway"]
    assert selected(objects("Service")[0]["spec"]["selector"]) == ["gateway"]
    budgets = {one["metadata"]["name"]: selected(one["spec"]["selector"]["matchLabels"]) for one in
               objects("PodDisruptionBudget")}  # fmt: skip
    assert budgets == {"splitrt-gateway": ["gateway"], "splitrt-ray": ["head", "worker"]}
    target = objects("HorizontalPodAutoscaler")[0]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", deployment["metadata"]["name"])
    assert "replicas" not in deployment["spec"]  # the autoscaler's business


def test_ray_asks_every_process_for_the_token() -> None:
    for name in ("ray-head", "ray-worker", "ray-node", "gateway"):
        given = environment(container(name))
        assert given["RAY_AUTH_MODE"] == "token"
        assert given["RAY_AUTH_TOKEN"] == ("splitrt-ray", "auth_token")
    cluster = objects("RayService")[0]["spec"]["rayClusterConfig"]
    assert cluster["authOptions"] == {"mode": "token", "secretName": "splitrt-ray"}
    assert environment(cluster["autoscalerOptions"])["RAY_AUTH_TOKEN"] == ("splitrt-ray", "auth_token")
    for name in ("ray-head", "ray-worker", "gateway"):
        assert environment(container(name))["SPLITRT_SERVER_REPLICA_TOKEN"] == ("splitrt-ray", "replica_token")


def test_the_gateways_ray_node_runs_no_tails_and_is_seen_by_the_gateway() -> None:
    node, spec = container("ray-node"), pods()["gateway"]["spec"]
    assert {"--num-cpus=0", "--num-gpus=0", "--block"} <= set(node["command"])
    assert f"--node-manager-port={at(node, 'startupProbe.tcpSocket.port')}" in node["command"]
    assert node["restartPolicy"] == "Always"
    assert spec["shareProcessNamespace"] is True
    mounts = {mount["mountPath"]: mount["name"] for mount in container("gateway")["volumeMounts"]}
    for mount in node["volumeMounts"]:
        assert mounts[mount["mountPath"]] == mount["name"]
    assert at(objects("RayService")[0], "spec.rayClusterConfig.headGroupSpec.rayStartParams.num-cpus") == "0"


def test_nobody_from_outside_reaches_anything_but_the_gateways_grpc_port() -> None:
    policies = {one["metadata"]["name"]: one["spec"] for one in objects("NetworkPolicy")}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    open_to_all = [
        (name, rule.get("ports")) for name, spec in policies.items() for rule in spec.get("ingress", [])
        if "from" not in rule
    ]  # fmt: skip
    assert open_to_all == [("gateway", [{"port": "grpc"}])]
    for spec in policies.values():
        labels = dict(at(spec, "podSelector.matchLabels") or {})
        labels.pop("ray.io/node-type", None)  # KubeRay's own label
        assert selected(labels)
        for peer in (peer for rule in spec.get("ingress", []) for peer in rule.get("from", [])):
            inside = at(peer, "podSelector.matchLabels") if "namespaceSelector" not in peer else {}
            assert inside is not None
            assert selected(inside)
    operator = policies["ray"]["ingress"][1]
    assert operator["ports"] == [{"port": "dashboard"}]


@pytest.fixture(scope="module", params=["base", "overlays/production"])
def built(request: pytest.FixtureRequest) -> tuple[str, list[Any]]:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    command = ["kubectl", "kustomize", str(FOLDER / request.param)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return request.param, documents(done.stdout)


def test_kustomize_builds_every_object_into_one_namespace(built: tuple[str, list[Any]]) -> None:
    layer, made = built
    assert {(one["kind"], one["metadata"]["name"]) for one in made} == {
        (one["kind"], one["metadata"]["name"]) for one in OBJECTS
    }
    namespace = BASE["namespace"]
    assert all(one["kind"] == "Namespace" or one["metadata"]["namespace"] == namespace for one in made)
    (named,) = (one for one in made if one["kind"] == "Namespace")
    assert named["metadata"]["name"] == namespace
    images = re.findall(r"image: (\S+)", yaml.safe_dump_all(made))
    assert len(images) == 4
    if layer == "base":
        assert set(images) == {IMAGE}
        return
    (image,) = set(images)
    assert re.fullmatch(rf"\S+/{IMAGE}:[\w.]+", image)
    (service,) = (one for one in made if one["kind"] == "Service")
    assert (service["spec"]["type"], service["spec"]["externalTrafficPolicy"]) == ("LoadBalancer", "Local")
