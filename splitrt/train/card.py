"""A bundle's card: what it is, from which data and recipe, and what was measured. README.md beside the manifest."""

from __future__ import annotations

from pathlib import Path

from splitrt.calibration import Calibration
from splitrt.manifest import Exits
from splitrt.train.recipe import Recipe


def write_card(folder: Path, recipe: Recipe, calibration: Calibration, exits: Exits | None) -> None:
    """Numbers of the calibration split only: scores on test images are a benchmark's to report."""
    rows = [
        f"| {point.width} | {point.bits} | {point.payload_bytes_mean:.0f} | {point.payload_bytes_p95:.0f} "
        f"| {100 * point.accuracy:.1f} |"
        for point in calibration.points
    ]
    lines = [
        f"# {recipe.name} {recipe.version}",
        "",
        _origin(recipe),
        "",
        _seam(recipe),
        *_chain(recipe),
        "",
        f"Measured on the {calibration.images} images of the calibration split, which training did not see; "
        "held-out figures, on test images: `splitrt bench rate`, results under docs/results.",
        "",
        f"- undivided model: {100 * calibration.whole_accuracy:.1f} %",
        *_exits(calibration, exits),
        "",
        f"| width | bits | payload bytes, mean | 95th percentile | {calibration.score} % |",
        "|---|---|---|---|---|",
        *rows,
    ]
    (folder / "README.md").write_text("\n".join(lines) + "\n")


def _origin(recipe: Recipe) -> str:
    if recipe.seam.form == "plain":
        return (
            f"Family `{recipe.family}` with published weights, split without training: the features themselves are "
            "sent. Other photographs than those measured on were looked at for ranges and tables."
        )
    of = f"Family `{recipe.family}`, recipe `{recipe.name}`, data set `{recipe.data}`, seed {recipe.seed}: "
    teacher = "trained from scratch on labels" if recipe.whole else "from published weights"
    method, labels = recipe.bottleneck.method.upper(), "with" if recipe.bottleneck.label_weight else "without"
    course = f"the undivided model {teacher}, a {recipe.seam.form} bottleneck distilled into it by {method} "
    course += f"{labels} labels"
    if recipe.finetune is None:
        return f"{of}{course}."
    tuned = "with labels" if recipe.finetune.label_weight else "without labels"
    return f"{of}{course}, then decoder and tail fine-tuned {tuned}, the encoder frozen."


def _seam(recipe: Recipe) -> str:
    trained = ", ".join(str(bits) for bits in recipe.bottleneck.bits)
    between = [str(bits) for bits in recipe.seam.bits if bits not in recipe.bottleneck.bits]
    if recipe.seam.form == "plain":
        return "Ranges leave out 0.1 % of the values on either side. Coded under frozen integer tables."
    more = f"; {', '.join(between)} by gains between theirs" if between else ""
    return f"Bit depths trained with a rate term: {trained}{more}. Coded under frozen integer tables."


def _chain(recipe: Recipe) -> list[str]:
    if recipe.exits is None:
        return []
    phase = recipe.exits
    sizes = ", ".join(f"{one.blocks} blocks of {one.channels} channels" for one in phase.chain)
    taught = "the undivided model's answers" + (" and labels" if phase.label_weight else ", without labels")
    return [
        "",
        f"Early exits after the stem, each reading what the one before carries on: {sizes}; taught by {taught}.",
    ]


def _exits(calibration: Calibration, exits: Exits | None) -> list[str]:
    curve = calibration.exit
    if curve is None or exits is None:
        return ["- no early exit"]
    each = ", ".join(f"{100 * share:.0f} %" for share in curve.shares)
    return [
        f"- the device's own answer to every frame: {100 * curve.accuracy:.1f} %",
        f"- exits from a confidence ({exits.confidence}) of {exits.threshold:.3f}: {100 * curve.share:.0f} % of frames "
        f"(exit by exit {each}), by which {100 * curve.risk:.1f} % of all frames lose the undivided model's right "
        "answer on these images",
        f"- certified: with probability at least {100 * (1 - curve.delta):g} % over the draw of the calibration "
        f"images, exits lose at most {100 * curve.epsilon:g} % of all frames like them; forced answers are not covered",
    ]
