"""A bundle's row of gates on the device: what holds nothing of interest ends here, before anything else is computed.

    frame ── gates that read it ── stem ── gates that read its features ── exit, encoder
               │  each perhaps on what the one before carries on
               │                            │
               └──── P(nothing) at or above the threshold: stopped, no bytes

They run on ONNX Runtime whatever runs the head: they are small. NaN stops nothing (a comparison with it fails): a gate
that is broken costs bytes, never answers.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy.typing as npt

from splitrt.bundle import Bundle
from splitrt.device.result import Nothing
from splitrt.errors import BundleError
from splitrt.golden import agree, load_gate_golden
from splitrt.onnx_session import open_session

Array = npt.NDArray[Any]


class GateRow:
    """Not reentrant; one thread calls it."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        rule = bundle.manifest.gate
        self._bundle, self._rule = bundle, rule
        self._gates = [
            (reads, open_session(bundle.path(f"head/gate_{k}.onnx"), threads))
            for k, reads in enumerate(rule.reads if rule else (), start=1)
        ]
        for k, (_, session) in enumerate(self._gates):
            wanted, given = 1 + rule.carries(k) if rule else 1, len(session.get_outputs())
            if given != wanted:
                raise BundleError(f"gate {k + 1} must give {wanted} tensors, for the next to read or not, got {given}")

    def stop(self, reads: Literal["frame", "features"], x_1CHW: Array) -> Nothing | None:
        """Of the gates that read this, the first that is certain enough; None where none is."""
        if self._rule is None:
            return None
        is_here, given = False, x_1CHW
        for place, session in self._gates:
            is_here = place == reads or (is_here and place == "carried")
            if not is_here:
                continue
            odds, *carried = session.run(None, {"x": x_1CHW if place == reads else given})
            if (certainty := _nothing(odds)) >= self._rule.threshold:
                return Nothing(certainty=certainty, label=self._rule.answer)
            if carried:
                given = carried[0]
        return None

    def check_golden(self) -> float:
        """Re-run each gate on the golden sample's own inputs. Raises BundleError beyond tolerance."""
        worst = 0.0
        if self._rule is not None:
            golden = load_gate_golden(self._bundle.path("head/gate_golden.npz"), len(self._gates))
            for place, ((_, session), x, odds) in enumerate(zip(self._gates, golden.inputs, golden.odds, strict=True)):
                found = session.run(None, {"x": x})[0]
                tolerance = self._bundle.manifest.golden_tolerance
                worst = max(worst, agree(f"gate {place + 1}", found, odds, tolerance))
        return worst


def _nothing(odds_1: Array) -> float:
    odds = float(odds_1.reshape(-1)[0])
    if odds > 0:
        return math.exp(-odds) / (1 + math.exp(-odds))
    return 1 / (1 + math.exp(odds)) if not math.isnan(odds) else odds
