"""The training loop and its checkpoints: interrupted, resumed, broken, mixed up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tiny import CLASSES, Heard, images_of, recipe_of, same, state_of
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import AdamW

from splitrt.errors import ConfigError
from splitrt.nn.blocks import conv_bn
from splitrt.train.checkpoint import Curve, load_checkpoint, save_checkpoint
from splitrt.train.loop import WARM_UP, Loss, TrainingFailed, fit, one_cycle
from splitrt.train.recipe import Schedule

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]

PIXELS = recipe_of().pixels
IMAGES = images_of("train")
SCHEDULE = Schedule(epochs=3, batch=16, learning_rate=0.01)
STEPS = 4  # an epoch


def model_of(channels: int = 8, layers: int = 1) -> nn.Sequential:
    torch.manual_seed(0)
    convolutions = [conv_bn(3 if layer == 0 else channels, channels, 3) for layer in range(layers)]
    return nn.Sequential(*convolutions, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, CLASSES))


def loss_on(model: nn.Module) -> Loss:
    return lambda x_BCHW, labels_B: F.cross_entropy(model(x_BCHW), labels_B)


def trained(model: nn.Module, watch: Heard, checkpoint: Path | None = None, **options: Any) -> Curve:
    given: dict[str, Any] = {"loss_of": loss_on(model), "schedule": SCHEDULE, "images": IMAGES}
    return fit("toy", [model], pixels=PIXELS, seed=5, watch=watch, checkpoint=checkpoint, **(given | options))


def test_the_loss_falls_with_a_row_and_a_line_an_epoch() -> None:
    model, watch = model_of(), Heard()
    curve = trained(model, watch, after_epoch=lambda: {"tune": 0.25})
    assert [(row["phase"], row["epoch"], row["tune"]) for row in curve] == [("toy", n, 0.25) for n in (1, 2, 3)]
    assert curve[-1]["loss"] < curve[0]["loss"]
    assert len(watch.lines) == 3
    assert watch.steps == [("toy", done, 3 * STEPS) for done in range(1, 3 * STEPS + 1)]
    assert not model.training


# ── interrupted ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("stop_at", [STEPS + 1, 2 * STEPS, 2 * STEPS + 3])
def test_an_interrupted_run_goes_on_to_bit_identical_weights_and_curve(tmp_path: Path, stop_at: int) -> None:
    uninterrupted, checkpoint = model_of(), tmp_path / "toy.checkpoint"
    wanted = trained(uninterrupted, Heard())
    with pytest.raises(KeyboardInterrupt):
        trained(model_of(), Heard(("toy", stop_at)), checkpoint)
    resumed, watch = model_of(), Heard()
    assert trained(resumed, watch, checkpoint) == wanted
    assert same(state_of(resumed), state_of(uninterrupted))
    whole_epochs = (stop_at - 1) // STEPS
    assert f"goes on after epoch {whole_epochs} of 3" in watch.lines[0]
    assert watch.steps[0] == ("toy", whole_epochs * STEPS + 1, 3 * STEPS)


def test_a_run_interrupted_by_its_own_loss_goes_on_the_same_way(tmp_path: Path) -> None:
    uninterrupted, checkpoint = model_of(), tmp_path / "toy.checkpoint"
    wanted = trained(uninterrupted, Heard())
    model = model_of()
    calls: list[int] = []

    def breaks(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == STEPS + 2:
            raise MemoryError
        return loss_on(model)(x_BCHW, labels_B)

    with pytest.raises(MemoryError):
        trained(model, Heard(), checkpoint, loss_of=breaks)
    resumed = model_of()
    assert trained(resumed, Heard(), checkpoint) == wanted
    assert same(state_of(resumed), state_of(uninterrupted))


def test_a_run_that_was_whole_is_not_trained_again(tmp_path: Path) -> None:
    model, checkpoint = model_of(), tmp_path / "toy.checkpoint"
    wanted = trained(model, Heard(), checkpoint)
    again, watch = model_of(), Heard()
    assert trained(again, watch, checkpoint) == wanted
    assert watch.steps == []
    assert same(state_of(again), state_of(model))


def test_a_run_interrupted_in_its_first_epoch_begins_anew(tmp_path: Path) -> None:
    checkpoint = tmp_path / "toy.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        trained(model_of(), Heard(("toy", 2)), checkpoint)
    assert not checkpoint.exists()


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path) -> None:
    model, checkpoint = model_of(), tmp_path / "toy.checkpoint"
    trained(model, Heard(), checkpoint)
    before = checkpoint.read_bytes()
    checkpoint.with_suffix(".new").mkdir()  # where the next one is written before it takes the old one's place
    with pytest.raises((OSError, SafetensorError)):
        save_checkpoint(checkpoint, [model_of()], AdamW(model.parameters()), [])
    assert checkpoint.read_bytes() == before


# ── failed ──────────────────────────────────────────────────────────────────────────────────────────


def fails_at(model: nn.Module, step: int, odd: float) -> Loss:
    calls: list[int] = []

    def loss_of(x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        calls.append(1)
        loss = loss_on(model)(x_BCHW, labels_B)
        return loss * odd if len(calls) == step else loss

    return loss_of


@pytest.mark.parametrize("odd", [float("nan"), float("inf"), float("-inf")])
def test_a_loss_that_is_not_finite_names_epoch_step_and_a_checkpoint_that_loads(tmp_path: Path, odd: float) -> None:
    model, checkpoint = model_of(), tmp_path / "toy.checkpoint"
    with pytest.raises(TrainingFailed) as caught:
        trained(model, Heard(), checkpoint, loss_of=fails_at(model, 2 * STEPS + 3, odd))
    assert str(caught.value) == (
        f"toy: loss must be finite, got {odd} at epoch 3, step 3 of 4; the last good checkpoint is {checkpoint}"
    )
    after_two = model_of()
    with pytest.raises(KeyboardInterrupt):
        trained(after_two, Heard(("toy", 2 * STEPS + 1)), tmp_path / "other.checkpoint")
    loaded = model_of()
    curve = load_checkpoint(checkpoint, [loaded], AdamW(loaded.parameters()))
    assert [row["epoch"] for row in curve] == [1, 2]
    wanted = model_of()
    load_checkpoint(tmp_path / "other.checkpoint", [wanted], AdamW(wanted.parameters()))
    assert same(state_of(loaded), state_of(wanted))
    assert all(value.isfinite().all() for value in loaded.parameters())


def test_a_failure_before_any_checkpoint_promises_none(tmp_path: Path) -> None:
    model = model_of()
    with pytest.raises(TrainingFailed, match=r"got nan at epoch 1, step 1 of 4$"):
        trained(model, Heard(), tmp_path / "toy.checkpoint", loss_of=fails_at(model, 1, float("nan")))


def test_a_batch_that_the_images_do_not_fill_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"toy\.batch must be at most the 15 training images, got 16"):
        trained(model_of(), Heard(), images=IMAGES.some(15))


# ── mixed up ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("given", "wanted", "says"),
    [
        (model_of(8), model_of(4), "must have shape"),
        (model_of(1), model_of(4), "must have shape"),  # would broadcast
        (model_of(8, layers=2), model_of(8), "is unknown"),  # holds all that is wanted, and more
        (model_of(8), model_of(8, layers=2), "is missing"),
    ],
    ids=["wider", "broadcast", "deeper", "shallower"],
)
def test_a_checkpoint_of_another_model_is_refused_and_changes_nothing(
    tmp_path: Path, given: nn.Module, wanted: nn.Module, says: str
) -> None:
    checkpoint = tmp_path / "toy.checkpoint"
    trained(given, Heard(), checkpoint)
    before = state_of(wanted)
    with pytest.raises(ConfigError, match=says) as caught:
        trained(wanted, Heard(), checkpoint)
    assert str(checkpoint) in str(caught.value)
    assert "delete it to start anew" in str(caught.value)
    assert same(before, state_of(wanted))


def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    junk, bare = tmp_path / "junk.checkpoint", tmp_path / "bare.checkpoint"
    junk.write_bytes(b"no safetensors")
    save_file({f"weight.0.{name}": value for name, value in model_of().state_dict().items()}, bare)
    for file in (junk, bare):
        with pytest.raises(ConfigError, match="is not one of this recipe"):
            trained(model_of(), Heard(), file)


def test_a_checkpoint_says_after_which_epoch_and_holds_plain_tensors(tmp_path: Path) -> None:
    checkpoint = tmp_path / "toy.checkpoint"
    trained(model_of(), Heard(), checkpoint)
    names = set(load_file(checkpoint))
    assert {"random", "weight.0.3.bias", "moment.0.exp_avg"} <= names


# ── the learning rate ───────────────────────────────────────────────────────────────────────────────


@given(st.floats(0, 1), st.floats(0, 1))
def test_the_learning_rate_rises_to_its_highest_and_then_falls(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= one_cycle(low) <= 1
    if high <= WARM_UP:
        assert one_cycle(low) <= one_cycle(high)
    if low >= WARM_UP:
        assert one_cycle(low) >= one_cycle(high)


def test_the_learning_rate_has_no_jump_and_ends_at_nothing() -> None:
    assert one_cycle(WARM_UP) == pytest.approx(1)
    assert one_cycle(WARM_UP - 1e-9) == pytest.approx(1, abs=1e-6)
    assert one_cycle(1) == pytest.approx(0, abs=1e-12)
    assert 0 < one_cycle(0) < 0.1


def test_only_weights_decay() -> None:
    """A learning rate that moves nothing by itself: what shrinks has decayed."""
    model = model_of()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    nothing: Loss = lambda x_BCHW, labels_B: 0 * sum((p.sum() for p in model.parameters()), torch.zeros(()))  # noqa: E731
    trained(model, Heard(), loss_of=nothing, schedule=Schedule(epochs=1, batch=16, learning_rate=0.01, weight_decay=1))
    shrunk = {name for name, value in model.named_parameters() if value.abs().sum() < before[name].abs().sum()}
    assert shrunk == {"0.0.weight", "3.weight"}
