"""Arrays out of an npz file that a stranger may have made.

`numpy.load` unpacks first and believes an array's header: a kilobyte can ask for a terabyte, and damage
raises whatever zip, deflate or tokenizer had to say. Here every stated size is compared with the bytes
that there are before anything of that size is allocated. Pickled arrays are never read.
"""

from __future__ import annotations

import io
import math
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from splitrt.errors import BundleError

Array = npt.NDArray[Any]


def read_npz(path: Path, most_bytes: int) -> dict[str, Array]:
    """Every array by its name, read-only. Raises BundleError on anything but a sound npz file of that size."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > most_bytes:
                raise BundleError(f"{path.name} must unpack to at most {most_bytes} bytes, got {total}")
            return {member.filename.removesuffix(".npy"): _array(_unpack(archive, member)) for member in members}
    except BundleError:
        raise
    except Exception as error:  # those of zip, deflate, numpy's header and the tokenizer have no common root
        raise BundleError(f"{path.name} must be an npz file of plain arrays: {error}") from error


def _unpack(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as file:
        return file.read(member.file_size)  # bounded: read() alone inflates past the stated size


def _array(data: bytes) -> Array:
    stream = io.BytesIO(data)
    version = npy.read_magic(stream)
    read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, is_fortran, dtype = read_header(stream)
    rest = data[stream.tell() :]
    wanted = math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=1) < 0 or len(rest) != wanted:
        raise ValueError(f"{dtype} of shape {shape} must be {wanted} plain bytes, got {len(rest)}")
    return np.frombuffer(rest, dtype).reshape(shape, order="F" if is_fortran else "C")
