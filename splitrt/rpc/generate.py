"""Regenerate the committed protobuf code: `python -m splitrt.rpc.generate [OUT]` (needs grpcio-tools).

`protos/` repeats the package's path, so the generated imports need no patching.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def generate(out: Path) -> None:
    """Write NAME_pb2.py, NAME_pb2.pyi and NAME_pb2_grpc.py of each file under `out`/splitrt/rpc/v1."""
    from grpc_tools import protoc

    protos = sorted(str(path) for path in (ROOT / "protos/splitrt/rpc/v1").glob("*.proto"))
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        *protos,
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"protoc must succeed on {protos}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
