"""A bundle on disk: find it, check every byte of it, hand out its parts.

    name-version/
      manifest.toml        everything declared; its SHA-256 names the bundle
      head/<stage>.onnx    stem, exit_1 .. exit_E, encoder_1 .. encoder_G
      head.safetensors     the same weights for the torch runner
      tables.npz  calibration.json  golden.npz
      tail.onnx  tail.safetensors  whole.onnx          server side: they never leave it

    of a captured network, cut in two: head/graph.onnx  .json  .safetensors  tail.onnx  .json  .safetensors

A bundle that ships beside another may hold only what is its own (`base` in its manifest): files that are not in its
folder are then those of that folder, under the digests of its own manifest. A device is sent all of them.

Nothing here is executable. A file that is not listed, not a plain file or not what its digest says
refuses the whole bundle.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from splitrt.calibration import Calibration, parse_calibration
from splitrt.codec.parts import EXACT
from splitrt.codec.tables import Tables, load_tables
from splitrt.errors import BundleError, ConfigError, ModelNotFound
from splitrt.manifest import NAME, VERSION, Manifest, parse_manifest

READ_AT_ONCE = ("tables.npz", "calibration.json")
SERVER_ONLY = ("tail.onnx", "tail.json", "tail.safetensors", "tail_made.safetensors", "whole.onnx")
MAX_FILE_BYTES = 2 << 30
MAX_MANIFEST_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A checked bundle: head half or whole."""

    folder: Path
    manifest: Manifest
    digest: bytes
    tables: Tables
    calibration: Calibration

    @property
    def name(self) -> str:
        return f"{self.manifest.name}-{self.manifest.version}"

    @property
    def has_tail(self) -> bool:
        return any(_home(self.folder, self.manifest, file).is_file() for file in ("tail.onnx", "tail.json"))

    def path(self, file: str) -> Path:
        """A listed file of this bundle. Raises BundleError where the manifest does not list it."""
        if file not in self.manifest.files:
            raise BundleError(f"bundle {self.name} has no {file}; it lists {', '.join(sorted(self.manifest.files))}")
        return _home(self.folder, self.manifest, file)

    def head_files(self) -> dict[str, Path]:
        """What a device may fetch and where it lies, the manifest first."""
        listed = (file for file in sorted(self.manifest.files) if file not in SERVER_ONLY)
        return {"manifest.toml": self.folder / "manifest.toml"} | {file: self.path(file) for file in listed}

    def copy(self, folder: Path) -> None:
        """Everything of it that is here, the card included, into a new folder, which so needs no base."""
        shutil.copytree(self.folder, folder)
        for file in self.manifest.files:
            if not (folder / file).exists() and (path := self.path(file)).is_file():
                (folder / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, folder / file)


def load_bundle(folder: Path) -> Bundle:
    """Read and check a bundle. Raises BundleError naming the file, what was given and what was wanted."""
    manifest_path = folder / "manifest.toml"
    if not manifest_path.is_file():
        raise BundleError(f"a bundle must be a folder with a manifest.toml, got {folder}")
    if manifest_path.stat().st_size > MAX_MANIFEST_BYTES:
        raise BundleError(f"manifest.toml must be at most {MAX_MANIFEST_BYTES} bytes")
    data = manifest_path.read_bytes()
    manifest = parse_manifest(data)
    has_tail = any(_home(folder, manifest, file).exists() for file in SERVER_ONLY)
    for file, wanted in manifest.files.items():
        if file in SERVER_ONLY and not has_tail:
            continue
        check_file(_owner(folder, manifest, file), file, wanted)
    _check_nothing_else(folder, manifest)
    for file in READ_AT_ONCE:
        if file not in manifest.files:
            raise BundleError(f"manifest.toml must list {file}")
    tables = load_tables(_home(folder, manifest, "tables.npz"))
    if tables.channels != manifest.seam.channels or not set(manifest.seam.bits) - {EXACT} <= set(tables.ranges):
        raise BundleError(
            f"tables.npz must have {manifest.seam.channels} channels at {list(manifest.seam.bits)} bits, "
            f"got {tables.channels} at {sorted(tables.ranges)}"
        )
    calibration = parse_calibration(_home(folder, manifest, "calibration.json").read_bytes())
    for point in calibration.points:
        if point.width not in manifest.seam.widths or point.bits not in manifest.seam.bits:
            raise BundleError(f"calibration.json: width {point.width} with {point.bits} bits is no point of the seam")
    return Bundle(
        folder=folder,
        manifest=manifest,
        digest=hashlib.sha256(data).digest(),
        tables=tables,
        calibration=calibration,
    )


