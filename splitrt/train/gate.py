"""A gate's certificate, and a gate put before a bundle that has none.

Shape letters: N samples.
The threshold is certified (splitrt.policy.guarantee) on positives that training has not seen: a stopped one is a loss.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from splitrt.bundle import built_in_folder, digests, load_bundle
from splitrt.calibration import GatePoint, GateRecord, write_calibration
from splitrt.errors import CalibrationRefused, ConfigError
from splitrt.golden import GateGolden
from splitrt.manifest import Gate, write_manifest
from splitrt.nn.onnx import export_onnx
from splitrt.policy.guarantee import GRID_L, certify

Float32 = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
CURVE = (
    0.5,
    0.8,
    0.9,
    0.95,
    0.98,
    0.99,
    0.995,
    1.0,
)  # kept shares of positives at which the record says what is stopped


def certified(
    odds_N: Float32, is_positive_N: Bool, recall: float, delta: float, digest: str, stops: float | None = None
) -> tuple[float, GateRecord]:
    """The lowest threshold on P(nothing) that keeps at least `recall` of positives with probability 1 - delta, and the
    record that a bundle holds of it. odds_N: the row's, the smallest where there are several gates.
    stops: as in `raised`.

    Raises CalibrationRefused where there are too few positives, with the number needed: none at all is too few.
    """
    odds_N = np.where(np.isnan(odds_N), np.inf, odds_N)  # NaN stops nothing
    nothing_N = np.exp(-np.logaddexp(0, odds_N.astype(np.float64)))
    positives, negatives = nothing_N[is_positive_N], nothing_N[~is_positive_N]
    found = certify(positives, np.ones(len(positives), np.bool_), 1 - recall, delta)
    threshold = raised(found.threshold, negatives, stops) if stops is not None else found.threshold
    curve = []
    for kept in CURVE:
        limit = float(np.quantile(positives, kept, method="inverted_cdf"))
        stopped = float((negatives > limit).mean()) if len(negatives) else None
        curve.append(GatePoint(kept=kept, stopped=stopped))
    record = GateRecord(
        recall=recall,
        delta=delta,
        positives=len(positives),
        lost=int((positives >= threshold).sum()),
        negatives=len(negatives),
        stopped=int((negatives >= threshold).sum()),
        digest=digest,
        curve=tuple(curve),
    )
    return threshold, record


def raised(floor: float, negatives_N: npt.NDArray[np.float64], stops: float) -> float:
    """The highest threshold of the grid, not below the certified floor, that still stops `stops` of the negatives.
    negatives_N: their P(nothing). A higher threshold loses none that a lower one keeps, so the certificate holds.
    """
    shares_L = (negatives_N[:, None] >= GRID_L).mean(0) if len(negatives_N) else np.zeros(len(GRID_L))
    enough_L = GRID_L[shares_L >= stops]
    return max(floor, float(enough_L.max())) if len(enough_L) else floor


def split_digest(samples: Sequence[npt.NDArray[np.generic]]) -> str:
    """SHA-256 over those of a split's samples, whatever their order."""
    return hashlib.sha256(b"".join(sorted(_digests(samples)))).hexdigest()


def check_apart(train: Sequence[npt.NDArray[np.generic]], calibrate: Sequence[npt.NDArray[np.generic]]) -> None:
    """Raises CalibrationRefused where a sample of one split is in the other."""
    shared = len(set(_digests(train)) & set(_digests(calibrate)))
    if shared:
        raise CalibrationRefused(
            f"a gate is certified on samples that training has not seen, {shared} of {len(calibrate)} are among them"
        )


def attach(
    folder: Path, out: Path, rule: Gate, record: GateRecord, graphs: Sequence[nn.Module], inputs: Sequence[Tensor]
) -> Path:
    """The bundle in `folder` with this row of gates, as a new bundle `out`. inputs: of a frame, what each gate reads.
    A graph gives odds, one whose successor reads what it carries on odds and that.
    Between bundles that ship with splitrt the new one shares the old one's files.

    Raises ConfigError where `out` exists or the bundle has gates already.
    """
    bundle = load_bundle(folder)
    if out.exists():
        raise ConfigError(f"{out.name} must not exist already in {out.parent}")
    if bundle.manifest.gate is not None:
        raise ConfigError(f"bundle {bundle.name} has a gate already")
    fresh = out.with_name(f".{out.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    is_shared = folder.parent.resolve() == out.parent.resolve() == built_in_folder().resolve()
    if is_shared:
        (fresh / "head").mkdir(parents=True)
    else:
        bundle.copy(fresh)
    odds = []
    for k, (graph, x) in enumerate(zip(graphs, inputs, strict=True), start=1):
        graph.eval()
        carries = rule.carries(k - 1)
        with torch.no_grad():
            odds.append((graph(x)[0] if carries else graph(x)).numpy())
        export_onnx(graph, (x,), fresh / f"head/gate_{k}.onnx", ["x"], ["odds", "carried"] if carries else ["odds"])
    GateGolden(inputs=tuple(x.numpy() for x in inputs), odds=tuple(odds)).save(fresh / "head/gate_golden.npz")
    calibration = bundle.calibration.model_copy(update={"gate": record})
    (fresh / "calibration.json").write_bytes(write_calibration(calibration))
    name, _, version = out.name.rpartition("-")
    changes = {
        "name": name,
        "version": version,
        "base": folder.name if is_shared else None,
        "gate": rule,
        "files": bundle.manifest.files | digests(fresh),
    }
    (fresh / "manifest.toml").write_bytes(write_manifest(bundle.manifest.model_copy(update=changes)))
    behind = (folder / "README.md").read_text() if (folder / "README.md").is_file() else f"# {bundle.name}\n"
    (fresh / "README.md").write_text(f"{_card(name, version, rule, record)}\nBehind the gate:\n\n{behind}")
    fresh.rename(out)
    return out


def _card(name: str, version: str, rule: Gate, record: GateRecord) -> str:
    others = "There were no negatives in the same split."
    if record.negatives:
        others = f"It stopped {100 * record.stopped / record.negatives:.1f} % of {record.negatives} negatives there."
    through, sure, kept = ", ".join(rule.positives) or "positives", 1 - record.delta, 100 * record.recall
    return (
        f"# {name} {version}\n\nIts gate lets through: {through}. "
        f"With probability {sure:g} it keeps at least {kept:g} % of them: "
        f"certified on {record.positives} positives, of which it stops {record.lost}. {others}\n"
    )


def _digests(samples: Sequence[npt.NDArray[np.generic]]) -> list[bytes]:
    return [hashlib.sha256(np.ascontiguousarray(one).tobytes()).digest() for one in samples]
