"""The committed protobuf code is what protos/ gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from splitrt.rpc.generate import ROOT, generate

COMMITTED = ROOT / "splitrt" / "rpc" / "v1"


def test_the_committed_code_is_what_the_proto_gives(tmp_path: Path) -> None:
    pytest.importorskip("grpc_tools", reason="needs grpcio-tools, of the dev extra")
    generate(tmp_path)
    fresh = tmp_path / "splitrt" / "rpc" / "v1"
    names = sorted(path.name for path in fresh.iterdir())
    made = [f"{proto}_pb2{end}" for proto in ("speculate", "split", "tails") for end in (".py", ".pyi", "_grpc.py")]
    assert names == sorted(made)
    for name in names:
        assert (COMMITTED / name).read_bytes() == (fresh / name).read_bytes(), f"{name}: run splitrt.rpc.generate"
