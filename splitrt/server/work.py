"""One frame's work as it moves from the gateway to a tail, and how it ended.

Shape letters: Z bottleneck channels sent, H W space.
The header is checked, the payload is not decoded: the worker beside the tail does that.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.codec.payload import Codec
from splitrt.errors import SplitError

Array = npt.NDArray[Any]
UInt8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A frame to answer. Times are this machine's monotonic clock, in seconds."""

    principal: str  # whose share it counts against
    width: int  # bottleneck channels; 0 for a photograph
    bits: int
    codec: Codec
    payloads: tuple[bytes, ...]  # one, or one a channel group
    arrived_at: float
    deadline_at: float
    reference_ZHW: UInt8 | None = None  # symbols of the frame that this one is the difference to
    keep: bool = False  # give the symbols back: a later frame may be the difference to them

    @property
    def payload_bytes(self) -> int:
        return sum(len(payload) for payload in self.payloads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A frame's end on the server: outputs or one typed error, and where its time went."""

    outputs: tuple[Array, ...] = ()
    error: SplitError | None = None
    symbols_ZHW: UInt8 | None = None  # of a frame that asked to be kept
    queue_s: float = 0.0
    decode_s: float = 0.0
    tail_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Ticket:
    """Queued work and the future that its submitter waits on."""

    work: Work
    done: asyncio.Future[Outcome]
