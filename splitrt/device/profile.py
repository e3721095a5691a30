"""What a bundle's head takes on this device, stage by stage: written beside the bundle, read by `splitrt plan`."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from splitrt.bundle import Bundle, find_bundle
from splitrt.config import ClientConfig
from splitrt.device.connect import open_device
from splitrt.errors import ConfigError
from splitrt.golden import load_captured_golden, load_golden
from splitrt.policy.guarantee import NEVER

ROUNDS, WARM_UP = 30, 5


class Stage(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    median_ms: float = Field(gt=0)
    spread_ms: float = Field(ge=0)  # between the quartiles


class DeviceProfile(BaseModel):
    """`look`: all that comes before it is known how a frame is sent; `encode`: what is sent, by operating point."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bundle: str
    digest: str
    threads: int = Field(ge=1)
    look: Stage
    encode: dict[str, Stage]


def profile_device(bundle: Bundle, threads: int = 1) -> DeviceProfile:
    """Stages one at a time, on the golden sample's frame."""
    device, manifest = open_device(bundle, ClientConfig(threads=threads)), bundle.manifest
    path = bundle.path("golden.npz")
    frame: Any = load_captured_golden(path).inputs if manifest.inputs else _frame(bundle)
    frame = device.take(frame)
    looked = device.look(frame)
    encode = {
        f"width {width}, {bits} bit": _timed(partial(device.encode, looked, width, bits))
        for width in manifest.seam.widths
        for bits in manifest.seam.bits
    }
    return DeviceProfile(
        bundle=bundle.name,
        digest=bundle.digest.hex(),
        threads=threads,
        look=_timed(lambda: device.look(frame, NEVER)),  # of a frame that is sent: every exit was asked
        encode=encode,
    )


def save_profile(profile: DeviceProfile, bundle: Bundle) -> Path:
    """Beside the bundle's folder: what lies in it is what its manifest lists. Raises ConfigError."""
    file = bundle.folder.with_name(f"{bundle.name}.profile.json")
    try:
        file.write_text(json.dumps(profile.model_dump(), indent=1) + "\n")
    except OSError as error:
        raise ConfigError(f"a profile must be written beside its bundle, {file} cannot be: {error.strerror}") from error
    return file


def compare(file: Path, threads: int = 1) -> float:
    """How many times longer the profiled device takes for its head than this machine. Raises ConfigError."""
    try:
        theirs = DeviceProfile.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        why = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise ConfigError(f"{file} must be what `splitrt doctor --profile` writes: {why}") from error
    bundle = find_bundle(theirs.bundle)
    if bundle.digest.hex() != theirs.digest:
        raise ConfigError(f"{file} must be of the bundle {bundle.name} that is here, got one of another digest")
    return theirs.look.median_ms / profile_device(bundle, threads).look.median_ms


def _frame(bundle: Bundle) -> Any:
    path = bundle.path("golden.npz")
    if not bundle.manifest.seam.tensors:
        return load_golden(path).frame_HWC
    wanted = bundle.manifest.photograph
    return np.full((wanted.height, wanted.width, 3), 128, np.uint8)


def _timed(run: Callable[[], Any]) -> Stage:
    times = []
    for place in range(ROUNDS + WARM_UP):
        started = time.perf_counter()
        run()
        if place >= WARM_UP:
            times.append(1e3 * (time.perf_counter() - started))
    low, _, high = statistics.quantiles(times, n=4)
    return Stage(median_ms=statistics.median(times), spread_ms=high - low)
