"""Trained modules to a bundle: ONNX graphs a stage, weights, tables, calibration, golden sample, manifest.

Shape letters: F features, M hidden, Z bottleneck, C H W frames and space, N classes, K widths.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from splitrt.calibration import write_calibration
from splitrt.codec import pixels as codec_pixels
from splitrt.codec.quantise import Ranges, dequantise, quantise
from splitrt.codec.tables import Tables
from splitrt.golden import Golden
from splitrt.manifest import Manifest, Output, Pixels, Seam, write_manifest
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.calibrate import calibrate
from splitrt.train.card import write_card
from splitrt.train.data import Images
from splitrt.train.loop import Pixels as MeanStd
from splitrt.train.loop import Report
from splitrt.train.recipe import Recipe

GOLDEN_TOLERANCE = 2e-3  # of logits and bottleneck values between runtimes and instruction sets
OPSET = 18


def export_bundle(
    folder: Path,
    recipe: Recipe,
    head: Head,
    tail: Tail,
    whole: Whole,
    images: Images,
    labels: list[str],
    mean_std: MeanStd,
    report: Report,
) -> None:
    """Write the bundle. `images` is the calibration split: thresholds and rates come from it alone."""
    for part in (head, tail, whole):
        part.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    channels = max(recipe.seam.widths)
    # The encoder ends in tanh: its range is known, no photograph is needed to find it.
    ranges = Ranges(low_C=np.full(channels, -1, np.float32), high_C=np.full(channels, 1, np.float32))
    calibration, exit_rule = calibrate(head, tail, whole, images, mean_std, ranges, recipe.seam, recipe.data)
    report(f"calibrated on {calibration.images} images: whole {calibration.whole_accuracy:.3f}")

    (folder / "head").mkdir(parents=True)
    height, width = images.frames_BHWC.shape[1:3]
    write_graphs(folder, head, tail, whole, (height, width))
    save_file(_weights(head), folder / "head.safetensors")
    save_file(_weights(tail), folder / "tail.safetensors")
    Tables(ranges=ranges).save(folder / "tables.npz")
    (folder / "calibration.json").write_bytes(write_calibration(calibration))
    golden_sample(head, tail, whole, images, mean_std, ranges, recipe).save(folder / "golden.npz")

    stride = head.encoder.stride
    manifest = Manifest(
        schema_version=1,
        name=recipe.name,
        version=recipe.version,
        family=recipe.family,
        head_arguments=recipe.model | recipe.head,
        tail_arguments=recipe.model | recipe.tail,
        pixels=Pixels(height=height, width=width, mean=_three(mean_std[0]), std=_three(mean_std[1])),
        output=Output(kind="classes", labels=tuple(labels)),
        seam=Seam(
            widths=recipe.seam.widths,
            bits=recipe.seam.bits,
            height=head.features.height // stride,
            width=head.features.width // stride,
        ),
        exit=exit_rule,
        golden_tolerance=GOLDEN_TOLERANCE,
        files=digests(folder),
    )
    (folder / "manifest.toml").write_bytes(write_manifest(manifest))
    write_card(folder, recipe, calibration, exit_rule)
    report(f"written: {folder}")


def write_graphs(folder: Path, head: Head, tail: Tail, whole: Whole, side: tuple[int, int]) -> None:
    """head/stem, head/exit, head/encoder_k, tail and whole as ONNX; the server's with a free batch size."""
    frame_BCHW = torch.zeros(1, 3, *side)
    with torch.inference_mode():
        features_BFHW = head.stem(frame_BCHW)
    _onnx(head.stem, (frame_BCHW,), folder / "head/stem.onnx", ["frame"], ["features"])
    _onnx(head.exit, (features_BFHW,), folder / "head/exit.onnx", ["features"], ["logits"])
    hidden: tuple[Tensor, ...] = ()
    for k, group in enumerate(head.encoder.groups, start=1):
        names = ["features", "hidden"][: 1 + len(hidden)]
        _onnx(group, (features_BFHW, *hidden), folder / f"head/encoder_{k}.onnx", names, ["z", "hidden_out"])
        with torch.inference_mode():
            hidden = (group(features_BFHW, *hidden)[1],)
    stride = head.encoder.stride
    height, width = head.features.height // stride, head.features.width // stride
    z_BZHW = torch.zeros(2, max(head.encoder.widths), height, width)
    _onnx(tail, (z_BZHW,), folder / "tail.onnx", ["z"], ["outputs"], free_batch=True)
    frames_BCHW = torch.zeros(2, 3, *side)
    _onnx(whole, (frames_BCHW,), folder / "whole.onnx", ["frame"], ["outputs"], free_batch=True)


def _onnx(
    module: nn.Module,
    inputs: tuple[Tensor, ...],
    path: Path,
    names: list[str],
    outputs: list[str],
    free_batch: bool = False,
) -> None:
    batch = {0: torch.export.Dim("batch", min=1, max=4096)}
    # The exporter remarks on torchvision's absence and on its own internals: nothing a user can act on.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            inputs,
            str(path),
            input_names=names,
            output_names=outputs,
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            dynamic_shapes=tuple(batch for _ in inputs) if free_batch else None,
            verbose=False,
        )


@torch.inference_mode()
def golden_sample(
    head: Head, tail: Tail, whole: Whole, images: Images, mean_std: MeanStd, ranges: Ranges, recipe: Recipe
) -> Golden:
    """Every stage's output for the first calibration image."""
    frame_HWC = images.frames_BHWC[0]
    x_BCHW = torch.from_numpy(codec_pixels.normalise(frame_HWC, *mean_std))[None]
    features_BFHW = head.stem(x_BCHW)
    z_ZHW = head.encoder(features_BFHW, ranges.channels)[0].numpy()
    bits = max(recipe.seam.bits)
    symbols_ZHW = quantise(z_ZHW, ranges, bits)
    seen_ZHW = dequantise(symbols_ZHW, ranges, bits)
    rows = []
    for width in recipe.seam.widths:
        narrow_ZHW = seen_ZHW.copy()
        narrow_ZHW[width:] = 0
        rows.append(tail(torch.from_numpy(narrow_ZHW)[None])[0].numpy())
    return Golden(
        frame_HWC=frame_HWC,
        exit_N=head.exit(features_BFHW)[0].numpy(),
        z_ZHW=z_ZHW,
        symbols_ZHW=symbols_ZHW,
        tail_KN=np.stack(rows),
        whole_N=whole(x_BCHW)[0].numpy(),
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that a manifest lists."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.name != "manifest.toml"
    }


def _weights(module: nn.Module) -> dict[str, Tensor]:
    return {name: value.contiguous() for name, value in module.state_dict().items()}


def _three(values: tuple[float, ...]) -> tuple[float, float, float]:
    red, green, blue = values
    return red, green, blue
