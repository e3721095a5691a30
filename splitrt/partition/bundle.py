"""A captured network, cut: an ordinary bundle that `serve` and `connect` take.

Graphs and weights of both halves for torch, the same as ONNX where the exporter can, ranges of what crosses, a golden
sample. Nothing is trained: inputs are looked at for ranges and for what quantisation costs.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from splitrt.bundle import digests, new_folder
from splitrt.calibration import Calibration, write_calibration
from splitrt.codec import parts
from splitrt.codec.parts import EXACT
from splitrt.codec.tensor import DType
from splitrt.errors import ConfigError
from splitrt.golden import CapturedGolden, agree_all
from splitrt.halves import GRAPH, ONNX, WEIGHTS, Side
from splitrt.manifest import (
    MOST_INPUTS,
    Audio,
    Manifest,
    Output,
    Pixels,
    Seam,
    TensorSpec,
    write_manifest,
)
from splitrt.nn.graph import Graph, Value
from splitrt.nn.interpreter import GraphModule, restored, stored
from splitrt.onnx_session import open_session
from splitrt.partition.capture import Captured
from splitrt.partition.cuts import END, Cut
from splitrt.partition.divide import Halves, divide
from splitrt.partition.onnx import export_half
from splitrt.partition.quantised import Sample, calibrate, ranges_of, run_half
from splitrt.watch import Watch

Array = npt.NDArray[Any]

TOLERANCE = 1e-3  # of the largest value of each tensor of the golden sample
SENT_BACK = (*(dtype.name.lower() for dtype in DType), "bool")
FEW = 64  # samples at most that ranges and agreement come from


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the bundle is to be. `samples`: inputs in place of the captured ones, for ranges and agreement."""

    name: str
    version: str = "1"
    kind: Literal["classes", "tensor"] = "tensor"
    labels: tuple[str, ...] = ()
    pixels: Pixels | None = None  # the network's one input is a photograph so treated
    audio: Audio | None = None  # or a sound
    bits: tuple[int, ...] = (4, 8, EXACT)
    samples: Sequence[Sample] = ()


def split_captured(captured: Captured, cut: Cut, order: Order, out: Path, watch: Watch) -> Path:
    """Write the bundle under `out`; returns its folder, which appears when all of it is there.

    Raises ConfigError where a seam cannot be sent or the folder exists.
    """
    finished = new_folder(out, order.name, order.version)
    if cut.name == END:
        raise ConfigError("a cut must leave something to the server: at `output` there is no tail")
    _check_ends(captured, order)
    halves = divide(captured, cut)
    seam = _seam(halves, cut, order.bits)
    sent = [run_half(halves.head.module(), sample) for sample in _samples(captured, order)]
    bits, tables = ranges_of(seam.parts, sent, order.bits)
    seam = _seam(halves, cut, bits)
    golden = _golden(halves, captured)
    folder = finished.with_name(f".{finished.name}.new")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "head").mkdir(parents=True)
    for side, half in (("head", halves.head), ("tail", halves.tail)):
        _write_half(folder, side, half, watch)  # type: ignore[arg-type]
    tables.save(folder / "tables.npz")
    calibration = calibrate(halves.tail.module(), seam, sent, tables)
    (folder / "calibration.json").write_bytes(write_calibration(calibration))
    golden.save(folder / "golden.npz")
    manifest = Manifest(
        schema_version=1,
        name=order.name,
        version=order.version,
        family="captured",
        pixels=order.pixels,
        audio=order.audio,
        inputs=() if order.pixels or order.audio else tuple(tensor_spec(value) for value in captured.graph.inputs),
        output=Output(kind=order.kind, labels=order.labels),
        seam=seam,
        golden_tolerance=TOLERANCE,
        files=digests(folder),
    )
    (folder / "manifest.toml").write_bytes(write_manifest(manifest))
    (folder / "README.md").write_text(_card(manifest, calibration, cut))
    folder.rename(finished)
    watch.line(f"written: {finished}")
    return finished


def load_half(folder: Path, side: Side) -> GraphModule:
    """A half as torch, from a bundle's files."""
    graph = Graph.from_json((folder / GRAPH[side]).read_bytes())
    return GraphModule(graph, restored(graph, load_file(folder / WEIGHTS[side])))


def tensor_spec(value: Value) -> TensorSpec:
    """Raises ConfigError on a dtype that has no bytes of its own here (bfloat16, complex)."""
    try:
        return TensorSpec(name=value.name, dtype=value.dtype, shape=value.shape, order=value.order)
    except ValidationError as error:
        raise ConfigError(f"{value.name} cannot be sent: {error.errors()[0]['msg']}") from error


def _seam(halves: Halves, cut: Cut, bits: tuple[int, ...]) -> Seam:
    """Raises ConfigError where more crosses than a frame may hold."""
    specs = tuple(tensor_spec(value) for value in halves.tail.graph.inputs)
    try:
        return Seam(widths=(parts.channels([spec.part for spec in specs]),), bits=bits, tensors=specs)
    except ValidationError as error:
        raise ConfigError(f"the cut {cut.name} cannot be sent: {error.errors()[0]['msg']}") from error


