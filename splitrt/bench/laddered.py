"""A real bundle on a made ladder: six widths of about 1 to 30 KB, whose accuracies are declared and not measured.

Untrained weights send real bytes through the real client and server; what an answer is worth is the ladder's word.
So a stream over the wire can be scored as the simulated one is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from splitrt.bench.made import make_in_process
from splitrt.bench.suite import LADDER_ACCURACY, LADDER_KB, LOCAL_ACCURACY
from splitrt.bundle import Bundle, load_bundle
from splitrt.calibration import write_calibration
from splitrt.device.head import OnnxHead
from splitrt.device.local import BottleneckDevice
from splitrt.manifest import write_manifest
from splitrt.policy.guarantee import NEVER

RESOLUTION = 128
CHANNELS = 8  # a KB: each is 16 x 16 at 8 bits, which compress to half
TRIED = 4

UInt8 = npt.NDArray[np.uint8]


def make_laddered(folder: Path) -> Bundle:
    """A bundle under `folder`, of which no exit is ever sure. Needs the torch extra."""
    made = make_in_process(
        folder, widths=[CHANNELS * kb for kb in LADDER_KB], width=0.5, resolution=RESOLUTION, decoder_hidden=16, exits=1
    )
    bundle = load_bundle(made)
    sizes = sizes_of(bundle)
    exit_curve, exits = bundle.calibration.exit, bundle.manifest.exits
    assert exit_curve is not None
    assert exits is not None
    points = tuple(
        point.model_copy(update={"payload_bytes_mean": size, "payload_bytes_p95": size, "accuracy": accuracy})
        for point, size, accuracy in zip(bundle.calibration.points, sizes, LADDER_ACCURACY, strict=True)
    )
    remote = tuple(
        point.model_copy(update={"unsure": accuracy})
        for point, accuracy in zip(exit_curve.remote, LADDER_ACCURACY, strict=True)
    )
    alone = {"accuracy": LOCAL_ACCURACY, "unsure": LOCAL_ACCURACY, "remote": remote}
    curve = exit_curve.model_copy(update=alone)
    data = write_calibration(bundle.calibration.model_copy(update={"points": points, "exit": curve}))
    (made / "calibration.json").write_bytes(data)
    files = bundle.manifest.files | {"calibration.json": hashlib.sha256(data).hexdigest()}
    never = exits.model_copy(update={"threshold": NEVER})
    manifest = bundle.manifest.model_copy(update={"files": files, "exits": never})
    (made / "manifest.toml").write_bytes(write_manifest(manifest))
    return load_bundle(made)


def noise(count: int) -> list[UInt8]:
    """Frames that hardly compress."""
    draws = np.random.default_rng(0)
    return list(draws.integers(0, 256, (count, RESOLUTION, RESOLUTION, 3), dtype=np.uint8))


def sizes_of(bundle: Bundle) -> Sequence[float]:
    """Mean payload at each width."""
    device = BottleneckDevice(bundle, OnnxHead(bundle))
    looks = [device.look(frame_HWC) for frame_HWC in noise(TRIED)]
    seam = bundle.manifest.seam
    return [
        float(np.mean([len(device.encode(looked, width, seam.bits[0]).payloads[0]) for looked in looks]))
        for width in seam.widths
    ]
