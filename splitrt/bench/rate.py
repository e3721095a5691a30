"""Claim `rate`: accuracy against the bytes on the link, for every operating point and for photographs.

On test images, which no recipe can read. A point's frames go through the real coder and the ONNX graphs;
JPEG and WebP at many qualities go through the same undivided model. Bytes are link bytes: payload, our
header, HTTP/2 and gRPC framing.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from splitrt.bench.report import Asked, Claim
from splitrt.bundle import Bundle, find_bundle
from splitrt.codec import pixels
from splitrt.device.head import OnnxHead
from splitrt.device.local import Device, Encoded
from splitrt.device.result import Classes
from splitrt.errors import ConfigError
from splitrt.rpc.messages import Frame, frame_to_wire, link_bytes, tables_prefix
from splitrt.server.tail import OnnxTail
from splitrt.server.work import Work
from splitrt.server.worker import Worker

QUALITIES = (2, 5, 8, 12, 18, 25, 35, 50, 65, 80, 90)
QUICK_IMAGES = 150
SEQ = 50_000  # a frame's number as long as a stream's usually is

UInt8 = npt.NDArray[np.uint8]


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench rate needs test images: give their folder with --data or SPLITRT_DATA")
    bundle = find_bundle(asked.bundle)
    frames, labels = _test_images(asked.data, bundle.calibration.data, QUICK_IMAGES if asked.quick else None)
    device, worker = Device(bundle, OnnxHead(bundle)), Worker(bundle, OnnxTail(bundle))
    whole = _whole(worker, frames, labels)
    rows = _points(bundle, device, worker, frames, labels)
    for kind in ("JPEG", "WEBP"):
        rows += [_photographs(worker, frames, labels, kind, quality) for quality in QUALITIES]
    ours = _front([row for row in rows if row["how"] == "split"])
    within = [row["link_bytes"] for row in ours if row["accuracy"] >= whole - 0.01]
    summary = {
        "whole_accuracy": whole,
        "best_accuracy": max(row["accuracy"] for row in ours),
        "link_bytes_at_1pt": min(within) if within else None,
        "saved_vs_jpeg": saved(ours, _front([row for row in rows if row["how"] == "jpeg"])),
        "saved_vs_webp": saved(ours, _front([row for row in rows if row["how"] == "webp"])),
        **_exit_figures(rows),
        "images": len(labels),
    }
    return Claim(summary=summary, rows=rows, draw=lambda file: _draw(rows, whole, file))


def _exit_figures(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The exit asked for every frame, and where it is sure by its own threshold."""
    found = [row for row in rows if row["how"] == "exit"]
    keys = {"exit_accuracy": "accuracy", "exit_share": "share_sure", "exit_accuracy_when_sure": "accuracy_when_sure"}
    return {name: found[0][key] for name, key in keys.items()} if found else {}


