"""What the device computes of a frame by itself, on one thread of its own.

Shape letters: H W space, C Z K channels, N classes.
ONNX Runtime releases the interpreter while it runs, so the event loop's timers fire on time meanwhile.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import delta, pixels
from splitrt.codec import payload as codec_payload
from splitrt.codec.payload import Codec
from splitrt.codec.quantise import quantise
from splitrt.device.gate import GateRow
from splitrt.device.head import Head, check_golden
from splitrt.device.image import to_frame
from splitrt.device.result import Array, Boxes, Classes, Nothing, found_boxes, found_classes
from splitrt.manifest import Pixels
from splitrt.policy.confidence import confidence

UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A frame after gates, stem and exits."""

    features: Any  # what the encoder reads
    answer: Classes | Boxes | Nothing | Array | None  # the device's own; None where the bundle has no exit
    is_sure: bool  # of the answer, by the threshold asked for
    is_final: bool = False  # sure, and not sent all the same
    head_s: float

    @property
    def is_stopped(self) -> bool:
        """A gate ended it: there is nothing to send, whatever the strategy."""
        return isinstance(self.answer, Nothing)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A frame's bytes for a server that holds the symbols of the frame `reference_seq`."""

    reference_seq: int
    payload: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A frame's bytes at one operating point."""

    width: int
    bits: int
    codec: Codec
    payloads: tuple[bytes, ...]
    symbols_KHW: UInt8 | None = None  # what the payload says; None for a photograph
    difference: Difference | None = None  # in place of the payloads, where it is smaller
    head_s: float  # the encoder network
    encode_s: float  # quantiser and coder


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """An answered frame: the server holds its symbols."""

    seq: int
    width: int
    bits: int
    symbols_KHW: UInt8


class Device(Protocol):
    """What a device computes of a frame, under its bundle's rules: synchronous, called from one thread."""

    bundle: Bundle
    reference: Reference | None  # what the next frame may be sent as the difference to

    def take(self, given: Any) -> Any:
        """What a caller gave, checked and copied. Raises InvalidInput."""

    def look(self, frame: Any, threshold: float | None = None) -> Looked:
        """All that comes before it is known whether and how the frame is sent.

        threshold: the confidence that makes an answer of the device's own a sure one; none: the certified one.
        """

    def encode(self, looked: Looked, width: int, bits: int) -> Encoded:
        """The bytes to send at an operating point. Raises InvalidInput on NaN."""

    def photograph(self, frame: Any, quality: int) -> Encoded:
        """The frame itself, for the whole model on the server: what baselines send."""

    def read(self, outputs: tuple[Array, ...]) -> Classes | Boxes | Any:
        """A server's outputs as the bundle declares them. Raises BadFrame on another shape."""

    def check_golden(self) -> float:
        """Re-run the golden sample's head here: the largest difference. Raises BundleError beyond tolerance."""


