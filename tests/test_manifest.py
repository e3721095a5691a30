from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitrt.errors import BundleError
from splitrt.manifest import Exit, Exits, Manifest, Output, Pixels, Seam, parse_manifest, write_manifest

DIGEST = "0f" * 32
POSITIVE = st.floats(1e-30, 1e30)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
ARGUMENTS = st.dictionaries(
    TEXT, st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT
)
relaxed = settings(deadline=None, max_examples=60)


def three(values: st.SearchStrategy[float]) -> st.SearchStrategy[tuple[float, float, float]]:
    return st.tuples(values, values, values)


MANIFESTS = st.builds(
    Manifest,
    schema_version=st.just(1),
    name=st.from_regex(r"\A[a-z][a-z0-9_-]{0,9}\Z"),
    version=st.from_regex(r"\A[0-9A-Za-z.]{1,9}\Z"),
    family=st.from_regex(r"\A[a-z][a-z0-9_]{0,9}\Z"),
    head_arguments=ARGUMENTS,
    tail_arguments=ARGUMENTS,
    pixels=st.builds(
        Pixels,
        height=st.integers(8, 4096),
        width=st.integers(8, 4096),
        mean=three(st.floats(-1e30, 1e30)),
        std=three(POSITIVE),
        fit=st.sampled_from(["cover", "stretch"]),
    ),
    output=st.builds(
        Output,
        kind=st.sampled_from(["classes", "boxes", "tensor"]),
        labels=st.lists(TEXT, max_size=4).map(tuple),
        nms_iou=st.floats(0, 1),
        min_score=st.floats(0, 1),
    ),
    seam=st.builds(
        Seam,
        widths=st.sets(st.integers(1, 4096), min_size=1, max_size=16).map(lambda widths: tuple(sorted(widths))),
        bits=st.sets(st.integers(1, 8), min_size=1).map(lambda bits: tuple(sorted(bits))),
        height=st.integers(1, 1024),
        width=st.integers(1, 1024),
        sum_channels=st.none() | st.integers(1, 4096),
    ),
    bottleneck=st.none() | st.dictionaries(st.sampled_from(["hidden", "decoder_hidden"]), st.integers(1, 999)),
    exits=st.none()
    | st.builds(
        Exits,
        threshold=st.floats(0, 1.01),
        classes=st.integers(1, 1000),
        confidence=st.sampled_from(["top1", "entropy", "margin"]),
        chain=st.lists(
            st.builds(Exit, temperature=POSITIVE, channels=st.integers(1, 1024), blocks=st.integers(1, 16)),
            min_size=1,
            max_size=8,
        ).map(tuple),
    ),
    golden_tolerance=POSITIVE,
    files=st.dictionaries(st.sampled_from(["tail.onnx", "head/stem.onnx", "tables.npz"]), st.just(DIGEST)),
)


def table(**changes: Any) -> dict[str, Any]:
    """A sound manifest's values with some replaced; dots name nested keys."""
    values: dict[str, Any] = {
        "schema_version": 1,
        "name": "photos",
        "version": "1",
        "family": "mobilenet",
        "golden_tolerance": 0.002,
        "pixels": {"height": 128, "width": 128, "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
        "output": {"kind": "classes", "labels": ["sea", "street"]},
        "seam": {"widths": [1, 2, 4], "bits": [2, 8], "height": 16, "width": 16},
        "exits": {"threshold": 0.5, "classes": 2, "chain": [{"channels": 8, "temperature": 2.0}]},
        "files": {"tables.npz": DIGEST},
    }
    for dotted, value in changes.items():
        *path, key = dotted.split(".")
        inner = values
        for name in path:
            inner = inner[name]
        inner[key] = value
    return values


def toml(values: dict[str, Any]) -> bytes:
    lines = [f"{key} = {inline(value)}" for key, value in values.items() if not isinstance(value, dict)]
    for name, inner in values.items():
        if isinstance(inner, dict):
            lines += [f"[{name}]", *(f"{json.dumps(key)} = {inline(value)}" for key, value in inner.items())]
    return "\n".join(lines).encode()


def inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(one)}" for key, one in value.items()) + "}"
    return f"[{', '.join(map(inline, value))}]" if isinstance(value, list) else json.dumps(value)


@relaxed
@given(MANIFESTS)
def test_what_is_parsed_is_what_was_written(manifest: Manifest) -> None:
    assert parse_manifest(write_manifest(manifest)) == manifest


@relaxed
@given(MANIFESTS)
def test_writing_twice_gives_the_same_bytes(manifest: Manifest) -> None:
    written = write_manifest(manifest)
    assert write_manifest(parse_manifest(written)) == written


def test_the_sound_table_of_these_tests_is_sound() -> None:
    manifest = parse_manifest(toml(table()))
    assert manifest.seam.channels == 4
    assert manifest.head_arguments == {}