def saved(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> float | None:
    """Mean fraction of link bytes saved at equal accuracy, over the accuracies that both reach; None: no overlap."""
    low = max(ours[0]["accuracy"], theirs[0]["accuracy"])
    high = min(ours[-1]["accuracy"], theirs[-1]["accuracy"])
    if high <= low:
        return None
    grid = np.linspace(low, high, 50)
    sizes = [
        np.exp(np.interp(grid, [r["accuracy"] for r in side], np.log([r["link_bytes"] for r in side])))
        for side in (ours, theirs)
    ]
    return float(np.mean(1 - sizes[0] / sizes[1]))


def _test_images(data: Path, name: str, most: int | None) -> tuple[list[UInt8], npt.NDArray[np.int64]]:
    path = data / name / "test.npz"
    if not path.is_file():
        raise ConfigError(f"test images must be at {path}")
    with np.load(path, allow_pickle=False) as archive:
        jpeg, offset, labels = archive["jpeg"], archive["offset"], archive["label"].astype(np.int64)[:most]
    frames = [pixels.from_jpeg(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in range(len(labels))]
    return frames, labels


def _points(
    bundle: Bundle, device: Device, worker: Worker, frames: list[UInt8], labels: npt.NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Every width and bits of the seam, and the exit alone."""
    seam = bundle.manifest.seam
    points = [(width, bits) for width in seam.widths for bits in seam.bits]
    right = {point: 0 for point in points}
    sizes: dict[tuple[int, int], list[int]] = {point: [] for point in points}
    right_exit, has_exit, sure, right_sure = 0, False, 0, 0
    for frame_HWC, label in zip(frames, labels, strict=True):
        looked = device.look(frame_HWC)
        if isinstance(looked.answer, Classes):
            has_exit = True
            is_right = int(looked.answer.scores.argmax() == label)
            right_exit += is_right
            sure += looked.is_sure
            right_sure += is_right * looked.is_sure
        encoded = [device.encode(looked, width, bits) for width, bits in points]
        outcomes = worker.run([_work(one) for one in encoded])
        for point, one, outcome in zip(points, encoded, outcomes, strict=True):
            right[point] += int(outcome.outputs[0].argmax() == label)
            sizes[point].append(_link_bytes(bundle, one))
    rows = [
        _row("split", right[point] / len(labels), sizes[point], len(labels), width=point[0], bits=point[1])
        for point in points
    ]
    if has_exit:
        share, accuracy = sure / len(labels), right_sure / max(1, sure)
        row = _row("exit", right_exit / len(labels), [0], len(labels))
        rows.append(row | {"share_sure": share, "accuracy_when_sure": accuracy})
    return rows


def _whole(worker: Worker, frames: list[UInt8], labels: npt.NDArray[np.int64]) -> float:
    wanted = worker.bundle.manifest.pixels
    right = 0
    for frame_HWC, label in zip(frames, labels, strict=True):
        fitted = pixels.fit(frame_HWC, wanted.height, wanted.width)
        x_CHW = pixels.normalise(fitted, wanted.mean, wanted.std)
        right += int(worker.tail.run_whole(x_CHW[None])[0].argmax() == label)
    return right / len(labels)


def _photographs(
    worker: Worker, frames: list[UInt8], labels: npt.NDArray[np.int64], kind: str, quality: int
) -> dict[str, Any]:
    wanted = worker.bundle.manifest.pixels
    right, sizes = 0, []
    for frame_HWC, label in zip(frames, labels, strict=True):
        buffer = io.BytesIO()
        options = {"optimize": True} if kind == "JPEG" else {"method": 6}
        Image.fromarray(pixels.fit(frame_HWC, wanted.height, wanted.width)).save(
            buffer, kind, quality=quality, **options
        )
        seen_HWC = np.asarray(Image.open(buffer).convert("RGB"))
        x_CHW = pixels.normalise(seen_HWC, wanted.mean, wanted.std)
        right += int(worker.tail.run_whole(x_CHW[None])[0].argmax() == label)
        sizes.append(len(buffer.getvalue()) + HEADER_OF_PHOTOGRAPH)
    return _row(kind.lower(), right / len(labels), sizes, len(labels), quality=quality)


def _work(encoded: Encoded) -> Work:
    return Work(
        principal="bench",
        width=encoded.width,
        bits=encoded.bits,
        codec=encoded.codec,
        payloads=encoded.payloads,
        arrived_at=0,
        deadline_at=0,
    )


def _link_bytes(bundle: Bundle, encoded: Encoded) -> int:
    frame = Frame(
        seq=SEQ,
        width=encoded.width,
        bits=encoded.bits,
        codec=encoded.codec,
        deadline_ms=100,
        tables=tables_prefix(bundle.tables.digest()),
        payloads=encoded.payloads,
    )
    return link_bytes(frame_to_wire(frame))


HEADER_OF_PHOTOGRAPH = 14 + 26  # framing, and our header without width and bits


def _row(how: str, accuracy: float, sizes: list[int], images: int, **more: Any) -> dict[str, Any]:
    half_width = 1.96 * float(np.sqrt(accuracy * (1 - accuracy) / images))
    mean = float(np.mean(sizes))
    return {"how": how, **more, "link_bytes": mean, "accuracy": accuracy, "accuracy_half_width_95": half_width}


def _front(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that no cheaper one matches, cheapest first."""
    best: list[dict[str, Any]] = []
    for row in sorted(rows, key=lambda one: (one["link_bytes"], -one["accuracy"])):
        if not best or row["accuracy"] > best[-1]["accuracy"]:
            best.append(row)
    return best


def _draw(rows: list[dict[str, Any]], whole: float, file: Path) -> None:
    from splitrt.bench.plots import figure, save

    drawing, axes = figure(1, 4)
    axis = axes[0, 0]
    for how, colour in (("split", "tab:green"), ("jpeg", "tab:orange"), ("webp", "tab:purple")):
        chosen = [row for row in rows if row["how"] == how]
        axis.scatter([r["link_bytes"] for r in chosen], [100 * r["accuracy"] for r in chosen], s=12, color=colour)
        front = _front(chosen)
        axis.plot([r["link_bytes"] for r in front], [100 * r["accuracy"] for r in front], color=colour, label=how)
    axis.axhline(100 * whole, color="black", linewidth=0.8, label="whole model")
    for row in rows:
        if row["how"] == "exit":
            axis.axhline(100 * row["accuracy"], color="tab:blue", linewidth=0.8, linestyle="--", label="exit, no bytes")
    axis.set_xscale("log")
    axis.set_xlabel("link bytes a frame")
    axis.set_ylabel("accuracy on test images, %")
    axis.legend(loc="lower right")
    save(drawing, file)
