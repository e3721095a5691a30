"""The head on torch, from head.safetensors through the family's module: for devices with a GPU.

Shape letters as in splitrt.device.head.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

from splitrt import families
from splitrt.bundle import Bundle
from splitrt.device.head import group_count
from splitrt.nn.bottleneck import bottleneck_of
from splitrt.nn.exits import Exits
from splitrt.nn.split import Head

Float32 = npt.NDArray[np.float32]


class TorchHead:
    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        manifest = bundle.manifest
        front = families.head_module(manifest.family).build(**manifest.head_arguments)
        if manifest.exits is not None:
            front.exits = Exits(front.features, manifest.exits.chain, manifest.exits.classes)
        stride = front.features.height // manifest.seam.height
        self._model = Head(front, stride, bottleneck_of(manifest)).eval().to(device)
        self._model.load_state_dict(load_file(bundle.path("head.safetensors")))
        self._widths = manifest.seam.widths
        self._device = device

    @torch.inference_mode()
    def stem(self, x_CHW: Float32) -> Float32:
        features: Float32 = self._model.stem(torch.from_numpy(x_CHW)[None].to(self._device)).cpu().numpy()
        return features

    def exits(self, features_1FHW: Float32) -> Iterator[Float32]:
        carried = torch.from_numpy(features_1FHW).to(self._device)
        for branch in self._model.exits or ():
            with torch.inference_mode():  # not around the yield: it would hold for whoever asks
                logits_1N, carried = branch(carried)
            yield logits_1N[0].cpu().numpy()

    @torch.inference_mode()
    def encode(self, features_1FHW: Float32, width: int) -> Float32:
        group_count(self._widths, width)
        z: Float32 = self._model.encoder(torch.from_numpy(features_1FHW).to(self._device), width)[0].cpu().numpy()
        return z
