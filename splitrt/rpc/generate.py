"""Regenerate the committed protobuf code: `python -m splitrt.rpc.generate [OUT]` (needs grpcio-tools).

`protos/` repeats the package's path, so the generated imports need no patching.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def generate(out: Path) -> None:
    """Write split_pb2.py, split_pb2.pyi and split_pb2_grpc.py under `out`/splitrt/rpc/v1."""
    from grpc_tools import protoc

    proto = "protos/splitrt/rpc/v1/split.proto"
    arguments = [
        "protoc",
        f"-I{ROOT / 'protos'}",
        f"--python_out={out}",
        f"--pyi_out={out}",
        f"--grpc_python_out={out}",
        str(ROOT / proto),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit(f"protoc must succeed on {proto}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
