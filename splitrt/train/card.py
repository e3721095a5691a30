"""A bundle's card: what it is, from which data and recipe, and what was measured. README.md beside the manifest."""

from __future__ import annotations

from pathlib import Path

from splitrt.calibration import Calibration
from splitrt.manifest import Exit
from splitrt.train.recipe import Recipe


def write_card(folder: Path, recipe: Recipe, calibration: Calibration, exit_rule: Exit) -> None:
    """Numbers of the calibration split only: accuracy on test images is a benchmark's to report."""
    rows = [
        f"| {point.width} | {point.bits} | {point.payload_bytes_mean:.0f} | {point.payload_bytes_p95:.0f} "
        f"| {100 * point.accuracy:.1f} |"
        for point in calibration.points
    ]
    curve = calibration.exit
    at = "never" if curve is None or curve.accuracy_at_threshold is None else (
        f"{100 * curve.share_at_threshold:.0f} % of frames, {100 * curve.accuracy_at_threshold:.1f} % of them right"
    )  # fmt: skip
    lines = [
        f"# {recipe.name} {recipe.version}",
        "",
        f"Family `{recipe.family}`, trained from scratch by `recipes/{recipe.name}.toml` on the data set "
        f"`{recipe.data}`, seed {recipe.seed}.",
        "",
        f"Measured on the {calibration.images} images of the calibration split, which training did not see. The "
        "exit's temperature and threshold were chosen on them, so its line at the threshold flatters it. Held-out "
        "figures, on test images: `splitrt bench rate`, results under docs/results.",
        "",
        f"- undivided model: {100 * calibration.whole_accuracy:.1f} %",
        f"- early exit alone: {100 * curve.accuracy:.1f} %" if curve else "- no early exit",
        f"- exit at its threshold {exit_rule.threshold:.3f} (temperature {exit_rule.temperature:.2f}): {at}",
        "",
        "| width | bits | payload bytes, mean | 95th percentile | accuracy % |",
        "|---|---|---|---|---|",
        *rows,
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n")
