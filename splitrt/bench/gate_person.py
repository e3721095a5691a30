"""The filter before FastestDet: photographs without a person are dropped before the encoder.

Shape letters: N photographs, K candidates.
It learns the detector's own verdicts on photographs without labels, is certified against those verdicts on others of
them, and is judged on the 128 labelled COCO photographs: by their labels (a person covers at least half a per cent of
the photograph, as in Visual Wake Words), and by the detector's verdicts on them. 128 photographs say little: the
intervals stand beside. COCO is not what it was calibrated on, so the certificate does not reach there.
"""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from splitrt.bench.gate import bytes_saved, cpu_ms, interval, judged
from splitrt.bench.made import Silent
from splitrt.bundle import Bundle, load_bundle
from splitrt.codec import pixels
from splitrt.detections import average_precision, nms
from splitrt.errors import ConfigError
from splitrt.manifest import Pixels
from splitrt.onnx_session import open_session
from splitrt.train.data import class_names, read_split
from splitrt.train.eyes import Eyes
from splitrt.train.filter import FilterPhase, FilterRecipe, make_filter
from splitrt.train.plain import plain_recipe, split_plain

PERSON = "person"
COCO = "coco_fastestdet"
NATIVE = Pixels(height=352, width=352, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), fit="stretch")
BITS = (4,)
FAINT = 0.01
SAMPLES = 40
Array = npt.NDArray[Any]


def measure_person(data: Path, quick: bool) -> dict[str, Any]:
    """The task's row."""
    with tempfile.TemporaryDirectory() as scratch:
        plain = _detector(data, Path(scratch))
        recipe = recipe_of(str(plain))
        return _judge(load_bundle(make_filter(recipe, data, Path(scratch), Silent())), data)


def recipe_of(bundle: str) -> FilterRecipe:
    return FilterRecipe(
        name="person_filter",
        version="1",
        bundle=bundle,
        data="unlabelled",
        positives=(PERSON,),
        answer="nobody",
        gate=FilterPhase(epochs=15, width=32, recall=0.99, delta=0.1),
    )


def _detector(data: Path, scratch: Path) -> Path:
    """FastestDet from its published weights, split without training after its first stage."""
    recipe = plain_recipe("fastestdet", "fastestdet", {}, BITS)
    frames = list(read_split(data, "photographs", "tune", NATIVE).frames_BHWC[:SAMPLES])
    labels = class_names(data / COCO / "classes.txt")
    return split_plain(recipe, data / COCO / "fastestdet_352.safetensors", frames, labels, scratch, Silent())


def _judge(bundle: Bundle, data: Path) -> dict[str, Any]:
    rule, record, output = bundle.manifest.gate, bundle.calibration.gate, bundle.manifest.output
    assert rule is not None
    assert record is not None
    names, is_person_N, truth = _labelled(data)
    eyes, gate = Eyes(bundle, (PERSON,)), open_session(bundle.path("head/gate_1.onnx"))
    whole = open_session(bundle.path("whole.onnx"))
    person, odds, verdicts, found = output.labels.index(PERSON), [], [], []
    for name in names:
        frame_HWC = pixels.from_jpeg((data / COCO / "images" / name).read_bytes())
        odds.append(float(gate.run(None, {"x": eyes.features(frame_HWC)})[0][0]))
        verdicts.append(bool(eyes.verdict(frame_HWC)))
        fitted = pixels.fit(frame_HWC, 352, 352, "stretch")
        x_1CHW = pixels.normalise(fitted, NATIVE.mean, NATIVE.std)[None]
        candidates_N6 = nms(whole.run(None, {"frame": x_1CHW})[0][0], output.nms_iou, FAINT)
        found.append(candidates_N6[candidates_N6[:, 5] == person])
    odds_N, verdicts_N = np.array(odds), np.array(verdicts)
    by_labels, by_verdicts = judged(odds_N, is_person_N, rule.threshold), judged(odds_N, verdicts_N, rule.threshold)
    passes_N = np.exp(-np.logaddexp(0, odds_N)) < rule.threshold
    gated = [one if passes else one[:0] for one, passes in zip(found, passes_N, strict=True)]
    open_ap, gated_ap = average_precision(found, truth), average_precision(gated, truth)
    times = cpu_ms({"gate": (gate, {"x": eyes.features(frame_HWC)}), "whole": (whole, {"frame": x_1CHW})})
    return {
        "task": "person",
        **by_labels,
        "positives_kept_by_verdict": by_verdicts["positives_kept"],
        "positives_kept_by_verdict_interval_95": by_verdicts["positives_kept_interval_95"],
        "negatives_stopped_by_verdict": by_verdicts["negatives_stopped"],
        "negatives_stopped_by_verdict_interval_95": by_verdicts["negatives_stopped_interval_95"],
        "detector_finds_them": interval(int((verdicts_N & is_person_N).sum()), int(is_person_N.sum())),
        "certified_recall": record.recall,
        "delta": record.delta,
        "calibration_positives": record.positives,
        "calibration_stopped": record.stopped / record.negatives if record.negatives else None,
        "activation_kept": None,  # what is let through is not compressed here
        "accuracy_change_pt": 100 * (gated_ap - open_ap),  # average precision of persons
        "average_precision_open": open_ap,
        "bytes_saved_gate": bytes_saved(by_labels["positives_kept"], by_labels["negatives_stopped"], 1, 1),
        "bytes_saved_all": None,
        **times,
        "gates_share_of_whole": times["gate_ms"] / times["whole_ms"],
    }


def _labelled(data: Path) -> tuple[list[str], npt.NDArray[np.bool_], list[Array]]:
    """COCO's photographs: names, whether a person is there, and the persons' boxes (T, 5). Raises ConfigError."""
    images, boxes = data / COCO / "images.csv", data / COCO / "boxes.csv"
    if not images.is_file():
        raise ConfigError(f"labelled photographs must be listed at {images}")
    with images.open() as lines:
        rows = list(csv.DictReader(lines))
    with boxes.open() as lines:
        persons = [row for row in csv.DictReader(lines) if row["class_id"] == "0"]
    truth = [
        np.array([[*(float(one[key]) for key in ("x1", "y1", "x2", "y2")), 0.0] for one in persons
                  if one["file"] == row["file"]]).reshape(-1, 5)
        for row in rows
    ]  # fmt: skip
    return [row["file"] for row in rows], np.array([row["person_vww"] == "1" for row in rows]), truth
