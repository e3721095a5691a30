"""Running a tail: ONNX Runtime on CPUs (2 to 4 times torch's speed there), torch for GPUs.

Shape letters: B batch, Z bottleneck channels, C H W frames, N outputs.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.onnx_session import open_session

Float32 = npt.NDArray[np.float32]
Int64 = npt.NDArray[np.int64]


class Tail(Protocol):
    """Stateless: the same work may be run twice."""

    def run(self, z_BZHW: Float32, place_B: Int64) -> Float32:
        """Dequantised bottlenecks (channels not sent are zero), each width's place in the seam's -> outputs_BN."""

    def run_whole(self, x_BCHW: Float32) -> Float32:
        """Frames through the undivided model -> outputs_BN."""


class OnnxTail:
    """tail.onnx and whole.onnx of a bundle on `threads` threads each."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._tail = open_session(bundle.path("tail.onnx"), threads)
        self._whole = open_session(bundle.path("whole.onnx"), threads)

    def run(self, z_BZHW: Float32, place_B: Int64) -> Float32:
        outputs: Float32 = self._tail.run(None, {"z": z_BZHW, "place": place_B})[0]
        return outputs

    def run_whole(self, x_BCHW: Float32) -> Float32:
        outputs: Float32 = self._whole.run(None, {"frame": x_BCHW})[0]
        return outputs


class TorchTail:
    """The tail from tail.safetensors through the family's module, on any torch device.

    The undivided model, which only baselines ask for, stays on ONNX Runtime.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int = 1) -> None:
        """threads: on a CPU, of all torch in this process."""
        import torch
        from safetensors.torch import load_file

        from splitrt import families
        from splitrt.nn import split
        from splitrt.nn.bottleneck import bottleneck_of

        torch.set_num_threads(threads)
        manifest = bundle.manifest
        back = families.tail_module(manifest.family).build(**manifest.tail_arguments)
        self._model = split.Tail(back, bottleneck_of(manifest)).eval().to(device)
        self._model.load_state_dict(load_file(bundle.path("tail.safetensors")))
        self._whole = open_session(bundle.path("whole.onnx"))
        self._device = device
        self._torch = torch

    def run(self, z_BZHW: Float32, place_B: Int64) -> Float32:
        z_BZHW_, place_B_ = (self._torch.from_numpy(given).to(self._device) for given in (z_BZHW, place_B))
        with self._torch.inference_mode():
            outputs: Float32 = self._model(z_BZHW_, place_B_).cpu().numpy()
        return outputs

    def run_whole(self, x_BCHW: Float32) -> Float32:
        outputs: Float32 = self._whole.run(None, {"frame": x_BCHW})[0]
        return outputs