def _owner(folder: Path, manifest: Manifest, file: str) -> Path:
    """The folder that a file is taken from: the bundle's own, its base's only where it is not there."""
    if manifest.base is None or os.path.lexists(folder / file):
        return folder
    return folder.with_name(manifest.base)


def _home(folder: Path, manifest: Manifest, file: str) -> Path:
    return _owner(folder, manifest, file) / file


def check_file(folder: Path, file: str, wanted: str) -> None:
    """One listed file against its digest."""
    path = folder / file
    if path.is_symlink() or not path.is_file() or folder.resolve() not in path.resolve().parents:
        raise BundleError(f"{file} must be a plain file inside the bundle")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise BundleError(f"{file} must be at most {MAX_FILE_BYTES} bytes, got {path.stat().st_size}")
    with path.open("rb") as stream:
        given = hashlib.file_digest(stream, "sha256").hexdigest()
    if given != wanted:
        raise BundleError(f"{file} must have SHA-256 {wanted[:16]}.., got {given[:16]}..")


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file that the manifest of a bundle in the making lists; all become readable to everybody."""
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "README.md")
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
        if path.name != "manifest.toml"
    }


def _check_nothing_else(folder: Path, manifest: Manifest) -> None:
    allowed = {"manifest.toml", "README.md", *manifest.files}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            raise BundleError(f"{name} must be a plain file inside the bundle, got a link")
        if not path.is_dir() and name not in allowed:
            raise BundleError(f"bundle {manifest.name} holds {name}, which its manifest does not list")


def built_in_folder() -> Path:
    """Where the bundles that ship with splitrt lie."""
    return Path(str(files("splitrt") / "bundles"))


def bundle_folders(extra: Path | None = None) -> dict[str, Path]:
    """Every bundle by `name-version` and, for its newest version, by `name`; `extra` before the built-in ones."""
    found: dict[str, Path] = {}
    for root in filter(None, (extra, built_in_folder())):
        folders = [path.parent for path in root.glob("*/manifest.toml")]
        for folder in sorted(folders, key=lambda folder: by_version(folder.name), reverse=True):
            name, _, _ = folder.name.rpartition("-")
            found.setdefault(folder.name, folder)
            found.setdefault(name or folder.name, folder)
    return found


def new_folder(out: Path, name: str, version: str) -> Path:
    """Where a bundle is to be made. Raises ConfigError on a name that is none, and where there is one already."""
    if not NAME.fullmatch(name) or not VERSION.fullmatch(version):
        raise ConfigError(
            f"a bundle must have a name like {NAME.pattern} and a version like {VERSION.pattern}, "
            f"got {name!r} and {version!r}"
        )
    folder = out / f"{name}-{version}"
    if folder.exists():
        raise ConfigError(f"--out must not hold {folder.name} already, got {out}")
    return folder


def by_version(name: str) -> list[tuple[int, str]]:
    """A key under which version 10 comes after version 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)]


def find_bundle(name: str, extra: Path | None = None) -> Bundle:
    """A bundle by name, by name-version or by its folder's path. Raises ModelNotFound or BundleError."""
    if (Path(name) / "manifest.toml").is_file():
        return load_bundle(Path(name))
    known = bundle_folders(extra)
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ModelNotFound(
            f"bundle must be a folder or one of {', '.join(sorted(known)) or 'none'}, got {name!r}{hint}"
        )
    return load_bundle(known[name])
