"""A bundle's golden sample: one photograph and every stage's output for it, re-run at each start.

Shape letters: E exits, C Z channels, H W space, N outputs, K widths.
Two machines may run the same graph and disagree: another runtime, another instruction set, a damaged
file. What was computed when the bundle was made is compared with what this machine computes now; a
difference beyond the manifest's tolerance refuses to start and says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec.npz import read_npz
from splitrt.errors import BundleError

Array = npt.NDArray[Any]
MASK = 1e30  # values beyond stand for infinity
MAX_GOLDEN_BYTES = 256 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    frame_HWC: Array  # uint8 photograph
    exits_EN: Array  # every exit's logits; empty where there is none
    z_KZHW: Array  # bottleneck values at every width, narrow to wide, before quantisation; channels not sent are 0
    symbols_KZHW: Array  # the same at the most bits
    payload: Array  # the widest of them as coded: bytes
    codec: Array  # how, one number
    tail_KN: Array  # the tail's outputs for these symbols
    whole_N: Array  # the undivided model's outputs

    def save(self, path: Path) -> None:
        with path.open("wb") as file:
            np.savez_compressed(file, **{field.name: getattr(self, field.name) for field in fields(self)})


def load_golden(path: Path) -> Golden:
    """Raises BundleError where an array is missing."""
    arrays = read_npz(path, MAX_GOLDEN_BYTES)
    try:
        return Golden(**{field.name: arrays[field.name] for field in fields(Golden)})
    except KeyError as error:
        raise BundleError(f"{path.name} must hold a golden sample: {error}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedGolden:
    """Of a captured network: its inputs, what crosses the cut exactly, and its outputs for that."""

    inputs: tuple[Array, ...]
    seam: tuple[Array, ...]
    outputs: tuple[Array, ...]

    def save(self, path: Path) -> None:
        arrays = {f"{field.name}_{i}": one for field in fields(self) for i, one in enumerate(getattr(self, field.name))}
        np.savez_compressed(path, **arrays)


def load_captured_golden(path: Path) -> CapturedGolden:
    """Raises BundleError on other arrays."""
    arrays = read_npz(path, MAX_GOLDEN_BYTES)
    found: dict[str, tuple[Array, ...]] = {}
    for field in fields(CapturedGolden):
        names = [f"{field.name}_{i}" for i in range(len(arrays))]
        found[field.name] = tuple(arrays.pop(name) for name in names if name in arrays)
    if arrays:
        raise BundleError(f"{path.name} must hold inputs, seam and outputs only, got {sorted(arrays)[0]}")
    return CapturedGolden(**found)


@dataclass(frozen=True, slots=True, kw_only=True)
class GateGolden:
    """What each gate of a row reads of one frame, and the log odds that it gives."""

    inputs: tuple[Array, ...]
    odds: tuple[Array, ...]

    def save(self, path: Path) -> None:
        arrays = {f"{field.name}_{i}": one for field in fields(self) for i, one in enumerate(getattr(self, field.name))}
        np.savez_compressed(path, **arrays)


def load_gate_golden(path: Path, gates: int) -> GateGolden:
    """Raises BundleError where it is not of so many gates."""
    arrays = read_npz(path, MAX_GOLDEN_BYTES)
    wanted = {f"{name}_{i}" for name in ("inputs", "odds") for i in range(gates)}
    if set(arrays) != wanted:
        raise BundleError(f"{path.name} must hold {', '.join(sorted(wanted))}, got {', '.join(sorted(arrays))}")
    return GateGolden(
        inputs=tuple(arrays[f"inputs_{i}"] for i in range(gates)), odds=tuple(arrays[f"odds_{i}"] for i in range(gates))
    )


def comparable(outputs: Array, kind: str) -> Array:
    """What of a tail's outputs may be compared: of candidates (.., K, 6) the scores, since equals may change places."""
    return outputs[..., 4] if kind == "boxes" else outputs


def agree_all(what: str, given: Sequence[Array], wanted: Sequence[Array], tolerance: float) -> float:
    """The largest difference of several tensors, each as a share of its own largest value, as is the tolerance."""
    if len(given) != len(wanted):
        raise BundleError(f"golden sample: {what} must be {len(wanted)} tensors, got {len(given)}")
    worst = 0.0
    for place, (one, other) in enumerate(zip(given, wanted, strict=True)):
        scale = peak(other) or 1.0
        worst = max(worst, agree(f"{what} {place}", one, other, tolerance * scale) / scale)
    return worst


def peak(array: Array) -> float:
    """The largest value that is a number and no mask."""
    sizes = np.abs(array[np.isfinite(array)].astype(np.float64))
    return float(sizes[sizes < MASK].max(initial=0.0))


def agree(what: str, given: Array, wanted: Array, tolerance: float) -> float:
    """The largest difference. Raises BundleError where it is beyond the tolerance or the shapes differ."""
    if given.shape != wanted.shape:
        raise BundleError(f"golden sample: {what} must have shape {wanted.shape}, got {given.shape}")
    is_other = given != wanted  # equal infinities differ by nothing
    difference = float(np.abs(given[is_other].astype(np.float64) - wanted[is_other]).max(initial=0.0))
    if not difference <= tolerance:  # also NaN
        raise BundleError(
            f"golden sample: {what} on this machine differs by {difference:.3g} from when the bundle was made, "
            f"allowed is {tolerance:.3g}"
        )
    return difference
