"""The worker beside a captured network's tail: its tensors decoded, its graph run, one frame at a time.

The graph was captured for a batch of one. On a CPU under ONNX Runtime a batch would gain nothing.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import parts, pixels
from splitrt.codec.parts import EXACT
from splitrt.codec.payload import Codec
from splitrt.errors import RemoteFailure, SplitError
from splitrt.golden import agree_all, load_captured_golden
from splitrt.halves import Half
from splitrt.server.work import Outcome, Work

Array = npt.NDArray[Any]
log = logging.getLogger(__name__)


class CapturedWorker:
    """head: the half before the cut, for photographs that come whole; tail: the one after it."""

    def __init__(self, bundle: Bundle, head: Half, tail: Half) -> None:
        self.bundle = bundle
        self._head, self._tail = head, tail

    def run(self, batch: Sequence[Work]) -> list[Outcome]:
        """One outcome for each work, in order."""
        return [self._answer(work) for work in batch]

    def _answer(self, work: Work) -> Outcome:
        started = time.perf_counter()
        try:
            given = self._decode(work)
        except SplitError as error:
            return Outcome(error=error, decode_s=time.perf_counter() - started)
        decoded_at = time.perf_counter()
        found = self._try(given, is_photograph=work.codec is Codec.JPEG)
        outcome = Outcome(error=found) if isinstance(found, SplitError) else Outcome(outputs=found)
        return replace(outcome, decode_s=decoded_at - started, tail_s=time.perf_counter() - decoded_at)

    def _decode(self, work: Work) -> list[Array]:
        """The seam's tensors, or a photograph as the network takes it. Raises BadFrame, InvalidInput."""
        if work.codec is Codec.JPEG:
            wanted = self.bundle.manifest.photograph
            frame_HWC = pixels.fit(pixels.from_jpeg(work.payloads[0]), wanted.height, wanted.width, wanted.fit)
            return [pixels.normalise(frame_HWC, wanted.mean, wanted.std)[None]]
        ranges = None if work.bits == EXACT else self.bundle.tables.ranges_at(work.bits)
        return parts.decode(work.codec, work.payloads[0], self.bundle.manifest.seam.parts, work.bits, ranges)

    def _try(self, given: Sequence[Array], is_photograph: bool) -> tuple[Array, ...] | SplitError:
        try:
            found = self._tail.run(self._head.run(given) if is_photograph else given)
            return tuple(one.view(np.uint8) if one.dtype.kind == "b" else one for one in found)
        except Exception:  # a runtime's errors have no common root, and one frame must not end the server
            request_id = uuid.uuid4().hex[:12]
            log.exception("tail failed, request %s", request_id, extra={"request_id": request_id})
            return RemoteFailure("the tail failed on this frame", request_id=request_id)

    def check_golden(self) -> float:
        """Re-run both halves on the golden sample here: the largest difference. Raises BundleError beyond tolerance."""
        golden, tolerance = load_captured_golden(self.bundle.path("golden.npz")), self.bundle.manifest.golden_tolerance
        worst = agree_all("seam", self._head.run(golden.inputs), golden.seam, tolerance)
        return max(worst, agree_all("outputs", self._tail.run(golden.seam), golden.outputs, tolerance))
