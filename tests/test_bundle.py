"""Most tests here make a bundle of their own: its graphs are a few bytes, for loading never runs them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from splitrt.bundle import (
    MAX_FILE_BYTES,
    MAX_MANIFEST_BYTES,
    SERVER_ONLY,
    Bundle,
    bundle_folders,
    find_bundle,
    load_bundle,
)
from splitrt.codec.quantise import Ranges
from splitrt.codec.tables import Tables
from splitrt.errors import BundleError, ModelNotFound

GRAPHS = ("head/stem.onnx", "head/encoder_1.onnx", *SERVER_ONLY)
MANIFEST = """schema_version = 1
name = "{name}"
version = "{version}"
family = "mobilenet"
golden_tolerance = 0.002
[pixels]
height = 16
width = 16
mean = [0.5, 0.5, 0.5]
std = [0.25, 0.25, 0.25]
[output]
kind = "classes"
[seam]
widths = [1, 2]
bits = [4, 8]
height = 2
width = 2
[files]
{files}
"""


def tables_of(channels: int, bits: tuple[int, ...] = (4, 8)) -> Tables:
    ranges = Ranges(low_C=np.full(channels, -1, np.float32), high_C=np.full(channels, 1, np.float32))
    return Tables(ranges=dict.fromkeys(bits, ranges), priors={})


def write_bundle(root: Path, name: str = "toy", version: str = "1") -> Path:
    folder = root / f"{name}-{version}"
    (folder / "head").mkdir(parents=True)
    for graph in GRAPHS:
        (folder / graph).write_bytes(f"{graph} of {name}".encode())
    tables_of(channels=2).save(folder / "tables.npz")
    point = {"width": 1, "bits": 4, "payload_bytes_mean": 2, "payload_bytes_p95": 2, "accuracy": 0.5}
    calibration = {"data": "none", "images": 1, "whole_accuracy": 0.5, "points": [point]}
    (folder / "calibration.json").write_text(json.dumps(calibration))
    sign(folder, name, version)
    return folder


def sign(folder: Path, name: str = "toy", version: str = "1", without: str = "") -> None:
    """Write the manifest that the folder's files call for."""
    paths = sorted(path for path in folder.rglob("*.*") if path.name != "manifest.toml")
    lines = [
        f'"{path.relative_to(folder).as_posix()}" = "{hashlib.sha256(path.read_bytes()).hexdigest()}"'
        for path in paths
        if path.relative_to(folder).as_posix() != without
    ]
    (folder / "manifest.toml").write_text(MANIFEST.format(name=name, version=version, files="\n".join(lines)))


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


def test_a_sound_bundle_loads(toy: Path) -> None:
    bundle = load_bundle(toy)
    assert bundle.name == "toy-1"
    assert bundle.has_tail
    assert bundle.digest == hashlib.sha256((toy / "manifest.toml").read_bytes()).digest()
    assert bundle.path("tail.onnx") == toy / "tail.onnx"


def test_the_built_in_bundle_is_sound(photos: Bundle) -> None:
    assert photos.manifest.name == "photos"
    assert photos.has_tail
    assert {(point.width, point.bits) for point in photos.calibration.points} == {
        (width, bits) for width in photos.manifest.seam.widths for bits in photos.manifest.seam.bits
    }


def test_the_built_in_bundle_with_a_gate_ships_only_what_is_its_own(photos: Bundle) -> None:
    town = find_bundle("town")
    assert town.has_tail
    assert town.manifest.gate is not None
    assert town.path("tail.onnx") == photos.path("tail.onnx")
    assert town.manifest.files["head/stem.onnx"] == photos.manifest.files["head/stem.onnx"]
    assert sum(path.stat().st_size for path in town.folder.rglob("*")) < 300_000


def test_a_head_half_loads_and_has_no_tail(toy: Path) -> None:
    whole = load_bundle(toy)
    for file in SERVER_ONLY:
        (toy / file).unlink()
    half = load_bundle(toy)
    assert not half.has_tail
    assert half.digest == whole.digest


