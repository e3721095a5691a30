"""The gate of `town`: forest, glacier, mountain and sea are nothing, buildings and streets go on.

Shape letters: N photographs, C H W frames.
The built-in bundle as it ships: trained on the scenes' training split on the stem of `photos` (recipes/town.toml),
certified on its calibration split, judged on test.npz. The task has three answers: nature, building, street. A frame
that is let through is sent at the cheapest point by which the calibration split, behind the gate, has this task's
accuracy within half a point of the best one; full width is the widest at the most bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.gate import bytes_saved, cpu_ms, judged
from splitrt.bench.heldout import unseen
from splitrt.bundle import Bundle, find_bundle
from splitrt.calibration import Point
from splitrt.codec import pixels
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice, Encoded, Looked
from splitrt.device.strategy import HEADER_BYTES
from splitrt.onnx_session import open_session
from splitrt.server.tail import OnnxTail
from splitrt.server.work import Work
from splitrt.server.worker import Worker
from splitrt.train.data import Images, read_split

TOWN, PHOTOS = "town", "photos"
WITHIN = 0.005  # of the best point's accuracy
Array = npt.NDArray[Any]


def measure_scenes(data: Path, quick: bool) -> dict[str, Any]:
    """The task's row."""
    return _judge(find_bundle(TOWN), data, 200 if quick else None)


def _judge(bundle: Bundle, data: Path, most: int | None) -> dict[str, Any]:
    frames, labels = unseen(data / "scenes", most)
    rule, plain = bundle.manifest.gate, find_bundle(PHOTOS)
    assert rule is not None
    device, worker = BottleneckDevice(plain, OnnxHead(plain)), Worker(plain, OnnxTail(plain))
    gate = open_session(bundle.path("head/gate_1.onnx"))
    calibrate = read_split(data, "scenes", "calibrate", plain.manifest.photograph)
    point = cheapest(_accuracies(bundle, calibrate.some(most or len(calibrate))))
    full = max(plain.calibration.points, key=lambda one: (one.width, one.bits))
    odds, sent, whole, sizes, full_sizes = [], [], [], [], []
    for frame_HWC in frames:
        looked = device.look(frame_HWC)
        odds.append(_odds(gate, looked))
        encoded = device.encode(looked, point.width, point.bits)
        sizes.append(len(encoded.payloads[0]))
        full_sizes.append(len(device.encode(looked, full.width, full.bits).payloads[0]))
        sent.append(int(_outputs(worker, encoded).argmax()))
        whole.append(int(_whole(worker, frame_HWC).argmax()))
    answer = _answers(bundle)
    odds_N, right_N = np.array(odds), answer[labels]
    found = judged(odds_N, right_N > 0, rule.threshold)
    passes_N = np.exp(-np.logaddexp(0, odds_N)) < rule.threshold
    gated_N, open_N, whole_N = np.where(passes_N, answer[sent], 0), answer[sent], answer[whole]
    mean_bytes, full_bytes = float(np.mean(sizes)) + HEADER_BYTES, float(np.mean(full_sizes)) + HEADER_BYTES
    kept, stopped = found["positives_kept"], found["negatives_stopped"]
    record = bundle.calibration.gate
    assert record is not None
    return {
        "task": "scenes",
        **found,
        "certified_recall": record.recall,
        "delta": record.delta,
        "calibration_positives": record.positives,
        "activation_kept": _values_sent(plain, point) / looked.features.size,
        "accuracy_change_pt": float(100 * ((gated_N == right_N).mean() - (whole_N == right_N).mean())),
        "accuracy_change_pt_interval_95": _paired(gated_N == right_N, whole_N == right_N),
        "accuracy_change_pt_of_the_gate_alone": float(100 * ((gated_N == right_N).mean() - (open_N == right_N).mean())),
        "accuracy_undivided": float((whole_N == right_N).mean()),
        "bytes_saved_gate": bytes_saved(kept, stopped, full_bytes, full_bytes),
        "bytes_saved_all": bytes_saved(kept, stopped, mean_bytes, full_bytes),
        "width": point.width,
        "bits": point.bits,
        "link_bytes": mean_bytes,
        "link_bytes_full": full_bytes,
        **_times(bundle, looked.features),
    }


