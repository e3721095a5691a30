"""Boxes after the network: suppression of doubles, and how well found boxes match true ones.

Shape letters: K candidates, N kept, L boxes of one class, T true boxes, R recalls. A candidate's row is x1, y1, x2, y2,
score, class; a true box's x1, y1, x2, y2, class. Coordinates are shares of the frame; a box inside out has no area.
Average precision: Everingham et al., IJCV 2010, in the 101-point form of COCO, Lin et al., ECCV 2014, arXiv:1405.0312.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.errors import InvalidInput

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float64]

RECALLS = np.linspace(0, 1, 101)
SURE = 0.3  # score from which a reference's detection counts as true


def nms(candidates_K6: Array, iou: float, min_score: float) -> Array:
    """What is left, best first: of two boxes of a class that overlap by more than `iou`, the better.

    Raises InvalidInput on another shape and on values that are not finite.
    """
    _check("candidates", candidates_K6, 6)
    kept_K6 = candidates_K6[candidates_K6[:, 4] >= min_score]
    kept_K6 = kept_K6[np.argsort(-kept_K6[:, 4], kind="stable")]
    is_kept_K = np.ones(len(kept_K6), bool)
    for best, row_6 in enumerate(kept_K6):
        if is_kept_K[best]:
            later_L6 = kept_K6[best + 1 :]
            is_double_L = (later_L6[:, 5] == row_6[5]) & (overlap(row_6[:4], later_L6[:, :4]) > iou)
            is_kept_K[best + 1 :] &= ~is_double_L
    return kept_K6[is_kept_K]


def average_precision(found: Sequence[Array], truth: Sequence[Array], iou: float = 0.5) -> float:
    """Mean over the classes that occur in `truth`, 0 to 1. One array a frame: found (N, 6), true (T, 5).

    A true box is matched once, by the surest detection that overlaps it by `iou` or more.
    Raises InvalidInput where `truth` holds no box at all: the mean of nothing.
    """
    if len(found) != len(truth):
        raise InvalidInput(f"found and truth must have as many frames, got {len(found)} and {len(truth)}")
    for found_N6, true_T5 in zip(found, truth, strict=True):
        _check("found boxes", found_N6, 6)
        _check("true boxes", true_T5, 5)
    classes = sorted({float(number) for true_T5 in truth for number in true_T5[:, 4]})
    if not classes:
        raise InvalidInput(f"truth must hold a box in one frame or more, got none in {len(truth)}")
    return float(np.mean([_of_class(number, found, truth, iou) for number in classes]))


def agreement(found: Sequence[Array], reference: Sequence[Array], min_score: float = SURE) -> float:
    """Average precision at an overlap of 0.5, with what the reference is sure of (score >= min_score) as truth.

    Both as `nms` keeps them; `found` with a low score too, or its curve is cut short.
    """
    for reference_N6 in reference:
        _check("reference boxes", reference_N6, 6)
    sure = [reference_N6[reference_N6[:, 4] >= min_score] for reference_N6 in reference]
    return average_precision(found, [sure_N6[:, [0, 1, 2, 3, 5]] for sure_N6 in sure])


def overlap(box_4: Array, boxes_L4: Array) -> Float:
    """Intersection over union of one box with each of others, overlap_L; 0 where neither has an area."""
    # In float64: the products of a hostile float32 do not overflow.
    one_4, boxes_L4 = box_4.astype(np.float64), boxes_L4.astype(np.float64)
    shared_L = _area(
        np.maximum(one_4[0], boxes_L4[:, 0]),
        np.maximum(one_4[1], boxes_L4[:, 1]),
        np.minimum(one_4[2], boxes_L4[:, 2]),
        np.minimum(one_4[3], boxes_L4[:, 3]),
    )
    union_L = _area(*one_4) + _area(*boxes_L4.T) - shared_L
    return np.divide(shared_L, union_L, out=np.zeros_like(shared_L), where=union_L > 0)


def _area(x1: Float, y1: Float, x2: Float, y2: Float) -> Float:
    area: Float = np.maximum(x2 - x1, 0) * np.maximum(y2 - y1, 0)
    return area


def _of_class(number: float, found: Sequence[Array], truth: Sequence[Array], iou: float) -> float:
    scores: list[float] = []
    is_hit: list[bool] = []
    for found_N6, true_T5 in zip(found, truth, strict=True):
        own_L6 = found_N6[found_N6[:, 5] == number]
        own_L6 = own_L6[np.argsort(-own_L6[:, 4], kind="stable")]
        scores.extend(own_L6[:, 4])
        is_hit.extend(_hits(own_L6, true_T5[true_T5[:, 4] == number], iou))
    wanted = sum(int((true_T5[:, 4] == number).sum()) for true_T5 in truth)
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits_L = np.cumsum(np.asarray(is_hit, np.float64)[order])
    precision_L = hits_L / np.arange(1, len(hits_L) + 1)
    # Precision at a recall is the best at that recall or a higher one; past the last hit there is none.
    envelope_L = np.maximum.accumulate(precision_L[::-1])[::-1]
    at_R = np.searchsorted(hits_L / wanted, RECALLS, side="left")
    return float(np.append(envelope_L, 0.0)[at_R].mean())


def _hits(own_L6: Array, true_T5: Array, iou: float) -> list[bool]:
    """Of boxes of one class in one frame, surest first: whether each meets a true box that none before it met."""
    is_free_T = np.ones(len(true_T5), bool)
    hits = []
    for row_6 in own_L6:
        overlap_T = np.where(is_free_T, overlap(row_6[:4], true_T5[:, :4]), -1.0)
        best = int(overlap_T.argmax()) if len(overlap_T) else None
        is_hit = best is not None and bool(overlap_T[best] >= iou)
        if best is not None and is_hit:
            is_free_T[best] = False
        hits.append(is_hit)
    return hits


def _check(name: str, rows: Array, columns: int) -> None:
    if rows.ndim != 2 or rows.shape[1] != columns:
        raise InvalidInput(f"{name} must have shape (N, {columns}), got {rows.shape}")
    if not np.isfinite(rows).all():
        raise InvalidInput(f"{name} must be finite, got NaN or infinity among {rows.shape}")