def test_the_files_for_a_device_make_a_head_half(toy: Path, tmp_path: Path) -> None:
    whole, device = load_bundle(toy), tmp_path / "device"
    files = whole.head_files()
    assert next(iter(files)) == "manifest.toml"
    assert not set(files) & set(SERVER_ONLY)
    for file in files:
        (device / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(toy / file, device / file)
    assert load_bundle(device).digest == whole.digest


@pytest.fixture
def shared(toy: Path) -> Path:
    """A bundle beside `toy` with a stem of its own and all else of `toy`."""
    folder = toy.with_name("other-2")
    (folder / "head").mkdir(parents=True)
    (folder / "head/stem.onnx").write_bytes(b"another stem")
    old, new = (hashlib.sha256((one / "head/stem.onnx").read_bytes()).hexdigest() for one in (toy, folder))
    text = (toy / "manifest.toml").read_text().replace(old, new).replace('"toy"', '"other"')
    (folder / "manifest.toml").write_text(text.replace('version = "1"', 'version = "2"\nbase = "toy-1"'))
    return folder


def test_what_a_bundle_does_not_hold_itself_is_its_bases(shared: Path, toy: Path, tmp_path: Path) -> None:
    bundle = load_bundle(shared)
    assert bundle.has_tail
    assert bundle.path("head/stem.onnx") == shared / "head/stem.onnx"
    assert bundle.path("tail.onnx") == toy / "tail.onnx"
    bundle.copy(tmp_path / "elsewhere/other-2")
    copied = load_bundle(tmp_path / "elsewhere/other-2")
    assert copied.digest == bundle.digest
    assert copied.path("tail.onnx").parent == copied.folder


def test_a_bundle_whose_base_is_not_beside_it_is_refused(shared: Path, toy: Path) -> None:
    toy.rename(toy.with_name("toy-3"))
    with pytest.raises(BundleError, match="must be a plain file"):
        load_bundle(shared)


def test_a_bases_file_is_held_to_the_bundles_own_digest(shared: Path, toy: Path) -> None:
    (toy / "tail.onnx").write_bytes(b"another tail")
    with pytest.raises(BundleError, match=r"tail\.onnx must have SHA-256"):
        load_bundle(shared)


@pytest.mark.parametrize("base", ["../toy-1", "/toy-1", "toy", "toy-1/head", ""])
def test_a_base_is_the_name_of_a_bundle(shared: Path, base: str) -> None:
    manifest = shared / "manifest.toml"
    manifest.write_text(manifest.read_text().replace('"toy-1"', f'"{base}"'))
    with pytest.raises(BundleError, match="base"):
        load_bundle(shared)


@pytest.mark.parametrize("file", ["head/stem.onnx", "head/encoder_1.onnx", "tables.npz", "calibration.json"])
def test_a_missing_file_is_refused_by_name(toy: Path, file: str) -> None:
    (toy / file).unlink()
    with pytest.raises(BundleError, match=f"{file} must be a plain file"):
        load_bundle(toy)


@pytest.mark.parametrize("file", SERVER_ONLY)
def test_half_a_tail_is_refused(toy: Path, file: str) -> None:
    (toy / file).unlink()
    with pytest.raises(BundleError, match=f"{file} must be a plain file"):
        load_bundle(toy)


@pytest.mark.parametrize("file", [*GRAPHS, "tables.npz", "calibration.json"])
def test_one_flipped_bit_in_any_file_is_refused_by_name(toy: Path, file: str) -> None:
    data = bytearray((toy / file).read_bytes())
    data[len(data) // 2] ^= 1
    (toy / file).write_bytes(data)
    with pytest.raises(BundleError, match=f"{file} must have SHA-256"):
        load_bundle(toy)


def test_another_manifest_is_another_digest(toy: Path) -> None:
    before = load_bundle(toy).digest
    sign(toy, version="2")
    assert load_bundle(toy).digest != before


@pytest.mark.parametrize("file", ["calibration.json", "tables.npz"])
def test_a_manifest_that_does_not_list_what_every_bundle_needs_is_refused(toy: Path, file: str) -> None:
    sign(toy, without=file)
    (toy / file).unlink()
    with pytest.raises(BundleError, match=f"must list {file}"):
        load_bundle(toy)


@pytest.mark.parametrize("name", ["weights.pkl", "head/extra.py", "tail.onnx.data", ".hidden", "deep/er/x.onnx"])
def test_a_file_that_is_not_listed_is_refused(toy: Path, name: str) -> None:
    (toy / name).parent.mkdir(parents=True, exist_ok=True)
    (toy / name).write_bytes(pickle.dumps(os.getcwd))
    with pytest.raises(BundleError, match=f"holds {name}"):
        load_bundle(toy)


def test_a_model_card_may_lie_beside_the_manifest(toy: Path) -> None:
    (toy / "README.md").write_text("# toy")
    assert load_bundle(toy).name == "toy-1"


def link_out(toy: Path, outside: Path) -> None:
    shutil.move(toy / "head/stem.onnx", outside / "stem.onnx")
    (toy / "head/stem.onnx").symlink_to(outside / "stem.onnx")


def link_inside(toy: Path, outside: Path) -> None:
    (toy / "head/stem.onnx").unlink()
    (toy / "head/stem.onnx").symlink_to(toy / "tail.onnx")


def link_folder(toy: Path, outside: Path) -> None:
    shutil.move(toy / "head", outside / "head")
    (toy / "head").symlink_to(outside / "head")


def link_extra_folder(toy: Path, outside: Path) -> None:
    (outside / "payload.pkl").write_bytes(b"")
    (toy / "extra").symlink_to(outside)


def link_manifest(toy: Path, outside: Path) -> None:
    shutil.move(toy / "manifest.toml", outside / "manifest.toml")
    (toy / "manifest.toml").symlink_to(outside / "manifest.toml")


def link_to_nothing(toy: Path, outside: Path) -> None:
    for file in SERVER_ONLY:
        (toy / file).unlink()
    (toy / "tail.onnx").symlink_to(outside / "absent")


def pipe(toy: Path, outside: Path) -> None:
    (toy / "head/stem.onnx").unlink()
    os.mkfifo(toy / "head/stem.onnx")


@pytest.mark.parametrize(
    "disguise", [link_out, link_inside, link_folder, link_extra_folder, link_manifest, link_to_nothing, pipe]
)
@pytest.mark.timeout(10)  # a pipe that is opened waits for ever
def test_what_is_no_plain_file_inside_is_refused(
    toy: Path, tmp_path: Path, disguise: Callable[[Path, Path], None]
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    disguise(toy, outside)
    with pytest.raises(BundleError, match="must be a plain file inside the bundle"):
        load_bundle(toy)


@pytest.mark.parametrize("name", ["../outside.onnx", "head/../../outside.onnx", "/outside.onnx"])
def test_a_name_that_leads_out_is_refused_before_the_file_is_read(toy: Path, name: str) -> None:
    outside = toy.parent / "outside.onnx"
    outside.write_bytes(b"secret")
    digest = hashlib.sha256(b"secret").hexdigest()
    with (toy / "manifest.toml").open("a") as manifest:
        manifest.write(f'"{name}" = "{digest}"\n')
    with pytest.raises(BundleError, match="plain names"):
        load_bundle(toy)


def test_an_oversized_manifest_is_refused_unread(toy: Path) -> None:
    os.truncate(toy / "manifest.toml", MAX_MANIFEST_BYTES + 1)
    with pytest.raises(BundleError, match=f"at most {MAX_MANIFEST_BYTES} bytes"):
        load_bundle(toy)


def test_an_oversized_file_is_refused_unread(toy: Path) -> None:
    os.truncate(toy / "tail.onnx", MAX_FILE_BYTES + 1)  # sparse: takes no room
    with pytest.raises(BundleError, match=rf"tail\.onnx must be at most {MAX_FILE_BYTES} bytes"):
        load_bundle(toy)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        (tables_of(channels=3), r"must have 2 channels at \[4, 8\] bits, got 3 at \[4, 8\]"),
        (tables_of(channels=2, bits=(4,)), r"must have 2 channels at \[4, 8\] bits, got 2 at \[4\]"),
    ],
)
def test_tables_of_another_seam_are_refused(toy: Path, tables: Tables, says: str) -> None:
    tables.save(toy / "tables.npz")
    sign(toy)
    with pytest.raises(BundleError, match=says):
        load_bundle(toy)


def test_tables_may_have_more_depths_than_the_seam(toy: Path) -> None:
    tables_of(channels=2, bits=(2, 4, 8)).save(toy / "tables.npz")
    sign(toy)
    assert sorted(load_bundle(toy).tables.ranges) == [2, 4, 8]


@pytest.mark.parametrize(("key", "value"), [("width", 3), ("bits", 2)])
def test_a_calibrated_point_outside_the_seam_is_refused(toy: Path, key: str, value: int) -> None:
    calibration = json.loads((toy / "calibration.json").read_text())
    calibration["points"][0][key] = value
    (toy / "calibration.json").write_text(json.dumps(calibration))
    sign(toy)
    with pytest.raises(BundleError, match="no point of the seam"):
        load_bundle(toy)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"folder with a manifest\.toml"):
        load_bundle(tmp_path)


