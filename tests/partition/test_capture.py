"""A user's module as a graph: the same answer bit for bit, or an error that names the line and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from small_modules import made, same, tensors_of
from torch import Tensor, nn
from torch.nn import functional

from splitrt.errors import CaptureError, InvalidInput
from splitrt.nn.graph import Graph
from splitrt.nn.interpreter import GraphModule, restored, stored
from splitrt.partition.capture import Captured, capture
from splitrt.partition.cuts import cuts
from splitrt.partition.divide import divide, joined

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
OURS = Path(__file__)


def x_1chw() -> Tensor:
    return torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))


def line_named_by(error: BaseException) -> str:
    """The line of this file that a message names."""
    found = re.search(rf"{OURS.parent.name}/{OURS.name}:(\d+)", str(error))
    assert found, f"no line of {OURS.name} in: {error}"
    return OURS.read_text().splitlines()[int(found[1]) - 1]


class Plain(nn.Module):
    """Things for the small networks below to hold."""

    seen: Tensor
    turned: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.register_buffer("seen", torch.zeros(1))
        self.table = torch.ones(1)
        self.linear = nn.Linear(6, 6)


# ── what cannot be captured ─────────────────────────────────────────────────────────────────────────


class Branches(Plain):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:  # the line
            return x
        return -x


class BranchesInside(Plain):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.linear(self.chosen(x))
        return found

    def chosen(self, x: Tensor) -> Tensor:
        return x if bool((x > 0).all()) else -x  # the line


class Loops(Plain):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(int(x.abs().sum())):  # the line
            x = x + 1
        return x


class Waits(Plain):
    def forward(self, x: Tensor) -> Tensor:
        while x.norm() > 1:  # the line
            x = x / 2
        return x


class Unequal(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.ones(5)  # the line


class Raises(Plain):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("nothing here")  # the line


class LeavesTorch(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() + 1)  # the line


class Draws(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.rand(1)  # the line


class DrawsLike(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)  # the line


class DropsAlways(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return functional.dropout(x, 0.5, training=True)  # the line


class Samples(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.bernoulli(x.sigmoid())  # the line


class AttendsWithDropout(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return functional.scaled_dot_product_attention(x, x, x, dropout_p=0.1)  # the line


class Foreign(Plain):
    def forward(self, x: Tensor) -> Tensor:
        shifted: Tensor = torch.ops.splitrt_tests.shift(x)  # the line
        return shifted


class Conditional(Plain):
    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.cond(x.sum() > 0, torch.neg, torch.abs, (x,))  # the line
        return found


AT_A_LINE: dict[str, tuple[type[nn.Module], str]] = {
    "a branch on the data": (Branches, "control flow must not depend on the data.* torch.where"),
    "a branch in a method": (BranchesInside, "control flow must not depend on the data.* torch.where"),
    "a loop over a count in the data": (Loops, "control flow must not depend on the data.* torch.where"),
    "a loop until the data are small": (Waits, "control flow must not depend on the data.* torch.where"),
    "shapes that do not fit": (Unequal, "torch.export can trace.*size"),
    "an error of the user's own": (Raises, "KeyError.*nothing here"),
    "a way through numpy": (LeavesTorch, "torch.export can trace"),
    "random numbers": (Draws, "same answer twice.*aten.rand"),
    "random numbers of a shape": (DrawsLike, "same answer twice.*aten.randn_like"),
    "dropout that is always on": (DropsAlways, "same answer twice.*dropout"),
    "a sample": (Samples, "same answer twice.*aten.bernoulli"),
    "attention with dropout": (AttendsWithDropout, "same answer twice.*attention"),
    "an operator of another library": (Foreign, "ATen's operators, got splitrt_tests.shift.* replace it"),
    "control flow as an operator": (Conditional, "ATen's operators, got cond.* replace it"),
}


@pytest.fixture(scope="module", autouse=True)
def _shift() -> Iterator[None]:
    """An operator as another library registers it."""
    library: Any = vars(torch.library)["Library"]("splitrt_tests", "FRAGMENT")
    library.define("shift(Tensor x) -> Tensor")
    library.impl("shift", lambda x: x + 1, "CompositeExplicitAutograd")
    torch.library.register_fake("splitrt_tests::shift", torch.empty_like, lib=library)
    yield
    library._destroy()


@pytest.mark.parametrize(("kind", "says"), AT_A_LINE.values(), ids=AT_A_LINE.keys())
def test_what_stands_in_the_way_is_named_with_its_line(kind: type[nn.Module], says: str) -> None:
    with pytest.raises(CaptureError, match=says) as caught:
        capture(kind().eval(), (x_1chw(),))
    assert line_named_by(caught.value).endswith("# the line")
    assert "\n" not in str(caught.value)


def test_a_refusal_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaptureError):
        capture(Branches().eval(), (x_1chw(),))
    assert capfd.readouterr() == ("", "")


class CountsUp(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x * self.seen


class Remembers(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.seen = 0.9 * self.seen + x.mean()
        return x - self.seen


class Learns(Plain):
    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            self.scale.add_(x.mean())
        return x * self.scale


class WritesToItsTable(Plain):
    def forward(self, x: Tensor) -> Tensor:
        self.table.add_(1)
        return x * self.table


class NormalisesByTheBatch(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return functional.batch_norm(x, torch.zeros(4), self.seen.expand(4).clone(), training=True) + self.seen.add_(1)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (CountsUp, "same for every input.*its buffer seen"),
        (Remembers, "same for every input.*its buffer seen"),
        (Learns, "same for every input.*its parameter scale"),
        (WritesToItsTable, "table"),
        (NormalisesByTheBatch, "same for every input.*its buffer seen"),
    ],
)
def test_a_network_that_remembers_is_refused(kind: type[nn.Module], says: str) -> None:
    with pytest.raises(CaptureError, match=says):
        capture(kind().eval(), (x_1chw(),))


@pytest.mark.parametrize("part", [nn.Dropout(0.5), nn.BatchNorm2d(4), nn.Identity()])
def test_a_part_left_in_training_mode_is_named(part: nn.Module) -> None:
    network = nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sequential(part)).eval()
    part.train()
    with pytest.raises(CaptureError, match=rf"1\.0 \({type(part).__name__}\) in training mode: call model.eval\(\)"):
        capture(network, (x_1chw(),))


@pytest.mark.parametrize("gives", [lambda x: None, lambda x: (), lambda x: {"n": 3}, lambda x: "text"])
def test_a_network_that_gives_no_tensor_is_refused(gives: Callable[[Tensor], Any]) -> None:
    class Gives(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return gives(x)

    with pytest.raises(CaptureError, match="must"):
        capture(Gives().eval(), (x_1chw(),))


def test_an_output_of_a_size_in_the_data_is_refused() -> None:
    class Finds(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.nonzero()

    with pytest.raises(CaptureError, match="fixed sizes, but nonzero's depends on the data"):
        capture(Finds().eval(), (x_1chw(),))


# ── what is captured is the same network ────────────────────────────────────────────────────────────


class WritesThroughAView(Plain):
    def forward(self, x: Tensor) -> Tensor:
        y = x.relu()
        y.view(1, -1).add_(1)
        y[:, 1:3].mul_(2)
        y[0, 0, 0, 0] = 5
        return y * 2 + x


class KeepsWhatItThenChanges(Plain):
    def forward(self, x: Tensor) -> Tensor:
        kept = []
        y = x.clone()
        for place in range(3):
            kept.append(y)
            y.add_(place + 1)
            kept.append(y.clone())
        return torch.cat(kept, 1)


class WritesToItsInput(Plain):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        before = x.clone()
        x.add_(1)
        return x, before * x


class Ties(nn.Module):
    """One weight under three names, one of them turned."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.register_buffer("turned", self.first.weight.detach().t())

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(x).relu()).relu() @ self.turned
        return found