def cheapest(accuracies: Sequence[tuple[Point, float]]) -> Point:
    """The point of fewest bytes within half a point of the best."""
    best = max(accuracy for _, accuracy in accuracies)
    near = [point for point, accuracy in accuracies if accuracy >= best - WITHIN]
    return min(near, key=lambda one: one.payload_bytes_mean)


def _accuracies(bundle: Bundle, images: Images) -> list[tuple[Point, float]]:
    """Of the task's answers behind the gate, at each point."""
    rule, plain = bundle.manifest.gate, find_bundle(PHOTOS)
    assert rule is not None
    device, worker = BottleneckDevice(plain, OnnxHead(plain)), Worker(plain, OnnxTail(plain))
    gate, answer = open_session(bundle.path("head/gate_1.onnx")), _answers(bundle)
    looks = [device.look(frame_HWC) for frame_HWC in images.frames_BHWC]
    passes_N = np.array([_nothing(_odds(gate, looked)) < rule.threshold for looked in looks])
    found = []
    for point in plain.calibration.points:
        given_N = np.zeros(len(looks), np.int64)
        for i in np.flatnonzero(passes_N):
            given_N[i] = answer[_outputs(worker, device.encode(looks[i], point.width, point.bits)).argmax()]
        found.append((point, float((given_N == answer[images.labels_B]).mean())))
    return found


def _answers(bundle: Bundle) -> npt.NDArray[np.int64]:
    """The task's answer for each class: nature 0, positives 1 + their class."""
    rule, names = bundle.manifest.gate, bundle.manifest.output.labels
    assert rule is not None
    return np.array([number + 1 if name in rule.positives else 0 for number, name in enumerate(names)], np.int64)


def _odds(gate: Any, looked: Looked) -> float:
    return float(gate.run(None, {"x": looked.features})[0][0])


def _nothing(odds: float) -> float:
    return float(np.exp(-np.logaddexp(0, odds)))


def _values_sent(bundle: Bundle, point: Point) -> int:
    seam = bundle.manifest.seam
    return seam.channels_at(point.width) * seam.height * seam.width


def _outputs(worker: Worker, encoded: Encoded) -> Array:
    work = Work(
        principal="bench", width=encoded.width, bits=encoded.bits, codec=encoded.codec, payloads=encoded.payloads,
        arrived_at=0, deadline_at=0,
    )  # fmt: skip
    (outcome,) = worker.run([work])
    if outcome.error is not None:
        raise outcome.error
    return np.asarray(outcome.outputs[0])


def _whole(worker: Worker, frame_HWC: npt.NDArray[np.uint8]) -> Array:
    wanted = worker.bundle.manifest.photograph
    fitted = pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
    return np.asarray(worker.tail.run_whole(pixels.normalise(fitted, wanted.mean, wanted.std)[None])[0])


def _paired(one_N: npt.NDArray[np.bool_], other_N: npt.NDArray[np.bool_]) -> list[float]:
    """95 % bootstrap interval of the difference in points, the same photographs for both."""
    draws, apart_N = np.random.default_rng(0), one_N.astype(float) - other_N
    means = [apart_N[draws.integers(0, len(apart_N), len(apart_N))].mean() for _ in range(2_000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return [float(100 * low), float(100 * high)]


def _times(bundle: Bundle, features_1FHW: Array) -> dict[str, float]:
    """CPU milliseconds on one thread, in turns: the gate, the exit, the stem and the whole model; and shares of it."""
    wanted = bundle.manifest.photograph
    frame = np.zeros((1, 3, wanted.height, wanted.width), np.float32)
    graphs = {
        "gate": ("head/gate_1.onnx", {"x": features_1FHW}),
        "exit": ("head/exit_1.onnx", {"features": features_1FHW}),
        "stem": ("head/stem.onnx", {"frame": frame}),
        "whole": ("whole.onnx", {"frame": frame}),
    }
    sessions = {name: (open_session(bundle.path(file)), given) for name, (file, given) in graphs.items()}
    found = cpu_ms(sessions)
    found["gates_share_of_whole"] = (found["gate_ms"] + found["exit_ms"]) / found["whole_ms"]
    return found