def test_a_part_that_is_not_listed_is_named_with_those_that_are(toy: Path) -> None:
    with pytest.raises(BundleError, match=r"has no head/exit\.onnx; it lists .*head/stem\.onnx"):
        load_bundle(toy).path("head/exit.onnx")


def test_a_bundle_is_found_by_name_by_version_and_by_folder(tmp_path: Path) -> None:
    toy = write_bundle(tmp_path)
    wanted = load_bundle(toy).digest
    for name in ("toy", "toy-1", str(toy)):
        assert find_bundle(name, tmp_path).digest == wanted


def test_a_name_without_version_means_the_newest(tmp_path: Path) -> None:
    for version in ("9", "10", "2"):
        write_bundle(tmp_path, version=version)
    assert find_bundle("toy", tmp_path).manifest.version == "10"
    assert find_bundle("toy-9", tmp_path).manifest.version == "9"


def test_a_bundle_of_ones_own_comes_before_the_built_in_one(tmp_path: Path) -> None:
    write_bundle(tmp_path, "photos", "0")
    assert find_bundle("photos", tmp_path).manifest.version == "0"
    assert find_bundle("photos").manifest.version != "0"


def test_every_known_name_is_a_name(tmp_path: Path) -> None:
    write_bundle(tmp_path).rename(tmp_path / "plain")
    assert all(bundle_folders(tmp_path))
    assert find_bundle("plain", tmp_path).name == "toy-1"


@pytest.mark.parametrize("name", ["fotos", "photo", "photos-01"])
def test_a_near_miss_is_answered_with_the_name_that_was_meant(name: str) -> None:
    with pytest.raises(ModelNotFound, match=f"got '{name}'; did you mean 'photos"):
        find_bundle(name)


@pytest.mark.parametrize("name", ["zebra", "", "../..", "/etc", "a\0b"])
def test_a_name_that_is_nobodys_gets_no_hint(name: str) -> None:
    with pytest.raises(ModelNotFound, match="one of photos") as refusal:
        find_bundle(name)
    assert "did you mean" not in str(refusal.value)


def test_no_bundle_says_where_on_a_machine_it_was_made(photos: Bundle, made: Bundle) -> None:
    for bundle in (photos, made):
        for file in bundle.folder.rglob("*.onnx"):
            data = file.read_bytes()
            assert b"site-packages" not in data, file
            assert b".py" not in data, file
