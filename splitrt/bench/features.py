"""The features at the cut as they are, 8 bits a value and zstd: what splitting without a bottleneck would send.

Shape letters: F channels, H W space, N outputs.
The undivided model's graph is cut where a device's stem ends, so that the rest of it can be run from there.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.codec import bitpack, zstd
from splitrt.codec.quantise import Ranges, dequantise, quantise
from splitrt.onnx_session import open_session

Float32 = npt.NDArray[np.float32]
BITS = 8
CLOSE = 1e-3


class RawFeatures:
    """Features to bytes and outputs by a bundle's undivided model. Needs the torch extra's `onnx`."""

    def __init__(self, bundle: Bundle, frame_CHW: Float32, features_1FHW: Float32) -> None:
        """Any frame and its features, to recognise them in the graph by."""
        self._rest = _rest(bundle.path("whole.onnx"), frame_CHW, features_1FHW)

    def send(self, features_1FHW: Float32) -> tuple[int, Float32]:
        """Payload bytes, with ranges of the frame's own (8 bytes a channel), and outputs_N."""
        features_FHW = features_1FHW[0]
        ranges = Ranges(low_C=features_FHW.min((1, 2)), high_C=features_FHW.max((1, 2)))
        symbols_FHW = quantise(features_FHW, ranges, BITS)
        payload = zstd.compress(bitpack.pack(symbols_FHW, BITS))
        seen_1FHW = dequantise(symbols_FHW, ranges, BITS)[None]
        (name,) = (one.name for one in self._rest.get_inputs())
        outputs_N: Float32 = self._rest.run(None, {name: seen_1FHW})[0][0]
        return len(payload) + 8 * len(features_FHW), outputs_N


def _rest(whole: Path, frame_CHW: Float32, features_1FHW: Float32) -> Any:
    """A session of the graph from the features on. Raises StopIteration where they are nowhere in it."""
    import onnx

    model = onnx.load(whole)
    names = [output for node in model.graph.node for output in node.output]
    outputs = [output.name for output in model.graph.output]
    with tempfile.TemporaryDirectory() as scratch:
        exposed = Path(scratch) / "exposed.onnx"
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in outputs)
        onnx.save(model, exposed)
        given = open_session(exposed).run(names, {"frame": frame_CHW[None]})
        found = next(
            name
            for name, value in zip(names, given, strict=True)
            if value.shape == features_1FHW.shape and np.abs(value - features_1FHW).max() < CLOSE
        )
        cut = Path(scratch) / "rest.onnx"
        onnx.utils.extract_model(str(whole), str(cut), [found], outputs, check_model=False)
        return open_session(cut)
