"""The same bundle without its gates, for what is compared with it, and the answers that a gate's task asks for."""

from __future__ import annotations

from pathlib import Path

from splitrt.bundle import Bundle, digests, load_bundle
from splitrt.manifest import Gate, write_manifest


def without_gate(bundle: Bundle, folder: Path) -> Bundle:
    """A copy in `folder`, named `..-ungated`; all else is as it was, byte for byte."""
    out = folder / f"{bundle.manifest.name}-ungated-{bundle.manifest.version}"
    bundle.copy(out)
    for path in out.glob("head/gate_*"):
        path.unlink()
    changes = {"name": f"{bundle.manifest.name}-ungated", "base": None, "gate": None, "files": digests(out)}
    (out / "manifest.toml").write_bytes(write_manifest(bundle.manifest.model_copy(update=changes)))
    return load_bundle(out)


def as_asked(gate: Gate | None, label: str | None) -> str | None:
    """What an answer says to whoever put the gate there: all but its positives are nothing, who ever said it."""
    if gate is None or label is None or not gate.positives or label in gate.positives:
        return label
    return gate.answer
