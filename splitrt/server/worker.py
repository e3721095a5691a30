"""The worker beside a tail: decode payloads, stack what differs in width and bits into one batch, run, split.

Shape letters: B batch, Z bottleneck channels, C H W frames or space, N outputs.
Synchronous: the batcher gives it a thread. A frame that does not decode gets its own error; the others of
the batch do not notice.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import payload as codec_payload
from splitrt.codec import pixels
from splitrt.codec.payload import Codec
from splitrt.codec.quantise import dequantise
from splitrt.errors import RemoteFailure, SplitError
from splitrt.golden import agree, load_golden
from splitrt.server.tail import Tail
from splitrt.server.work import Outcome, Work

Float32 = npt.NDArray[np.float32]
log = logging.getLogger(__name__)


class Worker:
    def __init__(self, bundle: Bundle, tail: Tail) -> None:
        self.bundle = bundle
        self.tail = tail

    def run(self, batch: Sequence[Work]) -> list[Outcome]:
        """One outcome for each work, in order. Bottlenecks and photographs are two batches of the tail."""
        outcomes: list[Outcome | None] = [None] * len(batch)
        for is_photo in (False, True):
            places = [i for i, work in enumerate(batch) if (work.codec is Codec.JPEG) == is_photo]
            for place, outcome in zip(places, self._run_alike([batch[i] for i in places], is_photo), strict=True):
                outcomes[place] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _run_alike(self, batch: list[Work], is_photo: bool) -> list[Outcome]:
        decoded: list[Float32 | SplitError] = []
        decode_s: list[float] = []
        for work in batch:
            started = time.perf_counter()
            decoded.append(self._try_decode(work))
            decode_s.append(time.perf_counter() - started)
        good = [one for one in decoded if not isinstance(one, SplitError)]
        started = time.perf_counter()
        outputs = self._try_tail(np.stack(good), is_photo) if good else None
        tail_s = time.perf_counter() - started
        outcomes, row = [], 0
        for one, each_s in zip(decoded, decode_s, strict=True):
            if isinstance(one, SplitError):
                outcomes.append(Outcome(error=one, decode_s=each_s))
            elif isinstance(outputs, SplitError) or outputs is None:
                outcomes.append(Outcome(error=outputs, decode_s=each_s, tail_s=tail_s))
            else:
                outcomes.append(Outcome(outputs=(outputs[row],), decode_s=each_s, tail_s=tail_s))
                row += 1
        return outcomes

    def _try_decode(self, work: Work) -> Float32 | SplitError:
        try:
            return self._photo(work) if work.codec is Codec.JPEG else self.bottleneck(work)
        except SplitError as error:
            return error

    def bottleneck(self, work: Work) -> Float32:
        """Payloads to z_ZHW at the widest, channels not sent zero. Raises BadFrame."""
        seam = self.bundle.manifest.seam
        sizes = seam.group_sizes(work.width) if len(work.payloads) > 1 else [work.width]
        symbols = [
            codec_payload.decode(work.codec, payload, (size, seam.height, seam.width), work.bits)
            for payload, size in zip(work.payloads, sizes, strict=True)
        ]
        z_ZHW = np.zeros((seam.channels, seam.height, seam.width), np.float32)
        z_ZHW[: work.width] = dequantise(np.concatenate(symbols), self.bundle.tables.ranges, work.bits)
        return z_ZHW

    def _photo(self, work: Work) -> Float32:
        wanted = self.bundle.manifest.pixels
        frame_HWC = pixels.fit(pixels.from_jpeg(work.payloads[0]), wanted.height, wanted.width)
        return pixels.normalise(frame_HWC, wanted.mean, wanted.std)

    def _try_tail(self, stacked: Float32, is_photo: bool) -> Float32 | SplitError:
        try:
            return self.tail.run_whole(stacked) if is_photo else self.tail.run(stacked)
        except Exception:  # a runtime's errors have no common root, and one batch must not end the server
            request_id = uuid.uuid4().hex[:12]
            log.exception("tail failed on a batch of %d, request %s", len(stacked), request_id)
            return RemoteFailure("the tail failed on this frame's batch", request_id=request_id)

    def check_golden(self) -> float:
        """Re-run the bundle's golden sample here: the largest difference. Raises BundleError beyond tolerance."""
        manifest, golden = self.bundle.manifest, load_golden(self.bundle.path("golden.npz"))
        bits, worst = max(manifest.seam.bits), 0.0
        z_ZHW = dequantise(golden.symbols_ZHW, self.bundle.tables.ranges, bits)
        for width, wanted_N in zip(manifest.seam.widths, golden.tail_KN, strict=True):
            narrow_ZHW = np.where(np.arange(len(z_ZHW))[:, None, None] < width, z_ZHW, np.float32(0))
            given_N = self.tail.run(narrow_ZHW[None])[0]
            worst = max(worst, agree(f"tail at width {width}", given_N, wanted_N, manifest.golden_tolerance))
        wanted = manifest.pixels
        frame_HWC = pixels.fit(golden.frame_HWC, wanted.height, wanted.width)
        whole_N = self.tail.run_whole(pixels.normalise(frame_HWC, wanted.mean, wanted.std)[None])[0]
        return max(worst, agree("whole model", whole_N, golden.whole_N, manifest.golden_tolerance))
