"""What a device computes of a captured network's frame: the half before the cut, then its tensors to bytes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import parts, pixels
from splitrt.codec.parts import DTYPES, EXACT
from splitrt.device.gate import GateRow
from splitrt.device.image import to_frame
from splitrt.device.local import Encoded, Looked, Reference, as_jpeg, stopped
from splitrt.device.result import Boxes, Classes, found_boxes, found_classes
from splitrt.device.sound import to_sound
from splitrt.errors import BadFrame, InvalidInput, WidthUnsupported
from splitrt.golden import agree_all, load_captured_golden
from splitrt.halves import Half

Array = npt.NDArray[Any]


class CapturedDevice:
    """A frame is a photograph or a sound where the bundle says what becomes of one, else the network's input tensors:
    one array where it has one input, else a sequence in their order or a mapping by their names.
    """

    def __init__(self, bundle: Bundle, half: Half) -> None:
        self.bundle = bundle
        self.reference: Reference | None = None  # tensors are never sent as differences
        self._half = half
        self._gates = GateRow(bundle)
        audio = bundle.manifest.audio
        self._hearing = audio.hearing() if audio else None

    def take(self, given: Any) -> Any:
        """A photograph, a sound, or a tuple of arrays. Raises InvalidInput on another shape, dtype, batch or number."""
        wanted = self.bundle.manifest.inputs
        if not wanted:
            return to_frame(given) if self.bundle.manifest.audio is None else to_sound(given)
        names = [spec.name for spec in wanted]
        if isinstance(given, dict):
            if set(given) != set(names):
                raise InvalidInput(f"inputs must be {', '.join(names)}, got {', '.join(map(str, given))}")
            given = [given[name] for name in names]
        elif not isinstance(given, list | tuple):
            given = [given]
        if len(given) != len(wanted):
            raise InvalidInput(f"inputs must be {len(wanted)} tensors ({', '.join(names)}), got {len(given)}")
        return tuple(_tensor(one, spec) for one, spec in zip(given, wanted, strict=True))

    def look(self, frame: Any, threshold: float | None = None) -> Looked:
        started = time.perf_counter()
        wanted, audio = self.bundle.manifest.pixels, self.bundle.manifest.audio
        if wanted is not None:
            fitted = pixels.fit(frame, wanted.height, wanted.width, wanted.fit)
            frame = (pixels.normalise(fitted, wanted.mean, wanted.std)[None],)
        elif audio is not None and self._hearing is not None:
            frame = (self._hearing.hear(audio.log_mel(frame))[None, None],)
        if (nothing := self._gates.stop("frame", frame[0])) is not None:
            return stopped(nothing, started)
        try:
            tensors = self._half.run(frame)
        except Exception as error:  # a runtime's errors have no common root; the golden sample has run, so it is these
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise InvalidInput(f"inputs must be ones that the head can run: {reason}") from error
        if (nothing := self._gates.stop("features", tensors[0])) is not None:
            return stopped(nothing, started)
        return Looked(features=tensors, answer=None, is_sure=False, head_s=time.perf_counter() - started)

    def encode(self, looked: Looked, width: int, bits: int) -> Encoded:
        started = time.perf_counter()
        seam = self.bundle.manifest.seam
        if width not in seam.widths or bits not in seam.bits:
            raise WidthUnsupported(f"a point must be width {seam.widths[0]} at {seam.bits} bits, got {width} at {bits}")
        ranges = None if bits == EXACT else self.bundle.tables.ranges_at(bits)
        codec, payload = parts.encode(looked.features, seam.parts, bits, ranges)
        encode_s = time.perf_counter() - started
        return Encoded(width=width, bits=bits, codec=codec, payloads=(payload,), head_s=0.0, encode_s=encode_s)

    def photograph(self, frame: Any, quality: int) -> Encoded:
        return as_jpeg(frame, self.bundle.manifest.photograph, quality)

    def read(self, outputs: tuple[Array, ...]) -> Classes | Boxes | Any:
        """Classes and Boxes of the first output, which has a batch of one; else the tensor, or all of several."""
        output = self.bundle.manifest.output
        if not outputs:
            raise BadFrame("outputs must be at least one tensor, got none", reason="outputs")
        if output.kind != "tensor":
            if outputs[0].shape[:1] != (1,):
                raise BadFrame(f"outputs must have a batch of one, got shape {outputs[0].shape}", reason="outputs")
            return (found_boxes if output.kind == "boxes" else found_classes)(outputs[0][0], output)
        return outputs[0] if len(outputs) == 1 else outputs

    def check_golden(self) -> float:
        """Re-run the golden sample's head here: the largest difference. Raises BundleError beyond tolerance."""
        golden = load_captured_golden(self.bundle.path("golden.npz"))
        found = self._half.run(golden.inputs)
        worst = agree_all("seam", found, golden.seam, self.bundle.manifest.golden_tolerance)
        return max(worst, self._gates.check_golden())


def _tensor(given: Any, spec: Any) -> Array:
    """A copy as C-ordered numpy. Floats of another size are converted, numbers never change their kind."""
    dtype = DTYPES[spec.dtype]
    try:
        array = np.asarray(given.detach().cpu().numpy() if hasattr(given, "detach") else given)
    except (TypeError, ValueError) as error:  # of a dtype that numpy does not have; of rows of different lengths
        raise InvalidInput(f"input {spec.name} must be {spec.dtype}: {error}") from error
    if array.shape != spec.shape:
        raise InvalidInput(f"input {spec.name} must have shape {spec.shape}, got {array.shape}")
    if array.dtype.kind != dtype.kind:
        raise InvalidInput(f"input {spec.name} must be {spec.dtype}, got {array.dtype.name}")
    with np.errstate(over="ignore"):
        taken = np.array(array, dtype, order="C")
    if not np.array_equal(np.isfinite(taken), np.isfinite(array)) or (dtype.kind in "iu" and (taken != array).any()):
        raise InvalidInput(f"input {spec.name} must be {spec.dtype}, got {array.dtype.name} beyond what that holds")
    return taken
