"""The only file that imports Ray: replicas as Serve deployments, and the control process beside a gateway.

Ray places, starts, checks, scales and replaces replicas. No frame passes through it: a replica listens on a port of its
own, and which ports there are is all that a gateway asks of Ray. It asks through `control`, a process of its own, so
that a cluster that goes away takes neither the gateway nor its event loop with it.

`control` reads and writes JSON lines: see splitrt.server.cluster, which is the other end. `app` builds the same
deployment for a declarative file (`serve deploy`).
"""

from __future__ import annotations

import json
import os
import queue
import socket
import sys
import threading
from contextlib import AsyncExitStack
from typing import Any, TextIO

import ray
from pydantic import SecretStr
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import AutoscalingConfig, AutoscalingContext, AutoscalingPolicy
from ray.serve.exceptions import RayServeException

from splitrt.config import ServerConfig, read_settings
from splitrt.errors import ConfigError, EngineError, SplitError
from splitrt.policy.replicas import replicas_wanted
from splitrt.server.replica import serve_replica

DEPLOYMENT = "Tail"
POLL_S = 0.5  # how old a gateway's list of replicas may be
ANSWER_S = 2.0  # for all replicas to say where they are
HEALTH_PERIOD_S, HEALTH_TIMEOUT_S = 2.0, 10.0
TRIES = 2  # of a constructor that fails
OBJECT_STORE_BYTES = 80 << 20  # nothing of ours is ever in it
SCALE_UP_S, SCALE_DOWN_S = 2.0, 60.0
CPU_SLACK = 1e-6
KNOCK_S = 3.0
# Where replicas of a cluster of our own listen. Ray replaces 127.0.0.1 by the node's address.
LOOPBACK = "127.0.0.2" if sys.platform == "linux" else None


class Tail:
    """One replica. Its port is its own; Ray's calls only ask where it is and how it does."""

    async def __init__(  # type: ignore[misc]  # Serve awaits it
        self, bundle: str, settings: dict[str, Any], credential: str | None
    ) -> None:
        config = read_settings(ServerConfig, "server", flags=settings)
        token = SecretStr(credential) if credential else config.replica_token
        if token is None:
            raise ConfigError("server.replica_token must be set for every node: SPLITRT_SERVER_REPLICA_TOKEN")
        self._stack = AsyncExitStack()
        host = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        self._replica = await self._stack.enter_async_context(serve_replica(bundle, config, token, host))

    async def announce(self) -> dict[str, Any]:
        """Where it listens, what it serves, how far its golden sample is off."""
        one = self._replica
        return {"address": one.address, "digest": one.digest.hex(), "difference": one.golden_difference}

    async def record_autoscaling_stats(self) -> dict[str, float]:
        report = self._replica.load.report()
        return {"busy": report.busy_share, "wait_s": report.wait_s, "streams": float(report.streams)}

    async def __del__(self) -> None:
        """Ray awaits this before it ends the process: gateways are told, and what was taken is answered."""
        self._replica.leave()
        await self._stack.aclose()


def follow_load(context: AutoscalingContext) -> tuple[int, dict[str, Any]]:
    """Serve's hook for how many replicas there should be."""
    told = context.aggregated_metrics or {}
    busy, waits, streams = (list(told.get(name, {}).values()) for name in ("busy", "wait_s", "streams"))
    if not busy:
        return context.target_num_replicas, {}
    return replicas_wanted(busy, waits, streams), {}


def app(args: dict[str, Any]) -> serve.Application:
    """For `serve deploy`: `args` are a bundle's name and keys of the `[server]` table. Raises ConfigError."""
    settings = dict(args)
    bundle = settings.pop("bundle", None)
    if not isinstance(bundle, str):
        raise ConfigError(f"args.bundle must be a bundle's name, got {bundle!r}")
    return _application(bundle, read_settings(ServerConfig, "server", flags=settings), settings, None)