def test_a_bundle_without_an_exit_has_none() -> None:
    values = table()
    del values["exits"]
    assert parse_manifest(toml(values)).exits is None


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("schema_version", 2, "schema_version"),
        ("name", "../photos", "name"),
        ("name", "", "name"),
        ("name", "photos\n", "name"),
        ("version", "1/..", "version"),
        ("version", "1" * 21, "version"),
        ("family", "os.path", "family"),
        ("golden_tolerance", 0, "golden_tolerance"),
        ("pixels.height", 7, "pixels.height"),
        ("pixels.width", 4097, "pixels.width"),
        ("pixels.std", [0.25, 0, 0.25], "std must be above zero"),
        ("pixels.mean", [0.5, 0.5], "pixels.mean"),
        ("pixels.fit", "crop", "pixels.fit"),
        ("output.kind", "polygons", "output.kind"),
        ("output.nms_iou", 1.5, "output.nms_iou"),
        ("output.min_score", -0.1, "output.min_score"),
        ("seam.widths", [], "seam.widths"),
        ("seam.widths", [2, 1], "must rise strictly"),
        ("seam.widths", [1, 1], "must rise strictly"),
        ("seam.widths", [0, 1], "from 1 up"),
        ("seam.widths", [1, 4097], "to 4096 at most"),
        ("seam.widths", list(range(1, 18)), "seam.widths"),
        ("seam.bits", [0], "must be among 1 to 8"),
        ("seam.bits", [4, 9], "must be among 1 to 8"),
        ("seam.sum_channels", 0, "seam.sum_channels"),
        ("seam.sum_channels", 4097, "seam.sum_channels"),
        ("bottleneck", {"hidden": "wide"}, "bottleneck.hidden"),
        ("bottleneck", {"hidden": 0}, "bottleneck.hidden"),
        ("bottleneck", {"form": 1}, "bottleneck.form"),
        ("bottleneck", 3, "bottleneck"),
        ("seam.bits", [], "seam.bits"),
        ("seam.height", 0, "seam.height"),
        ("seam.width", 1025, "seam.width"),
        ("exits.threshold", 1.02, "exits.threshold"),
        ("exits.confidence", "hope", "exits.confidence"),
        ("exits.classes", 0, "exits.classes"),
        ("exits.chain", [], "exits.chain"),
        ("exits.chain", [{"channels": 1025, "temperature": 1}], "exits.chain.0.channels"),
        ("exits.chain", [{"channels": 1}], "exits.chain.0.temperature"),
        ("exits.chain", [{"channels": 8, "temperature": 0}], "exits.chain.0.temperature"),
        ("surprise", 1, "surprise"),
        ("seam.surprise", 1, "seam.surprise"),
        ("head_arguments", {"widths": [1]}, "head_arguments"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_name(key: str, value: Any, named: str) -> None:
    with pytest.raises(BundleError, match=named.replace(".", r"\.")):
        parse_manifest(toml(table(**{key: value})))


@pytest.mark.parametrize("key", ["name", "version", "family", "golden_tolerance", "output", "seam", "files"])
def test_a_missing_key_is_refused_by_name(key: str) -> None:
    values = table()
    del values[key]
    with pytest.raises(BundleError, match=f"{key}: Field required"):
        parse_manifest(toml(values))


@pytest.mark.parametrize("number", ["inf", "nan", "-inf"])
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("golden_tolerance", 7.25),  # an infinite one would agree with any golden sample
        ("pixels.mean", [0, 7.25, 0]),
        ("pixels.std", [1, 7.25, 1]),
        ("exits.chain", [{"channels": 8, "temperature": 7.25}]),
        ("head_arguments", {"width": 7.25}),
    ],
)
def test_a_number_that_is_not_finite_is_refused(key: str, value: Any, number: str) -> None:
    sound = toml(table(**{key: value}))
    parse_manifest(sound)
    with pytest.raises(BundleError, match=key.replace(".", r"\.")):
        parse_manifest(sound.replace(b"7.25", number.encode()))


@pytest.mark.parametrize(
    "path",
    [
        "../tail.onnx",
        "/etc/passwd.json",
        "head/../tail.onnx",
        "head//stem.onnx",
        "a/b/c.onnx",
        "head\\stem.onnx",
        ".onnx",
        "./tail.onnx",
        "tail.onnx\n",
        "tail.onnx\0",
        "Tail.onnx",
        "weights.pkl",
        "weights.pt",
        "manifest.toml",
        "run.py",
        "tail.onnx.py",
        "",
    ],
)
def test_a_file_name_that_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(BundleError, match="plain names"):
        parse_manifest(toml(table(files={path: DIGEST})))


@pytest.mark.parametrize("digest", ["", DIGEST[:-1], DIGEST + "0", DIGEST.upper(), DIGEST + "\n", "g" * 64])
def test_what_is_no_digest_is_refused(digest: str) -> None:
    with pytest.raises(BundleError, match="SHA-256"):
        parse_manifest(toml(table(files={"tables.npz": digest})))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xff\xfe", b"name = ", b"[" * 100_000, b"a = " + b"[" * 100_000, b"a=1\na=2", b"\0"],
    ids=["empty", "not UTF-8", "cut short", "nested tables", "nested arrays", "twice", "NUL"],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError, match=r"manifest\.toml"):
        parse_manifest(data)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_junk_gives_bundle_error_and_nothing_else(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(data)


def test_group_sizes_add_up_to_the_width() -> None:
    seam = Seam(widths=(1, 2, 4, 8), bits=(8,), height=16, width=16)
    assert {width: seam.group_sizes(width) for width in seam.widths} == {
        1: [1],
        2: [1, 1],
        4: [1, 1, 2],
        8: [1, 1, 2, 4],
    }


def test_an_ensemble_sends_all_its_channels_in_one_chunk_at_every_width() -> None:
    seam = Seam(widths=(1, 2, 3), bits=(8,), height=16, width=16, sum_channels=6)
    assert seam.channels == 6
    assert [seam.channels_at(width) for width in seam.widths] == [6, 6, 6]
    assert [seam.group_sizes(width) for width in seam.widths] == [[6], [6], [6]]


def test_a_nested_seam_sends_a_width_s_channels() -> None:
    seam = Seam(widths=(1, 2, 4), bits=(8,), height=16, width=16)
    assert seam.channels == 4
    assert [seam.channels_at(width) for width in seam.widths] == [1, 2, 4]


def test_a_number_of_thousands_of_digits_is_refused_as_any_other_damage() -> None:
    with pytest.raises(BundleError, match="must be valid TOML"):
        parse_manifest(b"schema_version = " + b"1" * 5000)
