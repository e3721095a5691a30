"""A photograph from the caller: checked, and turned into HWC bytes.

Shape letters: H W space, C channels.
Takes numpy HWC uint8, a PIL image, or a torch CHW tensor (uint8, or float in 0..1), without importing
torch. Anything else is refused here, before anything is computed or sent.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.errors import InvalidInput

UInt8 = npt.NDArray[np.uint8]

MAX_SIDE = 16_384
# What a cut image file, a sparse tensor or a thing of PIL's that is no image raises.
UNREADABLE = (AttributeError, NotImplementedError, OSError, RuntimeError, SyntaxError, TypeError, ValueError)
WANTED = "a frame must be numpy uint8 (H, W, 3), a PIL image or a torch tensor (3, H, W)"


def to_frame(image: Any) -> UInt8:
    """uint8 (H, W, 3), a contiguous copy. Raises InvalidInput with what was given."""
    if isinstance(image, np.ndarray):
        return _checked(image)
    kind = type(image).__module__.partition(".")[0]
    given = f"{type(image).__module__}.{type(image).__qualname__}"
    try:
        if kind == "PIL":
            return _checked(np.asarray(image.convert("RGB")))
        if kind == "torch":
            return _checked(_from_torch(image))
    except UNREADABLE as error:
        raise InvalidInput(f"{WANTED}, got {given} that cannot be read: {error}") from error
    raise InvalidInput(f"{WANTED}, got {given}")


def _checked(array: npt.NDArray[Any]) -> UInt8:
    if array.dtype != np.uint8:
        raise InvalidInput(f"{WANTED}, got dtype {array.dtype.str} of shape {array.shape}")
    if array.ndim != 3 or array.shape[2] != 3 or not 1 <= min(array.shape) <= max(array.shape) <= MAX_SIDE:
        raise InvalidInput(f"{WANTED} with sides of 1 to {MAX_SIDE}, got shape {array.shape}")
    return np.array(array, order="C")  # a copy: cameras write into the same buffer again


def _from_torch(tensor: Any) -> npt.NDArray[Any]:
    if tensor.requires_grad:
        raise InvalidInput(f"{WANTED}, got a tensor that requires grad: call .detach() first")
    if tensor.ndim != 3 or tensor.shape[0] != 3 or 0 in tensor.shape:
        raise InvalidInput(f"{WANTED}, got a tensor of shape {tuple(tensor.shape)}")
    is_float = tensor.is_floating_point()
    # numpy has no bfloat16
    array: npt.NDArray[Any] = (tensor.float() if is_float else tensor).cpu().numpy().transpose(1, 2, 0)
    if is_float:
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise InvalidInput("a float tensor must be finite and within 0..1")
        array = np.rint(array * 255).astype(np.uint8)
    return array
