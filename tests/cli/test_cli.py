"""Commands as a user runs them: exit codes, one clear line for an error, JSON where asked for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "splitrt", *words], capture_output=True, text=True, check=False, timeout=100
    )


@pytest.mark.parametrize(
    "words",
    [
        ("models", "show", "fotos"),
        ("models", "verify", "no/such/folder"),
        ("serve", "no-such-bundle"),
        ("serve", "--listen", "nonsense"),
        ("serve", "--tls-cert", "only-half.pem"),
        ("infer", "no-such-photo.jpg"),
        ("stream", "no-such-folder"),
        ("bench", "fram"),
        ("demo", "--images", "no-such-folder"),
        ("demo", "--engine", "warp"),
        ("train", "no-such-recipe.toml", "--out", "runs", "--data", "."),
        ("split", "resnett", "--weights", "w.safetensors", "--images", ".", "--out", "runs"),
        ("split", "resnet:classes=many", "--weights", "w.safetensors", "--images", ".", "--out", "runs"),
        ("split", "resnet:classes=10", "--cut", "3", "--weights", "w.safetensors", "--images", ".", "--out", "runs"),
        ("split", "resnet:classes=10", "--bits", "x", "--weights", "w.safetensors", "--images", ".", "--out", "runs"),
        ("netem", "--listen", "nonsense", "--to", "127.0.0.1:1"),
    ],
    ids=" ".join,
)
def test_a_users_mistake_ends_with_one_clear_line_and_exit_code_2(words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("splitrt: ")
    assert len(done.stderr.strip().splitlines()) == 1


def test_models_show_writes_the_seam_as_json() -> None:
    done = run("models", "show", "photos", "--json", "-")
    shown = json.loads(done.stdout)
    assert shown["manifest"]["seam"]["widths"] == [1, 2, 4, 8]
    assert {"width", "bits", "payload_bytes_mean", "accuracy"} <= shown["calibration"]["points"][0].keys()


def test_models_verify_holds_for_the_built_in_bundle_on_this_machine() -> None:
    assert run("models", "verify", "photos").returncode == 0


def test_doctor_finds_no_fault_with_this_machine_and_one_with_a_dead_server() -> None:
    assert run("doctor").returncode == 0
    done = run("doctor", "--server", "127.0.0.1:1")
    assert done.returncode == 1
    assert "error" in done.stdout


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    for number, colour in enumerate(("red", "green", "blue")):
        Image.new("RGB", (200, 150), colour).save(tmp_path / f"{number}.png")
    return tmp_path


def test_infer_answers_alone_where_no_server_is(photographs: Path) -> None:
    done = run("infer", *map(str, sorted(photographs.iterdir())), "--server", "127.0.0.1:1", "--json", "-")
    rows = json.loads(done.stdout)
    assert [row["source"] in ("exit", "fallback") for row in rows] == [True] * 3


def test_a_stream_that_loops_begins_its_folder_again_until_it_is_interrupted(photographs: Path) -> None:
    words = ("stream", str(photographs), "--server", "127.0.0.1:1", "--fps", "40", "--loop")
    hurried = {**os.environ, "SPLITRT_CLIENT_CONNECT_TIMEOUT_S": "0.1"}
    command = [sys.executable, "-m", "splitrt", *words]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=hurried) as stream:
        assert stream.stdout is not None
        assert stream.stderr is not None
        lines = [stream.stdout.readline() for _ in range(7)]  # of three photographs
        stream.send_signal(signal.SIGINT)
        said = stream.stderr.read()
        assert "Traceback" not in said, said
        assert stream.wait(timeout=20) == 0
    assert [int(line.split()[0]) for line in lines] == list(range(1, 8))


@pytest.mark.slow
def test_the_demo_loses_nothing_ends_frames_at_its_gate_and_writes_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "demo.json"
    done = run("demo", "--frames", "40", "--json", str(file), "--plot", str(tmp_path / "demo.png"))
    assert done.returncode == 0, done.stderr
    summary = json.loads(file.read_text())["summary"]
    wanted = {
        "frames", "answered", "lost", "late", "agreement", "bytes_per_frame", "latency_ms_p50", "latency_ms_p95",
        "outage_frames_answered", "gate_recall", "exit_epsilon",
    }  # fmt: skip
    assert wanted <= summary.keys()
    assert summary["frames"] == 40
    assert summary["share_gate"] > 0
    assert summary["frames_with_nothing"] + summary["frames_with_something"] == 40
    assert not any(baseline["share_gate"] for baseline in summary["baselines"].values())
    assert " gate, " in done.stdout
    assert "the gate ended" in done.stdout
    assert summary["lost"] == 0
    assert set(summary["baselines"]) == {"widest", "jpeg", "exit alone"}
    assert (tmp_path / "demo.png").stat().st_size > 10_000