class BottleneckDevice:
    """Stem, exits, bottleneck and coder of a trained bundle."""

    def __init__(self, bundle: Bundle, head: Head) -> None:
        self.bundle = bundle
        self.reference: Reference | None = None  # what the next frame may be sent as the difference to
        self._head = head
        self._gates = GateRow(bundle)

    def take(self, given: Any) -> UInt8:
        """A photograph, uint8 (H, W, 3)."""
        return to_frame(given)

    def look(self, frame_HWC: UInt8, threshold: float | None = None) -> Looked:
        """Gates on the frame, stem, gates on its features, exits: each only where none before ended it."""
        started = time.perf_counter()
        wanted, rule = self.bundle.manifest.photograph, self.bundle.manifest.exits
        fitted = pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit)
        x_CHW = pixels.normalise(fitted, wanted.mean, wanted.std)
        if (nothing := self._gates.stop("frame", x_CHW[None])) is not None:
            return stopped(nothing, started)
        features = self._head.stem(x_CHW)
        if (nothing := self._gates.stop("features", features)) is not None:
            return stopped(nothing, started)
        answer, is_sure = None, False
        if rule is not None:
            least = rule.threshold if threshold is None else threshold
            for one, logits_N in zip(rule.chain, self._head.exits(features), strict=True):
                sure = confidence(rule.confidence, logits_N[None], one.temperature)[0]
                if np.isnan(sure):  # no answer at all
                    continue
                answer, is_sure = self.answer(logits_N, one.temperature), bool(sure >= least)
                if is_sure:
                    break
        return Looked(features=features, answer=answer, is_sure=is_sure, head_s=time.perf_counter() - started)

    def encode(self, looked: Looked, width: int, bits: int) -> Encoded:
        """Bottleneck, quantiser, coder. Raises InvalidInput on NaN."""
        symbols_KHW, head_s, started = self._symbols(looked, width, bits)
        codec, payload = codec_payload.encode(symbols_KHW, bits, self.bundle.tables.prior_at(bits))
        reference, difference = self.reference, None
        if reference is not None and (reference.width, reference.bits) == (width, bits):
            changes = delta.encode(symbols_KHW, reference.symbols_KHW, bits)
            if len(changes) < len(payload):
                difference = Difference(reference_seq=reference.seq, payload=changes)
        return Encoded(
            width=width,
            bits=bits,
            codec=codec,
            payloads=(payload,),
            symbols_KHW=symbols_KHW,
            difference=difference,
            head_s=head_s,
            encode_s=time.perf_counter() - started,
        )

    def encode_chunks(self, looked: Looked, width: int, bits: int) -> Encoded:
        """The same in chunks, one a group of channels, each decodable with those before it."""
        symbols_KHW, head_s, started = self._symbols(looked, width, bits)
        sizes = self.bundle.manifest.seam.group_sizes(width)
        codec, payloads = codec_payload.encode_groups(symbols_KHW, sizes, bits, self.bundle.tables.prior_at(bits))
        return Encoded(
            width=width,
            bits=bits,
            codec=codec,
            payloads=payloads,
            head_s=head_s,
            encode_s=time.perf_counter() - started,
        )

    def _symbols(self, looked: Looked, width: int, bits: int) -> tuple[UInt8, float, float]:
        """Bottleneck and quantiser: the symbols, what the network took in seconds, and when it was done."""
        started = time.perf_counter()
        z_KHW = self._head.encode(looked.features, width)
        encoded_at = time.perf_counter()
        return quantise(z_KHW, self.bundle.tables.ranges_at(bits), bits), encoded_at - started, encoded_at

    def photograph(self, frame_HWC: UInt8, quality: int) -> Encoded:
        return as_jpeg(frame_HWC, self.bundle.manifest.photograph, quality)

    def read(self, outputs: tuple[Array, ...]) -> Classes | Boxes | Any:
        return self.answer(outputs[0] if outputs else np.empty(0, np.float32))

    def check_golden(self) -> float:
        return max(check_golden(self.bundle, self._head), self._gates.check_golden())

    def answer(self, outputs_N: Array, temperature: float = 1.0) -> Classes | Boxes | Any:
        """Outputs as the bundle declares them: Classes, Boxes or the tensor. Raises BadFrame on another shape."""
        output = self.bundle.manifest.output
        if output.kind == "boxes":
            return found_boxes(outputs_N, output)
        return found_classes(outputs_N, output, temperature) if output.kind == "classes" else outputs_N


def stopped(nothing: Nothing, started: float) -> Looked:
    """A frame that a gate ended."""
    return Looked(features=None, answer=nothing, is_sure=True, head_s=time.perf_counter() - started)


def as_jpeg(frame_HWC: UInt8, wanted: Pixels, quality: int) -> Encoded:
    """A photograph at the size that the model takes."""
    started = time.perf_counter()
    data = pixels.to_jpeg(pixels.fit(frame_HWC, wanted.height, wanted.width, wanted.fit), quality)
    encode_s = time.perf_counter() - started
    return Encoded(width=0, bits=0, codec=Codec.JPEG, payloads=(data,), head_s=0.0, encode_s=encode_s)