def _check_ends(captured: Captured, order: Order) -> None:
    """What a device gives and is answered must have a form on the wire. Raises ConfigError."""
    inputs = [tensor_spec(value) for value in captured.graph.inputs]
    if len(inputs) > MOST_INPUTS:
        raise ConfigError(f"a network must take at most {MOST_INPUTS} tensors, got {len(inputs)}")
    taken: tuple[int, ...] = ()
    if order.pixels is not None:
        taken = (1, 3, order.pixels.height, order.pixels.width)
    elif order.audio is not None:
        taken = (1, 1, order.audio.bands, order.audio.frames)
    given = [(one.dtype, one.shape) for one in inputs]
    if taken and given != [("float32", taken)]:
        what = "photographs" if order.audio is None else "sounds"
        raise ConfigError(f"a network of {what} must take one tensor {('float32', taken)}, got {given}")
    for place, value in enumerate(captured.graph.outputs):
        tensor_spec(replace(value, name=f"output_{place}"))
        if value.dtype not in SENT_BACK:
            raise ConfigError(
                f"output {place} must be one of {', '.join(SENT_BACK)}, got {value.dtype}: convert it in the model"
            )
    shape, labels = captured.graph.outputs[0].shape, len(order.labels)
    if order.kind == "classes" and (len(shape) != 2 or shape[0] != 1 or labels not in (0, shape[1])):
        raise ConfigError(f"a classifier's first output must have shape (1, {labels or 'N'}), got {shape}")


def _write_half(folder: Path, side: Side, half: Captured, watch: Watch) -> None:
    (folder / GRAPH[side]).write_bytes(half.graph.to_json())
    save_file(stored(half.graph, half.weights), folder / WEIGHTS[side])
    try:
        export_half(half, folder / ONNX[side], folder / WEIGHTS[side])
        _check_onnx(side, half, folder / ONNX[side])
    except Exception as error:  # of the exporter, its passes and the ONNX library: no common root
        (folder / ONNX[side]).unlink(missing_ok=True)
        cause: BaseException = error
        while cause.__cause__ is not None:  # the last of them names the operator
            cause = cause.__cause__
        first = str(cause).strip().splitlines() or [type(cause).__name__]
        watch.line(f"{side}: for torch only, the exporter to ONNX has no way with it: {first[0][:300]}")


def _check_onnx(side: Side, half: Captured, file: Path) -> None:
    """Against torch, on the inputs at hand. Raises BundleError beyond tolerance, and what ONNX Runtime does."""
    session = open_session(file, is_for_once=True)
    names = [one.name for one in session.get_inputs()]
    given = {name: np.asarray(one.numpy(), order="C") for name, one in zip(names, half.inputs, strict=True)}
    wanted = run_half(half.module(), tuple(one.numpy() for one in half.inputs))
    agree_all(f"{side} through ONNX: output", session.run(None, given), wanted, TOLERANCE)


def _samples(captured: Captured, order: Order) -> list[Sample]:
    own = tuple(one.numpy() for one in captured.inputs)
    return [*order.samples[:FEW]] or [own]


def _golden(halves: Halves, captured: Captured) -> CapturedGolden:
    """Raises ConfigError on NaN, which no later run could be compared with."""
    own: Sample = tuple(one.numpy() for one in captured.inputs)
    seam = run_half(halves.head.module(), own)
    golden = CapturedGolden(inputs=own, seam=seam, outputs=run_half(halves.tail.module(), seam))
    values = (*halves.head.graph.outputs, *halves.tail.graph.outputs)
    for value, one in zip(values, (*golden.seam, *golden.outputs), strict=True):
        if one.dtype.kind == "f" and np.isnan(one).any():
            raise ConfigError(f"the captured inputs must not lead to NaN, got it in {value.name}")
    return golden


def _card(manifest: Manifest, calibration: Calibration, cut: Cut) -> str:
    rows = [
        f"| {point.bits} | {point.payload_bytes_mean:.0f} | {100 * point.accuracy:.1f} |"
        for point in calibration.points
    ]
    crossing = [f"`{one.name}` {one.dtype} {'x'.join(map(str, one.shape))}" for one in manifest.seam.tensors]
    lines = [
        f"# {manifest.name} {manifest.version}",
        "",
        f"A captured network cut after `{cut.name}`{f' ({cut.module})' if cut.module else ''}, without training.",
        f"What crosses: {', '.join(crossing)}.",
        "",
        f"Ranges and the figures below come from the same {calibration.images} inputs: they are no held-out figures.",
        "",
        "| bits | payload bytes, mean | agreement with the undivided network % |",
        "|---|---|---|",
        *rows,
    ]
    return "\n".join(lines) + "\n"
