"""zstd with its size known beforehand.

`max_output_size` does not stop a bomb: it is ignored whenever the frame states a content size. So the
frame's header is read first and must state exactly the size that the receiver expects; the window may
not be larger than that needs; dictionaries, checksums of zstd's own, second frames and trailing bytes
are refused. Nothing is allocated before all of that holds.
"""

from __future__ import annotations

import threading

import zstandard

from splitrt.errors import BadFrame

LEVEL = 3
MIN_WINDOW_BYTES = 1 << 10  # the smallest window a zstd frame can state

_per_thread = threading.local()  # contexts are reusable but not shareable between threads


def compress(data: bytes) -> bytes:
    """One frame that states its content size; no checksum, no dictionary."""
    context = getattr(_per_thread, "compressor", None)
    if context is None:
        context = _per_thread.compressor = zstandard.ZstdCompressor(
            level=LEVEL, write_content_size=True, write_checksum=False, write_dict_id=False
        )
    packed: bytes = context.compress(data)
    return packed


def decompress(payload: bytes, wanted_bytes: int) -> bytes:
    """Exactly `wanted_bytes` bytes. Raises BadFrame on any other frame, without allocating for it."""
    try:
        header = zstandard.get_frame_parameters(payload)
    except zstandard.ZstdError as error:
        raise BadFrame("payload must be one zstd frame, its header does not parse", reason="zstd") from error
    if header.content_size != wanted_bytes:  # also a size that is not stated
        raise BadFrame(f"zstd content size must be {wanted_bytes} bytes", reason="zstd_size")
    if header.window_size > max(MIN_WINDOW_BYTES, wanted_bytes):
        raise BadFrame(f"zstd window must be at most {wanted_bytes} bytes", reason="zstd_window")
    if header.dict_id or header.has_checksum:
        raise BadFrame("zstd frame must use neither dictionary nor checksum", reason="zstd_options")
    context = getattr(_per_thread, "decompressor", None)
    if context is None:
        context = _per_thread.decompressor = zstandard.ZstdDecompressor()
    try:
        data: bytes = context.decompress(payload, max_output_size=wanted_bytes, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadFrame("payload must be one whole zstd frame and nothing after it", reason="zstd") from error
    if len(data) != wanted_bytes:
        raise BadFrame(f"zstd content must be {wanted_bytes} bytes, got {len(data)}", reason="zstd_size")
    return data
