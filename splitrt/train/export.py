"""Trained modules to a bundle: ONNX graphs a stage, weights, tables, calibration, golden sample, manifest.

Shape letters: F features, M hidden, Z bottleneck, C H W frames and space, N classes, K widths.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from splitrt.bundle import digests
from splitrt.calibration import write_calibration
from splitrt.codec.payload import encode
from splitrt.codec.quantise import dequantise, quantise
from splitrt.codec.tables import Tables
from splitrt.golden import Golden
from splitrt.manifest import Manifest, Seam, write_manifest
from splitrt.nn.onnx import export_onnx
from splitrt.nn.split import Head, Tail, Whole
from splitrt.train.calibrate import bottlenecks, calibrate
from splitrt.train.card import write_card
from splitrt.train.data import Images, to_tensor
from splitrt.train.recipe import Recipe
from splitrt.train.score import Predict
from splitrt.watch import Watch

GOLDEN_TOLERANCE = 2e-3  # of outputs and bottleneck values between runtimes and instruction sets

T = TypeVar("T", bound=np.generic)


def export_bundle(
    folder: Path,
    recipe: Recipe,
    head: Head,
    tail: Tail,
    whole: Whole,
    tables: Tables,
    images: Images,
    labels: list[str],
    watch: Watch,
    others: Sequence[Images] = (),
) -> None:
    """Write the bundle. `images` is the calibration split: thresholds and rates come from it alone; `others` are the
    splits that it must share nothing with, asked for where there are exits.

    The folder appears when all of it is there: what an interrupted export leaves is in nobody's way.
    """
    for part in (head, tail, whole):
        part.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    calibration, exits = calibrate(head, tail, whole, tables, images, recipe, others)
    watch.line(f"calibrated on {calibration.images} images: {calibration.score} {calibration.whole_accuracy:.3f} whole")

    finished, folder = folder, folder.with_name(f".{folder.name}.new")
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "head").mkdir(parents=True)
    golden = golden_sample(head, tail, whole, tables, images, recipe)
    height, width = golden.z_KZHW.shape[2:]
    write_graphs(folder, head, tail, whole, recipe, (tables.channels, height, width))
    save_file(weights_of(head), folder / "head.safetensors")
    save_file(weights_of(tail), folder / "tail.safetensors")
    tables.save(folder / "tables.npz")
    (folder / "calibration.json").write_bytes(write_calibration(calibration))
    golden.save(folder / "golden.npz")

    seam = recipe.seam
    is_plain, is_sum = seam.form == "plain", seam.form == "ensemble"
    manifest = Manifest(
        schema_version=1,
        name=recipe.name,
        version=recipe.version,
        family=recipe.family,
        head_arguments=recipe.model | recipe.head,
        tail_arguments=recipe.model | recipe.tail,
        pixels=recipe.pixels,
        output=recipe.output.model_copy(update={"labels": tuple(labels)}),
        seam=Seam(
            widths=seam.widths,
            bits=seam.bits,
            height=height,
            width=width,
            sum_channels=seam.channels if is_sum else None,
        ),
        bottleneck=None if is_plain else {"hidden": seam.hidden, "decoder_hidden": seam.decoder_hidden},
        exits=exits,
        golden_tolerance=GOLDEN_TOLERANCE,
        files=digests(folder),
    )
    (folder / "manifest.toml").write_bytes(write_manifest(manifest))
    write_card(folder, recipe, calibration, exits)
    folder.rename(finished)
    watch.line(f"written: {finished}")


def write_graphs(
    folder: Path, head: Head, tail: Tail, whole: Whole, recipe: Recipe, seam_CHW: tuple[int, int, int]
) -> None:
    """head/stem, head/exit_k, head/encoder_k, tail and whole as ONNX; the server's with a free batch size."""
    side = (recipe.pixels.height, recipe.pixels.width)
    frame_BCHW = torch.zeros(1, 3, *side)
    with torch.inference_mode():
        features_BFHW = head.stem(frame_BCHW)
    export_onnx(head.stem, (frame_BCHW,), folder / "head/stem.onnx", ["frame"], ["features"])
    write_exits(folder, head, features_BFHW)
    carried: tuple[Tensor, ...] = ()
    for k, link in enumerate(head.encoder.links, start=1):
        names = ["features", "hidden"][: 1 + len(carried)]
        export_onnx(link, (features_BFHW, *carried), folder / f"head/encoder_{k}.onnx", names, ["z", "hidden_out"])
        with torch.inference_mode():
            carried = (link(features_BFHW, *carried)[1],)
    inputs = (torch.zeros(2, *seam_CHW), torch.zeros(2, dtype=torch.int64))
    export_onnx(tail, inputs, folder / "tail.onnx", ["z", "place"], ["outputs"], free_batch=True)
    export_onnx(whole, (torch.zeros(2, 3, *side),), folder / "whole.onnx", ["frame"], ["outputs"], free_batch=True)


def write_exits(folder: Path, head: Head, features_BFHW: Tensor) -> None:
    """head/exit_k: what the exit before carried on (the first: the features) to logits and what is carried on."""
    given = features_BFHW
    for k, branch in enumerate(head.exits or (), start=1):
        export_onnx(branch, (given,), folder / f"head/exit_{k}.onnx", ["features"], ["logits", "carried"])
        with torch.inference_mode():
            given = branch(given)[1]


@torch.inference_mode()
def golden_sample(
    head: Head, tail: Tail, whole: Whole | Predict, tables: Tables, images: Images, recipe: Recipe
) -> Golden:
    """Every stage's output for the first calibration image."""
    first = images.some(1)
    x_BCHW = to_tensor(first.frames_BHWC, recipe.pixels)
    bits = max(recipe.seam.bits)
    ranges = tables.ranges_at(bits)
    values, symbols, outputs = [], [], []
    for place, z_BZhw in enumerate(bottlenecks(head, first, recipe)):
        z_Zhw = z_BZhw[0]
        sent_Zhw = quantise(z_Zhw, ranges, bits)
        seen_Zhw = _wide(dequantise(sent_Zhw, ranges, bits), tables.channels)
        values.append(_wide(z_Zhw, tables.channels))
        symbols.append(_wide(sent_Zhw, tables.channels))
        outputs.append(tail(torch.from_numpy(seen_Zhw)[None], torch.tensor([place]))[0].numpy())
    codec, payload = encode(symbols[-1], bits, tables.prior_at(bits))
    exits = head.exits(head.stem(x_BCHW)) if head.exits is not None else []
    return Golden(
        frame_HWC=first.frames_BHWC[0],
        exits_EN=torch.cat(exits).numpy() if exits else np.empty((0, 0), np.float32),
        z_KZHW=np.stack(values),
        symbols_KZHW=np.stack(symbols),
        payload=np.frombuffer(payload, np.uint8),
        codec=np.array([int(codec)], np.uint8),
        tail_KN=np.stack(outputs),
        whole_N=whole(x_BCHW)[0].numpy(),
    )


def _wide(narrow_CHW: npt.NDArray[T], channels: int) -> npt.NDArray[T]:
    """Zero channels appended."""
    wide_CHW = np.zeros((channels, *narrow_CHW.shape[1:]), narrow_CHW.dtype)
    wide_CHW[: len(narrow_CHW)] = narrow_CHW
    return wide_CHW


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """As safetensors wants them."""
    return {name: value.contiguous() for name, value in module.state_dict().items()}
