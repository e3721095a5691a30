"""Range coding of symbols, each under a given row of a frozen integer table.

Shape letters: R rows of the table, A symbols of the alphabet, N symbols to code.
The coder is constriction's (Bamler, arXiv:2201.01741) with Martin's range coding, 1979. Symbols of a
batch are sorted by row (stably, so that both sides agree) and each row is one call: half a microsecond
and 0.02 a symbol, whatever the alphabet. Frequencies are integers below 2**24, so float32 holds them and
their sums exactly and one correctly rounded multiplication remains: both sides get the same intervals on
any machine. The payload is the shortest byte string inside the final interval. Others there decode to the
same symbols; whether bytes are the sender's is for the checksum to say, and here only those are refused
that are longer than any encoder makes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import constriction
import numpy as np
import numpy.typing as npt

from splitrt.errors import BadFrame

UInt8 = npt.NDArray[np.uint8]
UInt16 = npt.NDArray[np.uint16]

TOTAL = 1 << 16  # every row's sum
LOSS_BITS = 1 / 128  # more than rounding costs a symbol: an interval is at least 256 of the coder's units


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Symbols that are coded in one go, and the row of each."""

    symbols_N: UInt8
    rows_N: UInt16


class Models(dict[int, Any]):
    """What coding makes of a table's rows: constriction's models, built when first used, and code lengths."""

    def __init__(self, rows_RA: UInt16) -> None:
        super().__init__()
        self._rows_RA = rows_RA
        self._bits_RA = (np.log2(TOTAL) - np.log2(rows_RA)).astype(np.float32)

    def __missing__(self, row: int) -> Any:
        frequencies_A = self._rows_RA[row].astype(np.float32)
        model = self[row] = constriction.stream.model.Categorical(frequencies_A, perfect=False)
        return model

    def ideal_bits(self, batches: Sequence[Batch]) -> float:
        """The sum of -log2(frequency / total): what no coder under these rows can beat."""
        if not batches:
            return 0.0
        index_N = np.concatenate([one.rows_N for one in batches]).astype(np.intp)
        index_N *= self._bits_RA.shape[1]
        index_N += np.concatenate([one.symbols_N for one in batches])
        return float(self._bits_RA.reshape(-1).take(index_N).sum(dtype=np.float64))


def encode(models: Models, batches: Sequence[Batch]) -> bytes:
    """The shortest bytes that decode to these symbols."""
    coder = constriction.stream.queue.RangeEncoder()
    for batch in batches:
        order, runs = _by_row(batch.rows_N)
        sorted_N = batch.symbols_N[order].astype(np.int32)
        for row, first, stop in runs:
            coder.encode(sorted_N[first:stop], models[row])
    return _shortest(coder)


class Decoder:
    """Reads batches in the order in which they were encoded; their rows may depend on those before."""

    def __init__(self, models: Models, payload: bytes, count: int) -> None:
        """Raises BadFrame where `count` symbols cannot take that many bytes, or the last is one that none sends."""
        most = 2 * count + 8  # the rarest symbol takes 16 bits
        if len(payload) > most:
            raise BadFrame(
                f"{count} range-coded symbols must take at most {most} bytes, got {len(payload)}", reason="length"
            )
        if payload.endswith(b"\0"):
            raise BadFrame("range-coded symbols must not end in a zero byte", reason="trailing")
        words = np.frombuffer(payload + bytes(-len(payload) % 4), ">u4").astype(np.uint32)
        self._models = models
        self._coder = constriction.stream.queue.RangeDecoder(words)
        self._payload_bytes = len(payload)
        self._read: list[Batch] = []

    def read(self, rows_N: UInt16) -> UInt8:
        """One symbol a row, in order. Raises BadFrame on bytes that no encoder makes."""
        order, runs = _by_row(rows_N)
        symbols_N = np.empty(len(rows_N), np.uint8)
        try:
            sorted_N = [self._coder.decode(self._models[row], stop - first) for row, first, stop in runs]
        except AssertionError as error:  # constriction's word for invalid data
            raise BadFrame("payload must be range-coded symbols", reason="entropy") from error
        if sorted_N:
            symbols_N[order] = np.concatenate(sorted_N)
        self._read.append(Batch(symbols_N=symbols_N, rows_N=rows_N))
        return symbols_N

    def finish(self) -> None:
        """Raises BadFrame where the payload is longer than all that was read can take."""
        count = sum(len(one.symbols_N) for one in self._read)
        most = int((self._models.ideal_bits(self._read) + count * LOSS_BITS) / 8) + 2
        if self._payload_bytes > most:
            raise BadFrame(f"these symbols must take at most {most} bytes, got {self._payload_bytes}", reason="length")


def _by_row(rows_N: UInt16) -> tuple[npt.NDArray[np.intp], Iterator[tuple[int, int, int]]]:
    """The order that sorts by row, and each used row with where it starts and stops in that order."""
    order = rows_N.argsort(kind="stable")
    sorted_N = rows_N[order]
    starts = (sorted_N[1:] != sorted_N[:-1]).nonzero()[0]
    starts += 1
    bounds = [0, *starts.tolist(), len(rows_N)] if len(rows_N) else [0]
    return order, zip(sorted_N[bounds[:-1]].tolist(), bounds[:-1], bounds[1:], strict=True)


def _shortest(coder: Any) -> bytes:
    """Of all numbers in the coder's final interval that with the most zero bytes at its end, without them.

    constriction picks a number of whole words: about two bytes more. Its `pos` tells the interval's lower
    end modulo 2**64 and its size; a carry into earlier words is a plain addition of Python integers here.
    """
    words, (lower, size) = coder.pos()
    length: int = 4 * (words + 2)
    inside = int.from_bytes(coder.get_compressed().astype(">u4").tobytes().ljust(length, b"\0"), "big")
    low: int = inside - (inside - lower) % (1 << 64)
    # The interval is smaller than 2**64, so at most one number in it ends in eight zero bytes or more.
    for zeros in range(8, -1, -1):
        number = -(-low >> 8 * zeros) << 8 * zeros  # rounded up to that many zero bytes
        if number < low + size:
            break
    return number.to_bytes(length, "big").rstrip(b"\0")
