"""Claim `exits`: answers on the device at least halve the mean frame time, within a bound that redrawn sets keep.

served      the bundle's test images one by one through the real client and server, over an emulated link of 5 Mbit/s
            and 40 ms: once always sent, under the same policy, and once with exits; in turn, round by round
resplits    see splitrt.bench.resplits
costs       CPU time of each exit beside the undivided model's, ONNX Runtime on one thread
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from splitrt.bench.heldout import HeldOut, read_held_out
from splitrt.bench.process import server_process
from splitrt.bench.report import Asked, Claim
from splitrt.bench.resplits import REDRAWS, Pool, curve, pool_of_bundle, pool_of_cifar, redraw
from splitrt.bundle import Bundle, find_bundle
from splitrt.device.client import AsyncClient
from splitrt.device.connect import connect_async
from splitrt.device.local import Looked
from splitrt.device.result import Result
from splitrt.device.strategy import Adaptive
from splitrt.errors import ConfigError
from splitrt.netem import Netem, Shape
from splitrt.onnx_session import open_session
from splitrt.policy.decision import Choice
from splitrt.policy.guarantee import GRID_L
from splitrt.policy.link import LinkEstimate

UP_MBIT, ROUND_TRIP_MS = 5.0, 40.0
DEADLINE_MS = 1_000.0  # nothing is forced: what is measured is where frames are answered, not when they are given up
ROUNDS, WARM = 10, 20
QUICK_IMAGES = 100
RESAMPLES = 1_000
SETS = {"photos": (1_000,), "cifar10": (1_000, 2_000)}  # images of a redrawn calibration set


class Offloading(Adaptive):
    """Always sends, at the point that the policy chooses. The first exit is asked all the same, as it hedges."""

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.audit = None  # nothing exits

    def threshold(self, link: LinkEstimate, choice: Choice | None) -> float | None:
        return 0.0

    def is_final(self, looked: Looked, choice: Choice | None) -> bool:
        return False


STRATEGIES: dict[str, Callable[[Bundle], Adaptive]] = {"always": Offloading, "exits": Adaptive}


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench exits needs images: give the data folder with --data or SPLITRT_DATA")
    bundle = find_bundle(asked.bundle)
    promised = bundle.calibration.exit
    if promised is None or bundle.manifest.exits is None:
        raise ConfigError(f"bench exits needs a bundle with exits, {bundle.name} has none")
    most = QUICK_IMAGES if asked.quick else None
    tests = read_held_out(asked.data, bundle, most)
    costs = exit_costs(bundle, 20 if asked.quick else 200)
    served = asyncio.run(_serve(asked.bundle, tests, 2 if asked.quick else ROUNDS))
    pools = [pool_of_bundle(bundle, asked.data, most), pool_of_cifar(asked.data, asked.quick)]
    redraws = 40 if asked.quick else REDRAWS
    studies = [
        redraw(pool, images, promised.epsilon, promised.delta, redraws)
        for pool in pools
        for images in SETS.get(pool.name, (promised_images(bundle),))
    ]
    figures, count = _sums(served, tests), len(tests.frames)
    whole_accuracy = float((pools[0].whole_S[-count:] == pools[0].right_S[-count:]).mean())
    summary = {
        **figures,
        "whole_accuracy": whole_accuracy,
        "accuracy_drop_whole_pt": 100 * (whole_accuracy - figures["exits_accuracy"]),
        "violations": max(study["violations"] for study in studies),
        "violations_naive": min(study["violations_naive"] for study in studies),
        "epsilon": promised.epsilon,
        "delta": promised.delta,
        "threshold": bundle.manifest.exits.threshold,
        **costs,
        **{
            f"{key}_{one['study']}_{one['images']}": one[key]
            for one in studies
            for key in ("violations", "violations_naive", "exit_share")
        },  # fmt: skip
    }
    curves = [{"study": pool.name, **point} for pool in pools for point in curve(pool, GRID_L[::21])]
    level = bundle.manifest.exits.threshold
    return Claim(
        summary=summary,
        rows=[*served["rounds"], *studies, *curves],
        draw=lambda file: _draw(pools, studies, level, promised.epsilon, file),
    )


def promised_images(bundle: Bundle) -> int:
    """As many as the bundle was calibrated on."""
    return bundle.calibration.images


async def _serve(name: str, tests: HeldOut, rounds: int) -> dict[str, Any]:
    """Every test image once by each of the two, in rounds that take turns."""
    results: dict[str, list[Result]] = {one: [] for one in STRATEGIES}
    rows = []
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(server_process([name]))
        clients: dict[str, AsyncClient] = {}
        for one, strategy in STRATEGIES.items():
            shape = Shape(up_mbit=UP_MBIT, down_mbit=UP_MBIT, rtt_ms=ROUND_TRIP_MS)
            link = await stack.enter_async_context(Netem(to=server, shape=shape))
            clients[one] = await stack.enter_async_context(
                connect_async(link.address, bundle=name, deadline_ms=DEADLINE_MS, strategy=strategy)
            )
            for frame_HWC in tests.frames[:WARM]:
                await clients[one].infer(frame_HWC)
        for number, part in enumerate(np.array_split(np.arange(len(tests.frames)), rounds)):
            row: dict[str, Any] = {"round": number, "frames": len(part)}
            order = list(STRATEGIES)[:: 1 if number % 2 else -1]
            for one in order:
                given = [await clients[one].infer(tests.frames[place]) for place in part]
                results[one] += given
                row[f"{one}_ms"] = float(np.mean([result.latency_ms for result in given]))
                row[f"{one}_sources"] = {source: sum(result.source == source for result in given)
                                         for source in ("exit", "remote", "fallback")}  # fmt: skip
            rows.append(row | {"speedup": row["always_ms"] / row["exits_ms"]})
        audited = clients["exits"].metrics.exits_audited
        audits = next(sample.value for metric in audited.collect() for sample in metric.samples)
    return {"rounds": rows, "results": results, "audited": audits}


def _sums(served: dict[str, Any], tests: HeldOut) -> dict[str, Any]:
    """Medians over rounds; accuracies paired image by image, with a bootstrap interval of their difference."""
    rows, labels = served["rounds"], tests.output.labels
    right = {
        name: np.array([result.label == labels[label] for result, label in zip(results, tests.labels, strict=True)])
        for name, results in served["results"].items()
    }
    lost_S = right["always"].astype(int) - right["exits"]
    draws = np.random.default_rng(0)
    means = [lost_S[draws.integers(0, len(lost_S), len(lost_S))].mean() for _ in range(RESAMPLES)]
    low, high = np.percentile(means, [2.5, 97.5])
    speedups = [row["speedup"] for row in rows]
    sources = [result.source for result in served["results"]["exits"]]
    return {
        "speedup": float(np.median(speedups)),
        "speedup_low": min(speedups),
        "speedup_high": max(speedups),
        "accuracy_drop_pt": 100 * float(lost_S.mean()),
        "accuracy_drop_low_pt": 100 * float(low),
        "accuracy_drop_high_pt": 100 * float(high),
        "always_ms": float(np.median([row["always_ms"] for row in rows])),
        "exits_ms": float(np.median([row["exits_ms"] for row in rows])),
        "always_accuracy": float(right["always"].mean()),
        "exits_accuracy": float(right["exits"].mean()),
        "exit_share": sources.count("exit") / len(sources),
        "fallback_share": sources.count("fallback") / len(sources),
        "exit_ms_p50": float(np.median([one.latency_ms for one in served["results"]["exits"] if one.source == "exit"])),
        "audited": served["audited"],
        "test_images": len(sources),
    }


def exit_costs(bundle: Bundle, runs: int) -> dict[str, float]:
    """Each exit's CPU time as a share of the undivided model's, one thread, in turn; medians."""
    rule, wanted = bundle.manifest.exits, bundle.manifest.photograph
    assert rule is not None
    x_1CHW = np.zeros((1, 3, wanted.height, wanted.width), np.float32)
    stem, whole = (open_session(bundle.path(file)) for file in ("head/stem.onnx", "whole.onnx"))
    works: dict[str, Callable[[], Any]] = {
        "stem": lambda: stem.run(None, {"frame": x_1CHW}),
        "whole": lambda: whole.run(None, {"frame": x_1CHW}),
    }
    given = stem.run(None, {"frame": x_1CHW})[0]
    for k in range(1, len(rule.chain) + 1):
        session = open_session(bundle.path(f"head/exit_{k}.onnx"))
        works[f"exit_{k}"] = lambda session=session, given=given: session.run(None, {"features": given})  # type: ignore[misc]
        given = session.run(None, {"features": given})[1]
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(9):
        for name, work in works.items():
            times[name].append(_cpu_ms(work, runs))
    medians = {name: float(np.median(each)) for name, each in times.items()}
    shares = {f"{name}_compute_share": one / medians["whole"] for name, one in medians.items() if name != "whole"}
    return {"first_exit_compute_share": shares.pop("exit_1_compute_share"), **shares, "whole_ms": medians["whole"]}


def _cpu_ms(work: Callable[[], Any], runs: int) -> float:
    work()
    started = time.process_time()
    for _ in range(runs):
        work()
    return (time.process_time() - started) / runs * 1e3


def _draw(pools: list[Pool], studies: list[dict[str, Any]], level: float, epsilon: float, file: Path) -> None:
    """Accuracy against the share that exits; and how the redrawn thresholds' risks lie about epsilon."""
    from splitrt.bench.plots import panels, save

    drawing, (accuracy, violations) = panels(2)
    for pool, colour in zip(pools, ("tab:green", "tab:blue"), strict=True):
        points = [(100 * one["share"], 100 * one["accuracy"]) for one in curve(pool, GRID_L[::7])]
        accuracy.plot(*zip(*points, strict=True), color=colour, label=pool.name)
        accuracy.axhline(points[0][1], color=colour, linewidth=0.7, linestyle=":")
    accuracy.scatter(
        [100 * pools[0].cascade.share(level)], [100 * pools[0].accuracy(level)], color="black", zorder=3,
        label="certified threshold of the bundle",
    )  # fmt: skip
    accuracy.set_xlabel("frames answered on the device, %")
    accuracy.set_ylabel("accuracy of device and server together, %")
    accuracy.legend(loc="lower left")
    bins = np.linspace(0, 2 * epsilon, 41)
    for risks, colour, label in (("risks", "tab:green", "certified"), ("risks_naive", "tab:orange", "naive")):
        every = [risk for study in studies for risk in study[risks]]
        violations.hist(np.clip(every, 0, bins[-1]), bins, alpha=0.6, color=colour, label=label)
    violations.axvline(epsilon, color="black", linewidth=0.8, label="epsilon")
    violations.set_xlabel("share lost on the whole pool")
    violations.set_ylabel("redrawn calibration sets")
    violations.legend(loc="upper left")
    save(drawing, file)
