"""Bombs are frames whose output is far more than was agreed; each must be refused before memory is spent on it."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.codec.zstd import compress, decompress
from splitrt.errors import BadFrame

MAGIC = (0xFD2FB528).to_bytes(4, "little")
AGREED = b"splitrt!" * 64
WANTED = len(AGREED)
BOMB_BYTES = 64 << 20
SPARE_BYTES = 256 << 10  # what refusing may cost
relaxed = settings(deadline=None)


def streamed(size: int, *, states_size: bool) -> bytes:
    """`size` zero bytes, compressed a piece at a time."""
    out = io.BytesIO()
    context = zstandard.ZstdCompressor(write_content_size=states_size)
    with context.stream_writer(out, size=size if states_size else -1, closefd=False) as writer:
        for _ in range(size >> 20):
            writer.write(bytes(1 << 20))
    return out.getvalue()


def frame(content_bytes: int, *, window_log: int | None, blocks: bytes) -> bytes:
    """A frame by hand that states 8 bytes of content size; without a window it is a single segment."""
    descriptor, window = (0xE0, b"") if window_log is None else (0xC0, bytes([(window_log - 10) << 3]))
    return MAGIC + bytes([descriptor]) + window + content_bytes.to_bytes(8, "little") + blocks


def block(kind: int, size: int, body: bytes) -> bytes:
    """The last block: kind 0 raw, 1 one byte repeated `size` times."""
    return (1 | kind << 1 | size << 3).to_bytes(3, "little") + body


def with_dictionary() -> bytes:
    samples: list[bytes | bytearray | memoryview] = [f"splitrt sample {i} of {i * i}".encode() * 4 for i in range(200)]
    dictionary = zstandard.train_dictionary(1024, samples)
    return zstandard.ZstdCompressor(dict_data=dictionary).compress(AGREED)


RAW = block(0, WANTED, AGREED)
HOSTILE = {
    "bomb that states its size": (streamed(BOMB_BYTES, states_size=True), "zstd_size"),
    "bomb without a size": (streamed(BOMB_BYTES, states_size=False), "zstd_size"),
    "header that lies 1 TiB": (frame(1 << 40, window_log=None, blocks=RAW), "zstd_size"),
    "agreed size, more inside": (frame(WANTED, window_log=None, blocks=block(1, 100 << 10, b"\0")), "zstd"),
    "agreed size, less inside": (frame(WANTED, window_log=None, blocks=block(1, WANTED - 1, b"\0")), "zstd"),
    "agreed size, huge window": (frame(WANTED, window_log=31, blocks=RAW), "zstd_window"),
    "agreed size, window one step too large": (frame(WANTED, window_log=11, blocks=RAW), "zstd_window"),
    "two frames": (compress(AGREED) * 2, "zstd"),
    "empty frame, then the agreed one": (zstandard.compress(b"") + compress(AGREED), "zstd_size"),
    "skippable frame of the agreed size": (
        (0x184D2A50).to_bytes(4, "little") + WANTED.to_bytes(4, "little") + AGREED,
        "zstd",
    ),
    "trailing junk": (compress(AGREED) + b"\0", "zstd"),
    "dictionary id": (with_dictionary(), "zstd_options"),
    "checksum of zstd's own": (zstandard.ZstdCompressor(write_checksum=True).compress(AGREED), "zstd_options"),
    "one byte short": (compress(AGREED)[:-1], "zstd"),
    "header only": (compress(AGREED)[:6], "zstd"),
    "nothing": (b"", "zstd"),
    "not zstd": (AGREED, "zstd"),
}


@pytest.fixture
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def test_a_frame_made_by_hand_is_taken_where_it_is_honest() -> None:
    assert decompress(frame(WANTED, window_log=None, blocks=RAW), WANTED) == AGREED
    assert decompress(frame(WANTED, window_log=10, blocks=RAW), WANTED) == AGREED


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.usefixtures("traced")
def test_a_hostile_frame_is_refused_and_allocates_nothing(name: str) -> None:
    payload, reason = HOSTILE[name]
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    with pytest.raises(BadFrame) as refusal:
        decompress(payload, WANTED)
    assert refusal.value.reason == reason
    assert tracemalloc.get_traced_memory()[1] - before < SPARE_BYTES


def test_refusing_every_hostile_frame_does_not_grow_the_process() -> None:
    """zstd allocates beside Python: only the process' own high-water mark sees that."""
    child = """
import resource, sys
from splitrt.codec.zstd import compress, decompress
from splitrt.errors import BadFrame
frames = [bytes.fromhex(line) for line in sys.stdin]
decompress(compress(bytes(512)), 512)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for frame in frames:
    try:
        decompress(frame, 512)
    except BadFrame:
        continue
    sys.exit("taken")
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    lines = "\n".join(payload.hex() for payload, _ in HOSTILE.values())
    done = subprocess.run([sys.executable, "-c", child], input=lines, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 4096  # KiB


@relaxed
@given(data=st.binary(min_size=1, max_size=4096))
def test_what_is_decompressed_is_what_was_compressed(data: bytes) -> None:
    assert decompress(compress(data), len(data)) == data


@pytest.mark.parametrize("size", [1, 255, 256, 1023, 1024, 65_791, 65_792, 131_073, 1 << 20, (4 << 20) + 1])
@pytest.mark.parametrize("alphabet", [1, 4, 256])
def test_our_own_frames_are_never_refused_whatever_their_size(size: int, alphabet: int) -> None:
    data = np.random.default_rng(size).integers(0, alphabet, size, np.uint8).tobytes()
    assert decompress(compress(data), size) == data


@relaxed
@given(data=st.binary(min_size=1, max_size=200), off=st.integers(-200, 200).filter(bool))
def test_another_size_than_agreed_is_refused(data: bytes, off: int) -> None:
    with pytest.raises(BadFrame):
        decompress(compress(data), max(0, len(data) + off))


@relaxed
@given(junk=st.binary(max_size=64), keeps_magic=st.booleans())
def test_junk_gives_bad_frame_and_nothing_else(junk: bytes, keeps_magic: bool) -> None:
    try:
        data = decompress(MAGIC * keeps_magic + junk, WANTED)
    except BadFrame:
        return
    assert len(data) == WANTED


@relaxed
@given(place=st.integers(0, len(compress(AGREED)) - 1), flip=st.integers(1, 255))
def test_a_damaged_frame_gives_bad_frame_or_the_agreed_size(place: int, flip: int) -> None:
    damaged = bytearray(compress(AGREED))
    damaged[place] ^= flip
    try:
        data = decompress(bytes(damaged), WANTED)
    except BadFrame:
        return
    assert len(data) == WANTED  # what it holds is for the checksum to notice


def test_a_refusal_does_not_spoil_the_next_frame() -> None:
    for payload, _ in HOSTILE.values():
        with pytest.raises(BadFrame):
            decompress(payload, WANTED)
        assert decompress(compress(AGREED), WANTED) == AGREED


def test_threads_do_not_share_a_context() -> None:
    wrong: list[int] = []

    def work(seed: int) -> None:
        data = np.random.default_rng(seed).integers(0, 4, 20_000, np.uint8).tobytes()
        for _ in range(30):
            if decompress(compress(data), len(data)) != data:
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
