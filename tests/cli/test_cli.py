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
from typer.testing import CliRunner

from splitrt.cli import app
from splitrt.cli.train import Terminal
from splitrt.errors import ConfigError

RECIPES = Path(__file__).resolve().parents[2] / "recipes"


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
    done = run("models", "verify", "photos", "--json", "-")
    assert done.returncode == 0
    assert json.loads(done.stdout)["bundle"] == "photos-3"


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


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("models", "show", "shakespeare"), "is a language bundle"),
        (("models", "verify", "shakespeare"), "is a language bundle"),
        (("models", "show", "photos", "--json", "/"), "--json must be a file that can be written"),
        (("doctor", "--health", "--json", "-"), "not with --health"),
        (("stream", ".", "--plot", "run.nope"), "a plot must be a file named"),
        (("demo", "--plot", "run.nope"), "a plot must be a file named"),
        (("bench", "frame", "--plot", "run.nope"), "a plot must be a file named"),
        (("plan", "photos", "--link", "5mbit,40ms", "--range-plot", "run.nope"), "a plot must be a file named"),
        (("plan", "photos", "--link", "5mbit,40ms", "--weights", "w.safetensors"), "--weights are of a family"),
        (("split", "resnet:classes=10", "--out", "runs", "--labels", "no-such-file"), "--labels must be a file"),
        (("train", ".", "--out", "runs", "--data", "."), "must be a readable TOML file"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, tuple) else "",
)
def test_a_mistake_is_said_before_anything_is_done(words: tuple[str, ...], wanted: str) -> None:
    if words[0] in ("plan", "split", "train"):
        pytest.importorskip("torch")
    error = CliRunner().invoke(app, words).exception
    assert isinstance(error, ConfigError)
    assert wanted in str(error)


@pytest.mark.parametrize("port", ["-5", "0", "99999"])
def test_an_endpoint_has_a_port(port: str) -> None:
    assert CliRunner().invoke(app, ["generate", "--serve-openai", port]).exit_code == 2


def test_a_seed_is_the_recipes_also_where_exits_are_added(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    seeds: list[int] = []
    monkeypatch.setattr("splitrt.train.extend.extend", lambda bundle, recipe, *_: seeds.append(recipe.seed))
    words = ["train", str(RECIPES / "photos.toml"), "--out", "runs", "--data", ".", "--bundle", "photos"]
    for more in ([], ["--seed", "7"]):
        assert CliRunner().invoke(app, [*words, *more]).exit_code == 0
    assert seeds == [0, 7]


def test_what_training_says_is_not_among_the_json_that_a_plan_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (True, False):
        with Terminal(quiet=quiet) as watch:
            watch.line("exporting 3 cuts")
        said = capsys.readouterr()
        assert (said.out, said.err)[quiet] == "exporting 3 cuts\n"
        assert not (said.out, said.err)[not quiet]


def test_split_names_what_it_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("splitrt.partition.model.open_model", lambda *_: None)
    monkeypatch.setattr(
        sys.modules["splitrt.cli.split"], "_captured", lambda *given: given[-1].line("written: runs/net-1")
    )
    done = CliRunner().invoke(app, ["split", "nets:net", "--cut", "1", "--out", "runs"])
    assert done.exit_code == 0, done.output
    assert done.stdout == "written: runs/net-1\n"