class LeavesInputsUnread(Plain):
    def forward(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        return y.relu() + 1


class GivesWhatItHas(Plain):
    """Inputs, weights, constants, the same value twice, and things that are no tensors."""

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = x.relu()
        return {
            "z": (x, y, y),
            "a": {"nothing": None, "weight": self.scale, "buffer": self.seen, "number": 3},
            "constant": [torch.tensor([1, 2]), torch.ones(2), self.table],
        }


class Conditions(Plain):
    """Control flow on what is known beforehand."""

    def forward(self, x: Tensor, how: str = "relu", times: int = 2, mask: Tensor | None = None) -> Tensor:
        for _ in range(times):
            x = x.relu() + 0.5 if how == "relu" else x.tanh()
        return x if mask is None else x * mask


class NestedInputs(Plain):
    def forward(self, pair: tuple[Tensor, dict[str, Tensor]], last: list[Tensor]) -> Tensor:
        return pair[0] - pair[1]["b"] * 2 + pair[1]["a"] * 3 + last[0] * 4


class UsesANumber(Plain):
    def forward(self, x: Tensor) -> Tensor:
        place, high = x.argmax().item(), x.max().item()
        return x * place + high * (place + 1)


class CountsInside(Plain):
    """Values of a size that varies, and does not leave."""

    def forward(self, x: Tensor) -> Tensor:
        return x.relu() * x[x > 0].sum() + x.nonzero().sum()


class Strided(Plain):
    def forward(self, x: Tensor) -> Tensor:
        return x.relu().transpose(1, 3)[:, ::2].as_strided((2, 4), (8, 1), 3).neg() * 2


class Half(Plain):
    def forward(self, x: Tensor) -> Tensor:
        spectrum: Tensor = torch.fft.fft(x).abs()
        return (x.bfloat16() * 3).float() + (x.half() / 3).float() + spectrum


class Everything(Plain):
    """Inference mode and gradients switched off inside, devices named, dropout that is off."""

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        with torch.inference_mode():
            y = self.linear(x.to("cpu")) + torch.arange(6, device=x.device)
        return functional.dropout(y, 0.5, training=self.training).contiguous().detach()


RIGHT: dict[str, tuple[type[nn.Module], tuple[Any, ...], dict[str, Any]]] = {
    "writes through views": (WritesThroughAView, (x_1chw(),), {}),
    "a list of what is then changed": (KeepsWhatItThenChanges, (x_1chw(),), {}),
    "writes to its input": (WritesToItsInput, (x_1chw(),), {}),
    "tied weights": (Ties, (x_1chw(),), {}),
    "inputs that nothing reads": (LeavesInputsUnread, (x_1chw(), x_1chw() - 1, torch.zeros(2)), {}),
    "outputs that are there already": (GivesWhatItHas, (x_1chw(),), {}),
    "defaults": (Conditions, (x_1chw(),), {}),
    "settings": (Conditions, (x_1chw(), "tanh", 3), {"mask": x_1chw() > 0}),
    "keywords in another order": (Conditions, (), {"mask": x_1chw() * 2, "times": 1, "x": x_1chw()}),
    "nested inputs": (NestedInputs, ((x_1chw(), {"b": x_1chw() - 1, "a": x_1chw() + 1}), [x_1chw() * 7]), {}),
    "nested keywords": (
        NestedInputs,
        (),
        {"last": [x_1chw() * 7], "pair": (x_1chw(), {"a": x_1chw() + 1, "b": x_1chw() - 1})},
    ),
    "numbers from the data": (UsesANumber, (x_1chw(),), {}),
    "sizes that vary inside": (CountsInside, (x_1chw(),), {}),
    "places in memory": (Strided, (x_1chw(),), {}),
    "numbers of other sizes": (Half, (x_1chw(),), {}),
    "modes and devices": (Everything, (x_1chw(),), {}),
}


@pytest.mark.parametrize(("kind", "inputs", "keywords"), RIGHT.values(), ids=RIGHT.keys())
def test_what_is_captured_gives_the_same_bits_whole_stored_and_cut_anywhere(
    kind: Callable[[], nn.Module], inputs: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    torch.manual_seed(1)
    module = kind().eval()
    wanted = tensors_of(module, *inputs, **keywords)
    captured = capture(module, inputs, keywords)
    assert same(captured.module()(*captured.inputs), wanted)
    assert same(reread(captured)(*captured.inputs), wanted)
    for cut in cuts(captured):
        assert same(joined(divide(captured, cut), captured.inputs), wanted), cut.name


def reread(captured: Captured) -> GraphModule:
    """What comes back from JSON and stored weights."""
    graph = Graph.from_json(captured.graph.to_json())
    assert graph == captured.graph
    return GraphModule(graph, restored(graph, stored(captured.graph, captured.weights)))


def test_the_users_module_and_inputs_are_left_as_they_were() -> None:
    module, x = WritesToItsInput().eval(), x_1chw()
    state = {name: value.clone() for name, value in module.state_dict().items()}
    capture(module, (x,))
    assert torch.equal(x, x_1chw())
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_other_inputs_give_what_the_module_gives_for_them() -> None:
    module, (x, ids) = made("two inputs")
    captured = capture(module, (x, ids))
    for seed in range(5):
        torch.manual_seed(seed)
        other = (torch.randn_like(x), torch.randint(0, 9, ids.shape))
        assert same(captured.module()(*other), tensors_of(module, *other))


@pytest.mark.parametrize("shape", [(2, 4, 6, 6), (1, 4, 6, 7), (1, 4, 36), (4, 6, 6), (1, 1, 1, 1)])
def test_an_input_of_another_shape_or_batch_is_refused_by_the_whole_and_by_both_halves(shape: tuple[int, ...]) -> None:
    captured = capture(Conditions().eval(), (x_1chw(),))
    halves = divide(captured, cuts(captured)[1])
    for module in (captured.module(), halves.head.module(), halves.tail.module()):
        with pytest.raises(InvalidInput, match=r"must be float32 \(1, 4, 6, 6\), got float32"):
            module(torch.zeros(shape))


def test_a_tied_weight_is_kept_once_in_each_half_that_reads_it() -> None:
    captured = capture(Ties().eval(), (x_1chw(),))
    turned = next(one for one in captured.graph.weights if one.name == "w:turned")
    assert [one.name for one in captured.graph.weights if len(one.shape) == 2] == ["w:first.weight", "w:turned"]
    assert turned.order == (1, 0)
    middle = next(cut for cut in cuts(captured) if cut.name == "relu")
    halves = divide(captured, middle)
    assert set(halves.head.weights) == {"w:first.weight", "w:first.bias"}
    assert set(halves.tail.weights) == {"w:first.weight", "w:second.bias", "w:turned"}
    assert halves.head.weights["w:first.weight"] is halves.tail.weights["w:first.weight"]


def test_a_weight_that_nothing_reads_is_not_kept() -> None:
    captured = capture(LeavesInputsUnread().eval(), (x_1chw(), x_1chw(), x_1chw()))
    assert captured.graph.weights == ()
    assert dict(captured.weights) == {}
    assert [one.name for one in captured.graph.inputs] == ["x", "y", "z"]


def test_inputs_have_the_names_of_the_signature_and_stay_beside_their_values() -> None:
    x, mask = x_1chw(), x_1chw() * 2
    captured = capture(Conditions().eval(), (), {"mask": mask, "x": x})
    given = {value.name: tensor for value, tensor in zip(captured.graph.inputs, captured.inputs, strict=True)}
    assert set(given) == {"x", "mask"}
    assert given["x"] is x
    assert given["mask"] is mask


def test_inputs_that_ask_for_gradients_are_kept_without() -> None:
    x = x_1chw().requires_grad_()
    captured = capture(Conditions().eval(), (x,))
    assert not captured.inputs[0].requires_grad
    assert not captured.module()(*captured.inputs)[0].requires_grad


def test_a_number_that_crosses_is_a_number() -> None:
    captured = capture(UsesANumber().eval(), (x_1chw(),))
    crossing = {value.dtype for cut in cuts(captured) for value in cut.seam}
    assert crossing == {"float32", "int64", "py_int", "py_float"}