def _application(
    bundle: str, config: ServerConfig, settings: dict[str, Any], credential: str | None
) -> serve.Application:
    scaled: dict[str, Any] = {"num_replicas": config.replicas}
    if config.max_replicas is not None:
        scaled = {
            "autoscaling_config": AutoscalingConfig(
                min_replicas=config.replicas,
                max_replicas=config.max_replicas,
                metrics_interval_s=1.0,
                look_back_period_s=SCALE_UP_S,
                upscale_delay_s=SCALE_UP_S,
                downscale_delay_s=SCALE_DOWN_S,
                policy=AutoscalingPolicy(  # type: ignore[no-untyped-call]
                    policy_function="splitrt.server.ray:follow_load"
                ),
            )
        }
    deployment = serve.deployment(
        name=DEPLOYMENT,
        ray_actor_options={"num_cpus": config.replica_cpus, "num_gpus": config.replica_gpus},
        max_ongoing_requests=64,  # calls of control, which are short
        graceful_shutdown_timeout_s=config.drain_grace_s + 5.0,
        health_check_period_s=HEALTH_PERIOD_S,
        health_check_timeout_s=HEALTH_TIMEOUT_S,
        max_constructor_retry_count=TRIES,
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
        **scaled,
    )(Tail)
    return deployment.bind(bundle, settings, credential)


# ── the control process ─────────────────────────────────────────────────────────────────────────────


def control() -> None:
    """Until standard input ends. The first line configures; see splitrt.server.cluster for the others."""
    speak = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever Ray prints is not for the gateway
    heard: queue.Queue[dict[str, Any] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, heard), daemon=True).start()
    first = heard.get()
    if first is None:
        return
    config = ServerConfig(**first["config"])
    try:
        _join(config)
    except SplitError as error:
        _say(speak, {"failed": str(error)})
        return
    _say(speak, {"ready": ray.get_runtime_context().gcs_address})
    try:
        _Control(config, first["settings"], first["credential"], speak).run(heard)
    finally:
        if config.ray_address is None:
            serve.shutdown()  # type: ignore[no-untyped-call]
        ray.shutdown()


def _listen(source: TextIO, heard: queue.Queue[dict[str, Any] | None]) -> None:
    for line in source:
        heard.put(json.loads(line))
    heard.put(None)


def _say(speak: TextIO, message: dict[str, Any]) -> None:
    speak.write(json.dumps(message) + "\n")


