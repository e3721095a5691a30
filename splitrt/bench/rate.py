"""Claim `rate`: how well answers are against the bytes on the link, for every operating point and for photographs.

Shape letters: H W space, N outputs.
On test images, which no recipe can read. A point's frames go through the real coder and the ONNX graphs; JPEG and WebP
at many qualities go through the same undivided model, and so do the features as they are (8 bits and zstd). Bytes are
link bytes: payload, our header, HTTP/2 and gRPC framing. Several bundles (with commas) are seeds of one recipe: the
summary then holds means and half the width of their 95 % interval.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from splitrt.bench.curve import HEADER_OF_PHOTOGRAPH, draw, front, saved
from splitrt.bench.features import RawFeatures
from splitrt.bench.heldout import HeldOut, read_held_out
from splitrt.bench.report import Asked, Claim
from splitrt.bundle import Bundle, find_bundle
from splitrt.codec import bitpack, context, entropy, pixels, zstd
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice, Device, Encoded, Looked
from splitrt.device.result import Classes
from splitrt.errors import ConfigError
from splitrt.rpc.frames import Frame, tables_prefix
from splitrt.rpc.messages import frame_to_wire, link_bytes
from splitrt.server.tail import OnnxTail
from splitrt.server.work import Work
from splitrt.server.worker import Worker

QUALITIES = (2, 5, 8, 12, 18, 25, 35, 50, 65, 80, 90)
QUICK_IMAGES = 100
SEQ = 50_000  # a frame's number as long as a stream's usually is
T_975 = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776}  # two-sided 95 %, by degrees of freedom

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]


@dataclass(slots=True)
class Tried:
    """One way of sending the test images: bytes and outputs, image by image."""

    sizes: list[int] = field(default_factory=list)
    outputs: list[Array] = field(default_factory=list)
    by_coder: list[dict[str, int]] = field(default_factory=list)


def measure(asked: Asked) -> Claim:
    if asked.data is None:
        raise ConfigError("bench rate needs test images: give their folder with --data or SPLITRT_DATA")
    claims = [_measure(find_bundle(name), asked.data, asked.quick) for name in asked.bundle.split(",")]
    return claims[0] if len(claims) == 1 else _mean(claims)


def _measure(bundle: Bundle, data: Path, quick: bool) -> Claim:
    tests = read_held_out(data, bundle, QUICK_IMAGES if quick else None)
    device, worker = BottleneckDevice(bundle, OnnxHead(bundle)), Worker(bundle, OnnxTail(bundle))
    whole = [_run_whole(worker, frame_HWC) for frame_HWC in tests.frames]
    looked = [device.look(frame_HWC) for frame_HWC in tests.frames]
    rows = _points(bundle, device, worker, tests, looked, whole)
    rows += _exit(tests, looked)
    rows.append(_raw(bundle, device, tests, looked, whole))
    for kind in ("JPEG", "WEBP"):
        for quality in QUALITIES:
            tried = _photographs(worker, tests.frames, kind, quality)
            rows.append(_row(kind.lower(), tests, tried, whole, quality=quality))
    best = tests.score(whole, whole)
    ours = front([row for row in rows if row["how"] == "split"])
    within = [row["link_bytes"] for row in ours if row["score"] >= best - 0.01]
    low, high = tests.interval(whole)
    summary = {
        "score": "agreement" if tests.by_agreement else "accuracy",
        "whole_accuracy": tests.accuracy(whole),
        "whole_accuracy_interval_95": [low, high],
        "best_accuracy": max(row["accuracy"] for row in ours),
        "best_score": max(row["score"] for row in ours),
        "link_bytes_at_1pt": min(within) if within else None,
        "saved_vs_jpeg": saved(ours, front([row for row in rows if row["how"] == "jpeg"])),
        "saved_vs_webp": saved(ours, front([row for row in rows if row["how"] == "webp"])),
        **{key: value for row in rows if row["how"] == "exit" for key, value in row.items() if key.startswith("exit")},
        "images": len(tests.frames),
    }
    return Claim(summary=summary, rows=rows, draw=lambda file: draw(rows, best, file))


def _points(
    bundle: Bundle, device: Device, worker: Worker, tests: HeldOut, looked: Sequence[Looked], whole: Sequence[Array]
) -> list[dict[str, Any]]:
    """Every width and bits of the seam, with the bytes that each coder alone would have taken."""
    seam, tables = bundle.manifest.seam, tables_prefix(bundle.tables.digest())
    points = {(width, bits): Tried() for width in seam.widths for bits in seam.bits}
    for one in looked:
        encoded = [device.encode(one, width, bits) for width, bits in points]
        outcomes = worker.run([_work(way) for way in encoded])
        for way, outcome, tried in zip(encoded, outcomes, points.values(), strict=True):
            if outcome.error is not None:
                raise outcome.error
            tried.outputs.append(outcome.outputs[0])
            tried.sizes.append(_link_bytes(way, tables))
            tried.by_coder.append(_by_coder(bundle, way))
    return [_row("split", tests, tried, whole, width=width, bits=bits) for (width, bits), tried in points.items()]


def _exit(tests: HeldOut, looked: Sequence[Looked]) -> list[dict[str, Any]]:
    """The exit asked for every frame, and where it is sure by its own threshold; nothing where there is none."""
    answers = [one.answer for one in looked]
    if not all(isinstance(answer, Classes) for answer in answers):
        return []
    guesses = [answer.scores for answer in answers if isinstance(answer, Classes)]
    sure = [place for place, one in enumerate(looked) if one.is_sure]
    right = sum(guesses[place].argmax() == tests.labels[place] for place in sure)
    accuracy = tests.accuracy(guesses)
    return [
        {
            "how": "exit",
            "link_bytes": 0.0,
            "score": accuracy,
            "accuracy": accuracy,
            "exit_accuracy": accuracy,
            "exit_share": len(sure) / len(looked),
            "exit_accuracy_when_sure": float(right / len(sure)) if sure else None,
        }
    ]


def _raw(
    bundle: Bundle, device: Device, tests: HeldOut, looked: Sequence[Looked], whole: Sequence[Array]
) -> dict[str, Any]:
    wanted, tried = bundle.manifest.photograph, Tried()
    frame_HWC = pixels.fit(tests.frames[0], wanted.height, wanted.width, wanted.fit)
    frame_CHW = pixels.normalise(frame_HWC, wanted.mean, wanted.std)
    raw = RawFeatures(bundle, frame_CHW, looked[0].features)
    for one in looked:
        payload_bytes, outputs_N = raw.send(one.features)
        tried.sizes.append(payload_bytes + HEADER_OF_PHOTOGRAPH)
        tried.outputs.append(outputs_N)
    return _row("features", tests, tried, whole, bits=8)


def _photographs(worker: Worker, frames: Sequence[UInt8], kind: str, quality: int) -> Tried:
    wanted, tried = worker.bundle.manifest.photograph, Tried()
    options: dict[str, Any] = {"optimize": True} if kind == "JPEG" else {"method": 6}
    for frame_HWC in frames:
        buffer = io.BytesIO()
        fitted_HWC = pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
        Image.fromarray(fitted_HWC).save(buffer, kind, quality=quality, **options)
        tried.sizes.append(len(buffer.getvalue()) + HEADER_OF_PHOTOGRAPH)
        tried.outputs.append(_run_whole(worker, np.asarray(Image.open(buffer).convert("RGB"))))
    return tried


def _run_whole(worker: Worker, frame_HWC: UInt8) -> Array:
    wanted = worker.bundle.manifest.photograph
    fitted = pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
    outputs_N: Array = worker.tail.run_whole(pixels.normalise(fitted, wanted.mean, wanted.std)[None])[0]
    return outputs_N


def _by_coder(bundle: Bundle, encoded: Encoded) -> dict[str, int]:
    """Link bytes of this frame's symbols under each coder: the payload's size differs, the header does not."""
    symbols_KHW, prior = encoded.symbols_KHW, bundle.tables.prior_at(encoded.bits)
    assert symbols_KHW is not None
    packed = bitpack.pack(symbols_KHW, encoded.bits)
    sizes = {"zstd": min(len(packed), len(zstd.compress(packed)))}
    if prior is not None:
        ways: dict[str, Callable[..., Any]] = {"factorised": context.factorised, "context": context.contextual}
        sizes |= {name: len(entropy.encode(prior.models, way(symbols_KHW, prior, None))) for name, way in ways.items()}
    return sizes


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


def _link_bytes(encoded: Encoded, tables: int) -> int:
    frame = Frame(
        seq=SEQ,
        width=encoded.width,
        bits=encoded.bits,
        codec=encoded.codec,
        deadline_ms=100,
        tables=tables,
        payloads=encoded.payloads,
    )
    return link_bytes(frame_to_wire(frame))


def _row(how: str, tests: HeldOut, tried: Tried, whole: Sequence[Array], **more: Any) -> dict[str, Any]:
    low, high = tests.interval(tried.outputs)
    coders = tried.by_coder[0] if tried.by_coder else {}
    mean = float(np.mean(tried.sizes))
    by_coder = {f"{name}_bytes": float(np.mean([one[name] for one in tried.by_coder])) for name in coders}
    return {
        "how": how,
        **more,
        "link_bytes": mean,
        "score": tests.score(tried.outputs, whole),
        "accuracy": tests.accuracy(tried.outputs),
        "accuracy_interval_95": [low, high],
        **by_coder,
    }


def _mean(claims: list[Claim]) -> Claim:
    """Of several seeds: means over them, with half widths of the 95 % interval (Student's t); all their rows."""
    summary: dict[str, Any] = {"seeds": len(claims), "score": claims[0].summary["score"]}
    for key, value in claims[0].summary.items():
        if isinstance(value, float):
            values = [claim.summary[key] for claim in claims]
            if all(isinstance(one, float) for one in values):
                summary[key] = float(np.mean(values))
                half = T_975[len(claims) - 1] * float(np.std(values, ddof=1)) / len(claims) ** 0.5
                summary[f"{key}_half_width_95"] = half
    rows = [row | {"seed": seed} for seed, claim in enumerate(claims) for row in claim.rows]
    return Claim(summary=summary, rows=rows, draw=claims[0].draw)
