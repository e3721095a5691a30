"""Dependencies point down only. This table is the architecture."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

ROLES = ("splitrt.device", "splitrt.server", "splitrt.train", "splitrt.partition")
TOP = ("splitrt.cli", "splitrt.bench")
FRAMEWORKS = ("torch", "grpc", "ray", "onnxruntime")

BANNED: dict[str, tuple[str, ...]] = {
    "splitrt/codec": (
        *FRAMEWORKS,
        *ROLES,
        *TOP,
        "asyncio",
        "splitrt.rpc",
        "splitrt.policy",
        "splitrt.nn",
        "splitrt.bundle",
    ),
    "splitrt/policy": (*FRAMEWORKS, *ROLES, *TOP, "asyncio", "time", "splitrt.rpc", "splitrt.codec", "splitrt.nn"),
    "splitrt/nn": ("grpc", "ray", *ROLES, *TOP, "asyncio", "splitrt.rpc", "splitrt.codec", "splitrt.policy"),
    "splitrt/language": (
        "grpc",
        "ray",
        "onnxruntime",
        *ROLES,
        *TOP,
        "asyncio",
        "splitrt.rpc",
        "splitrt.policy",
        "splitrt.codec",
        "splitrt.nn",
    ),
    "splitrt/rpc": ("torch", "ray", *ROLES, *TOP, "splitrt.policy", "splitrt.nn"),
    "splitrt/device": (
        "ray",
        "matplotlib",
        "splitrt.server",
        "splitrt.train",
        "splitrt.partition",
        *TOP,
        "tail_models",
    ),
    "splitrt/server": ("matplotlib", "splitrt.device", "splitrt.train", "splitrt.partition", *TOP, "head_models"),
    "splitrt/train": ("grpc", "ray", "splitrt.device", "splitrt.server", "splitrt.rpc", *TOP),
    "splitrt/partition": ("grpc", "ray", "splitrt.device", "splitrt.server", "splitrt.train", "splitrt.rpc", *TOP),
    "splitrt/netem": (*FRAMEWORKS, *ROLES, *TOP, "splitrt.rpc", "splitrt.bundle"),
    "splitrt/top": ("numpy", *FRAMEWORKS, *ROLES, *TOP, "asyncio", "splitrt.rpc", "splitrt.bundle"),
    "splitrt/report": ("numpy", *FRAMEWORKS, *ROLES, *TOP, "asyncio", "splitrt.rpc", "splitrt.bundle"),
    "splitrt/metrics": (
        *FRAMEWORKS,
        *ROLES,
        *TOP,
        "asyncio",
        "splitrt.rpc",
        "splitrt.codec",
        "splitrt.policy",
        "splitrt.nn",
        "splitrt.bundle",
    ),
    "head_models": ("grpc", "ray", "tail_models", *ROLES, *TOP, "splitrt.rpc", "splitrt.codec", "splitrt.policy"),
    "tail_models": ("grpc", "ray", "head_models", *ROLES, *TOP, "splitrt.rpc", "splitrt.codec", "splitrt.policy"),
}
GENERATED = ROOT / "splitrt/rpc/v1"


def sources(folder: str) -> Iterator[Path]:
    """Python files of ours below a folder; generated code is not ours to shape."""
    return (path for path in sorted((ROOT / folder).rglob("*.py")) if GENERATED not in path.parents)


def imported_names(path: Path) -> Iterator[str]:
    """Every module that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_in(name: str, rooms: tuple[str, ...]) -> bool:
    return any(name == room or name.startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize(("folder", "banned"), BANNED.items())
def test_a_room_imports_only_what_lies_below_it(folder: str, banned: tuple[str, ...]) -> None:
    for path in sources(folder):
        for name in imported_names(path):
            assert not is_in(name, banned), f"{path.relative_to(ROOT)} imports {name}"


def test_only_rpc_imports_generated_code() -> None:
    for path in sources("splitrt"):
        if path.parent.name != "rpc":
            assert not any(is_in(one, ("splitrt.rpc.v1",)) for one in imported_names(path)), path


def test_only_config_reads_the_environment() -> None:
    for path in sources("splitrt"):
        if path != ROOT / "splitrt/config/origin.py":
            assert "os.environ" not in path.read_text(), path
            assert "getenv" not in path.read_text(), path


def test_nothing_loads_pickles() -> None:
    for folder in ("splitrt", "head_models", "tail_models"):
        for path in sources(folder):
            text = path.read_text()
            assert not any(
                is_in(name, ("pickle", "dill", "cloudpickle", "marshal")) for name in imported_names(path)
            ), path
            assert "torch.load(" not in text, path
            assert "allow_pickle=True" not in text, path


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("splitrt", ("torch", "ray", "numpy", "grpc", "onnxruntime")),
        ("splitrt.cli", ("torch", "ray", "matplotlib", "grpc", "onnxruntime", "numpy")),
        ("splitrt.device.client", ("torch", "ray", "matplotlib", "skimage", "opentelemetry")),
        ("splitrt.device.sync", ("torch", "ray", "matplotlib", "skimage", "opentelemetry")),
        ("splitrt.device.generation", ("ray", "matplotlib", "onnxruntime", "transformers")),
        ("splitrt.server.serve", ("torch", "ray", "matplotlib", "skimage", "opentelemetry")),
        ("splitrt.bench.demo", ("torch", "ray")),
    ],
)
def test_it_imports_where_these_are_not_installed(module: str, blocked: tuple[str, ...]) -> None:
    program = (
        "import sys\n"
        "class Blocked:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {blocked!r}:\n"
        "            raise ImportError(f'{name} is blocked')\n"
        "sys.meta_path.insert(0, Blocked())\n"
        f"import {module}\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