def _join(config: ServerConfig) -> None:
    """A cluster to run on: the one at the address, or one of our own. Raises EngineError, in one line."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "namespace": "splitrt"}
    try:
        if config.ray_address is None:
            ray.init(
                address="local",
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address=LOOPBACK,
                **quiet,
            )
        else:
            _knock(config.ray_address)
            context = ray.init(address=config.ray_address, **quiet)
            _refuse_open_dashboard(str(context.dashboard_url or ""))
    except (ConnectionError, RuntimeError, ValueError, RayError, OSError) as error:
        where = config.ray_address or "this machine"
        raise EngineError(f"a Ray cluster must answer at {where} ({_first_line(error)})") from error
    _check_resources(config)
    serve.start(proxy_location="Disabled", logging_config={"enable_access_log": False, "log_level": "WARNING"})


def _knock(address: str) -> None:
    """Ray itself tries for minutes where nobody listens. Raises OSError."""
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), KNOCK_S).close()


def _refuse_open_dashboard(url: str) -> None:
    from splitrt.config import ray_is_authenticated

    host = url.rpartition(":")[0].removeprefix("http://")
    if host and host not in ("127.0.0.1", "localhost", "::1") and not ray_is_authenticated():
        raise EngineError(
            f"Ray's dashboard must not be open to the network without authentication, it listens on {url}: start Ray "
            "with RAY_AUTH_MODE=token, or its dashboard on 127.0.0.1"
        )


def _check_resources(config: ServerConfig) -> None:
    """A deployment that cannot be placed would wait for ever. Raises EngineError."""
    alive = [node for node in ray.nodes() if node.get("Alive")]  # type: ignore[no-untyped-call]
    for kind, wanted in (("CPU", config.replica_cpus), ("GPU", config.replica_gpus)):
        nodes = [node.get("Resources", {}).get(kind, 0.0) for node in alive]
        if wanted and max(nodes, default=0.0) + CPU_SLACK < wanted:
            raise EngineError(f"a replica must find {wanted:g} {kind} on one node, the most here is {max(nodes):g}")
        fit = sum(int((have + CPU_SLACK) / wanted) for have in nodes) if wanted else config.replicas
        if fit < config.replicas:
            raise EngineError(f"{config.replicas} replicas of {wanted:g} {kind} must fit, {fit} do here")


class _Control:
    """Applications that were asked for, and what is told of their replicas."""

    def __init__(self, config: ServerConfig, settings: dict[str, Any], credential: str, speak: TextIO) -> None:
        self._config, self._settings, self._credential, self._speak = config, settings, credential, speak
        self._starting: set[str] = set()  # applications that are not running yet
        self._told: dict[str, list[dict[str, Any]]] = {}

    def run(self, heard: queue.Queue[dict[str, Any] | None]) -> None:
        while True:
            try:
                message = heard.get(timeout=POLL_S)
            except queue.Empty:
                self._look()
                continue
            if message is None:
                return
            if "run" in message:
                self._run(message["app"], message["run"])
            elif "delete" in message:
                self._delete(message["delete"])

    def _run(self, name: str, bundle: str) -> None:
        """Joined clusters may run it already, for another gateway or from a declarative file."""
        if name not in serve.status().applications:
            made = _application(bundle, self._config, self._settings, self._credential)
            serve.run_many([serve.RunTarget(made, name=name, route_prefix=None)], wait_for_applications_running=False)
        self._starting.add(name)

    def _delete(self, name: str) -> None:
        self._starting.discard(name)
        self._told.pop(name, None)
        if self._config.ray_address is None:  # a joined cluster's applications are not ours to end
            serve.delete(name, _blocking=False)

    def _look(self) -> None:
        try:
            if self._starting:
                self._look_at_starting()
            for name in list(self._told):
                self._tell(name)
        except (RayError, RayServeException, TimeoutError, RuntimeError) as error:
            _say(self._speak, {"trouble": _first_line(error)})

    def _look_at_starting(self) -> None:
        applications = serve.status().applications
        for name in list(self._starting):
            state = applications[name].status if name in applications else "NOT_STARTED"
            if state in ("DEPLOY_FAILED", "UNHEALTHY"):
                self._starting.discard(name)
                messages = [one.message for one in applications[name].deployments.values()]
                _say(self._speak, {"failed": _cause([*messages, applications[name].message]), "app": name})
                if self._config.ray_address is None:
                    serve.delete(name, _blocking=False)
            elif state == "RUNNING":
                self._starting.discard(name)
                self._told[name] = []

    def _tell(self, name: str) -> None:
        handle = serve.get_deployment_handle(DEPLOYMENT, name)
        try:
            found = handle.broadcast("announce").results(timeout_s=ANSWER_S, return_exceptions=True)
        except RayServeException:  # none is there just now
            found = []
        replicas = sorted((one for one in found if isinstance(one, dict)), key=lambda one: str(one["address"]))
        if replicas != self._told[name]:
            self._told[name] = replicas
            _say(self._speak, {"app": name, "replicas": replicas})


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _cause(messages: list[str]) -> str:
    """The line of Serve's report (a remote traceback) that says what was wrong: our own error's if there is one."""
    lines = [line.strip() for message in messages for line in message.splitlines() if line.strip()]
    ours = [line.partition(": ")[2] for line in lines if line.startswith("splitrt.errors.")]
    return (ours or [line for line in lines if "Error" in line] or lines or ["no reason was given"])[-1][:300]
