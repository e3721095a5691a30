"""The ways of a trained bundle: its bottleneck at every calibrated point, photographs sent, all on the device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.calibration import Point
from splitrt.codec import payload as codec_payload
from splitrt.codec import pixels
from splitrt.codec.quantise import dequantise, quantise
from splitrt.golden import load_golden
from splitrt.onnx_session import open_session
from splitrt.partition.cuts import END, START
from splitrt.partition.plan import Option
from splitrt.partition.profile import QUALITY, ROUNDS, photograph_runs, timed, way
from splitrt.watch import Watch

Float32 = npt.NDArray[np.float32]
Runs = list[Callable[[], Any]]


def profile_bundle(bundle: Bundle, watch: Watch, threads: int = 1, rounds: int = ROUNDS) -> list[Option]:
    """Options of a bundle with its tail here, its bytes and accuracy as calibrated. Raises BundleError."""
    manifest, golden = bundle.manifest, load_golden(bundle.path("golden.npz"))
    wanted = manifest.photograph
    frame_HWC = pixels.fit(golden.frame_HWC, wanted.height, wanted.width, wanted.fit)
    x_1CHW = pixels.normalise(frame_HWC, wanted.mean, wanted.std)[None]
    whole = open_session(bundle.path("whole.onnx"), threads)
    answer_bytes = float(whole.run(None, {"frame": x_1CHW})[0].nbytes)
    points = bundle.calibration.front()
    photo = photograph_runs(wanted)
    tasks: Runs = [photo.prepare, lambda: whole.run(None, {"frame": x_1CHW}), photo.code, photo.decode]
    for point in points:
        tasks += _course(bundle, point, x_1CHW, threads)
    times = timed(tasks, rounds, watch, threads)
    none = times[:, :0]
    about: dict[str, Any] = {"answer_bytes": answer_bytes, "head_flops": None, "tail_flops": None}
    options = [
        way(times[:, [0, 1]], none, END, "device", 2, 0.0, **about, agreement=1.0),
        way(times[:, [0, 2]], times[:, [3, 1]], START, f"JPEG {QUALITY}", 0, float(photo.size), **about),
    ]
    for place, point in enumerate(points):
        device, server = times[:, [0, 4 + 2 * place]], times[:, [5 + 2 * place]]
        how = f"width {point.width}, {point.bits} bit"
        options.append(way(device, server, "bottleneck", how, 1, point.payload_bytes_mean, **about,
                           agreement=point.accuracy))  # fmt: skip
    return options


def _course(bundle: Bundle, point: Point, x_1CHW: Float32, threads: int) -> Runs:
    """What a device does for a frame at this point, and what the server does for its payload."""
    manifest, tables = bundle.manifest, bundle.tables
    stem = open_session(bundle.path("head/stem.onnx"), threads)
    groups = [
        open_session(bundle.path(f"head/encoder_{k}.onnx"), threads)
        for k in range(1, manifest.seam.widths.index(point.width) + 2)
    ]
    tail = open_session(bundle.path("tail.onnx"), threads)
    ranges, prior, bits = tables.ranges_at(point.bits), tables.prior_at(point.bits), point.bits
    place_B = np.array([manifest.seam.widths.index(point.width)], np.int64)

    def device() -> tuple[codec_payload.Codec, bytes, tuple[int, int, int]]:
        inputs, found = {"features": stem.run(None, {"frame": x_1CHW})[0]}, []
        for group in groups:
            z_1KHW, inputs["hidden"] = group.run(None, inputs)
            found.append(z_1KHW[0])
        z_KHW = found[-1] if manifest.seam.sum_channels else np.concatenate(found)
        symbols_KHW = quantise(z_KHW, ranges, bits)
        return *codec_payload.encode(symbols_KHW, bits, prior), symbols_KHW.shape

    codec, payload, shape = device()

    def server() -> None:
        symbols_KHW = codec_payload.decode(codec, payload, shape, bits, prior)
        z_1ZHW = np.zeros((1, tables.channels, *shape[1:]), np.float32)
        z_1ZHW[0, : shape[0]] = dequantise(symbols_KHW, ranges, bits)
        tail.run(None, {"z": z_1ZHW, "place": place_B})

    return [device, server]
