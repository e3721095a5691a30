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


class Tail(Protocol):
    """Stateless: the same work may be run twice."""

    def run(self, z_BZHW: Float32) -> Float32:
        """Dequantised bottlenecks (channels not sent are zero) -> outputs_BN."""

    def run_whole(self, x_BCHW: Float32) -> Float32:
        """Frames through the undivided model -> outputs_BN."""


class OnnxTail:
    """tail.onnx and whole.onnx of a bundle on `threads` threads each."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._tail = open_session(bundle.path("tail.onnx"), threads)
        self._whole = open_session(bundle.path("whole.onnx"), threads)

    def run(self, z_BZHW: Float32) -> Float32:
        outputs: Float32 = self._tail.run(None, {"z": z_BZHW})[0]
        return outputs

    def run_whole(self, x_BCHW: Float32) -> Float32:
        outputs: Float32 = self._whole.run(None, {"frame": x_BCHW})[0]
        return outputs


class TorchTail:
    """The tail from tail.safetensors through the family's module, on any torch device.

    The undivided model, which only baselines ask for, stays on ONNX Runtime.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        import torch
        from safetensors.torch import load_file

        from splitrt import families

        manifest = bundle.manifest
        build = families.tail_module(manifest.family).build
        self._model = build(widths=manifest.seam.widths, **manifest.tail_arguments).eval().to(device)
        self._model.load_state_dict(load_file(bundle.path("tail.safetensors")))
        self._whole = open_session(bundle.path("whole.onnx"))
        self._device = device
        self._torch = torch

    def run(self, z_BZHW: Float32) -> Float32:
        with self._torch.inference_mode():
            outputs: Float32 = self._model(self._torch.from_numpy(z_BZHW).to(self._device)).cpu().numpy()
        return outputs

    def run_whole(self, x_BCHW: Float32) -> Float32:
        outputs: Float32 = self._whole.run(None, {"frame": x_BCHW})[0]
        return outputs
