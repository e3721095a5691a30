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
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import delta, pixels
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.codec.quantise import dequantise
from splitrt.errors import RemoteFailure, SplitError
from splitrt.golden import Golden, agree, comparable, load_golden
from splitrt.server.tail import Tail
from splitrt.server.work import Outcome, Work

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What a tail reads of one frame: a bottleneck z_ZHW with its symbols, or a photograph x_CHW."""

    values: Float32
    place: int = 0  # of its width among the seam's
    symbols_ZHW: UInt8 | None = None


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
        decoded: list[Decoded | SplitError] = []
        decode_s: list[float] = []
        for work in batch:
            started = time.perf_counter()
            decoded.append(self._try_decode(work))
            decode_s.append(time.perf_counter() - started)
        good = [one for one in decoded if isinstance(one, Decoded)]
        started = time.perf_counter()
        outputs = self._try_tail(good, is_photo) if good else None
        tail_s = time.perf_counter() - started
        outcomes, row = [], 0
        for work, one, each_s in zip(batch, decoded, decode_s, strict=True):
            if isinstance(one, SplitError):
                outcomes.append(Outcome(error=one, decode_s=each_s))
            elif isinstance(outputs, SplitError) or outputs is None:
                outcomes.append(Outcome(error=outputs, decode_s=each_s, tail_s=tail_s))
            else:
                symbols_ZHW = one.symbols_ZHW if work.keep else None
                outcomes.append(
                    Outcome(outputs=(outputs[row],), symbols_ZHW=symbols_ZHW, decode_s=each_s, tail_s=tail_s)
                )
                row += 1
        return outcomes

    def _try_decode(self, work: Work) -> Decoded | SplitError:
        try:
            return self._photo(work) if work.codec is Codec.JPEG else self.bottleneck(work)
        except SplitError as error:
            return error

    def bottleneck(self, work: Work) -> Decoded:
        """Payloads to z_ZHW at the widest, channels not sent zero. Raises BadFrame."""
        seam, tables = self.bundle.manifest.seam, self.bundle.tables
        symbols_ZHW = self._symbols(work)
        z_ZHW = np.zeros((seam.channels, seam.height, seam.width), np.float32)
        z_ZHW[: len(symbols_ZHW)] = dequantise(symbols_ZHW, tables.ranges_at(work.bits), work.bits)
        return Decoded(values=z_ZHW, place=seam.widths.index(work.width), symbols_ZHW=symbols_ZHW)

    def _symbols(self, work: Work) -> UInt8:
        seam = self.bundle.manifest.seam
        if work.codec is Codec.DELTA:
            assert work.reference_ZHW is not None
            return delta.decode(work.payloads[0], work.reference_ZHW, work.bits)
        sizes = seam.group_sizes(work.width) if len(work.payloads) > 1 else [seam.channels_at(work.width)]
        prior = self.bundle.tables.prior_at(work.bits)
        symbols_ZHW = np.empty((0, seam.height, seam.width), np.uint8)
        for payload, size in zip(work.payloads, sizes, strict=True):
            shape = (size, seam.height, seam.width)
            group_CHW = codec_payload.decode(work.codec, payload, shape, work.bits, prior, symbols_ZHW)
            symbols_ZHW = np.concatenate([symbols_ZHW, group_CHW])
        return symbols_ZHW

    def _photo(self, work: Work) -> Decoded:
        wanted = self.bundle.manifest.photograph
        frame_HWC = pixels.fit(pixels.from_jpeg(work.payloads[0]), wanted.height, wanted.width, wanted.fit)
        return Decoded(values=pixels.normalise(frame_HWC, wanted.mean, wanted.std))

    def _try_tail(self, batch: list[Decoded], is_photo: bool) -> Float32 | SplitError:
        stacked = np.stack([one.values for one in batch])
        try:
            if is_photo:
                return self.tail.run_whole(stacked)
            return self.tail.run(stacked, np.array([one.place for one in batch], np.int64))
        except Exception:  # a runtime's errors have no common root, and one batch must not end the server
            request_id = uuid.uuid4().hex[:12]
            log.exception(
                "tail failed on a batch of %d, request %s", len(batch), request_id, extra={"request_id": request_id}
            )
            return RemoteFailure("the tail failed on this frame's batch", request_id=request_id)

    def check_golden(self) -> float:
        """Re-run the bundle's golden sample here: the largest difference. Raises BundleError beyond tolerance."""
        manifest, golden = self.bundle.manifest, load_golden(self.bundle.path("golden.npz"))
        seam, kind, worst = manifest.seam, manifest.output.kind, 0.0
        bits = max(seam.bits)
        self._check_coder(golden, bits)
        for place, width in enumerate(seam.widths):
            z_ZHW = dequantise(golden.symbols_KZHW[place], self.bundle.tables.ranges_at(bits), bits)
            z_ZHW[seam.channels_at(width) :] = 0
            given_N = comparable(self.tail.run(z_ZHW[None], np.array([place], np.int64))[0], kind)
            wanted_N = comparable(golden.tail_KN[place], kind)
            worst = max(worst, agree(f"tail at width {width}", given_N, wanted_N, manifest.golden_tolerance))
        wanted = manifest.photograph
        frame_HWC = pixels.fit(golden.frame_HWC, wanted.height, wanted.width, wanted.fit)
        whole_N = self.tail.run_whole(pixels.normalise(frame_HWC, wanted.mean, wanted.std)[None])[0]
        given_N, wanted_N = comparable(whole_N, kind), comparable(golden.whole_N, kind)
        return max(worst, agree("whole model", given_N, wanted_N, manifest.golden_tolerance))

    def _check_coder(self, golden: Golden, bits: int) -> None:
        """The entropy coder here reads what the one that made the bundle wrote: its library may have changed."""
        symbols_ZHW = golden.symbols_KZHW[-1]
        prior, codec = self.bundle.tables.prior_at(bits), Codec(int(golden.codec[0]))
        decoded = codec_payload.decode(codec, golden.payload.tobytes(), symbols_ZHW.shape, bits, prior)
        agree("coded symbols", decoded.astype(np.int64), symbols_ZHW.astype(np.int64), 0)
