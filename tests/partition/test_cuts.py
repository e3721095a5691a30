"""Where networks can be cut and what crosses there: no more than must, and enough for the same bits.

Shape letters: B batch, C channels, H W space, T tokens, F features.
"""

from __future__ import annotations

import functools
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_modules import MODULES, across, made, same, tensors_of
from torch import Tensor, nn

from splitrt.errors import ConfigError
from splitrt.nn.graph import Graph, Node, Ref, Value
from splitrt.nn.interpreter import GraphModule, restored, stored
from splitrt.partition.capture import Captured, capture, value_of
from splitrt.partition.cuts import ARRANGING, END, START, Cut, cuts, dependent, find_cut
from splitrt.partition.divide import divide, joined

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]


# ── graphs by hand ──────────────────────────────────────────────────────────────────────────────────


def by_hand(inputs: dict[str, Tensor], weights: dict[str, Tensor], nodes: list[Node], outputs: list[str]) -> Captured:
    """What capture would give: values as the nodes give them when run."""
    values: dict[str, Value | None] = {name: value_of(name, one) for name, one in inputs.items()}
    found: dict[str, Any] = {**inputs, **weights}
    for node in nodes:
        one = Graph(
            inputs=(),
            weights=tuple(Value(name=name, dtype="float32") for name in found if isinstance(found[name], Tensor)),
            nodes=(node,),
            outputs=(Value(name=node.name, dtype="float32"),),
        )
        held = {weight.name: found[weight.name] for weight in one.weights}
        (found[node.name],) = GraphModule(one, held)()
        values[node.name] = value_of(node.name, found[node.name])
    specs = [value_of(name, one) for name, one in (*inputs.items(), *weights.items())]
    assert all(specs)
    ends = [value for name in outputs if (value := values[name])]
    graph = Graph(
        inputs=tuple(value for value in specs if value and value.name in inputs),
        weights=tuple(value for value in specs if value and value.name in weights),
        nodes=tuple(nodes),
        outputs=tuple(ends),
    )
    graph.check()
    return Captured(graph=graph, weights=weights, inputs=tuple(inputs.values()), values=values)


def op(name: str, kind: str, *args: Any, **kwargs: Any) -> Node:
    return Node(name=name, op=f"aten.{kind}", args=args, kwargs=kwargs)


def seams(captured: Captured) -> dict[str, list[str]]:
    return {cut.name: [value.name for value in cut.seam] for cut in cuts(captured)}


X = torch.randn(1, 4, generator=torch.Generator().manual_seed(0))


def test_a_residual_edge_is_counted_once_however_many_read_it() -> None:
    nodes = [
        op("stem", "relu.default", Ref("x")),
        op("a", "sin.default", Ref("stem")),
        op("b", "add.Tensor", Ref("a"), Ref("stem")),
        op("c", "add.Tensor", Ref("b"), Ref("stem")),
    ]
    captured = by_hand({"x": X}, {}, nodes, ["c"])
    assert seams(captured) == {
        START: ["x"],
        "stem": ["stem"],
        "a": ["stem", "a"],
        "b": ["stem", "b"],
        END: ["c"],
    }
    assert [cut.bytes for cut in cuts(captured)] == [16, 16, 32, 32, 16]


def test_views_of_one_value_cross_as_that_value_once() -> None:
    nodes = [
        op("y", "relu.default", Ref("x")),
        op("turned", "t.default", Ref("y")),
        op("flat", "view.default", Ref("turned"), (-1,)),
        op("more", "unsqueeze.default", Ref("flat"), 0),
        op("product", "matmul.default", Ref("more"), Ref("turned")),
        op("end", "add.Tensor", Ref("product"), Ref("flat")),
    ]
    found = seams(by_hand({"x": X}, {}, nodes, ["end"]))
    assert found == {START: ["x"], "y": ["y"], "product": ["y", "product"], END: ["end"]}


def test_a_part_of_a_value_crosses_instead_of_it_unless_it_crosses_anyway() -> None:
    part = [
        op("y", "relu.default", Ref("x")),
        op("half", "slice.Tensor", Ref("y"), 1, 0, 2),
        op("end", "sin.default", Ref("half")),
    ]
    assert seams(by_hand({"x": X}, {}, part, ["end"]))["half"] == ["half"]
    both = [*part, op("sum", "sum.default", Ref("y")), op("last", "add.Tensor", Ref("end"), Ref("sum"))]
    assert "half" not in {name for row in seams(by_hand({"x": X}, {}, both, ["last"])).values() for name in row}


def test_a_part_of_a_widened_value_is_made_of_what_crosses_anyway() -> None:
    nodes = [
        op("y", "relu.default", Ref("x")),
        op("wide", "expand.default", Ref("y"), (6, 4)),
        op("part", "slice.Tensor", Ref("wide"), 0, 0, 2),
        op("sum", "sum.default", Ref("part")),
        op("end", "add.Tensor", Ref("sum"), Ref("y")),
        op("last", "add.Tensor", Ref("end"), Ref("part")),
    ]
    found = seams(by_hand({"x": X}, {}, nodes, ["last"]))
    assert found == {START: ["x"], "y": ["y"], "sum": ["y", "sum"], "end": ["y", "end"], END: ["last"]}


def test_a_widened_value_crosses_as_what_it_was() -> None:
    nodes = [
        op("y", "relu.default", Ref("x")),
        op("wide", "expand.default", Ref("y"), (100, 4)),
        op("copy", "clone.default", Ref("wide")),
        op("double", "_to_copy.default", Ref("copy"), dtype=torch.float64),
        op("end", "sin.default", Ref("double")),
    ]
    found = cuts(by_hand({"x": X}, {}, nodes, ["end"]))
    assert [[value.name for value in cut.seam] for cut in found] == [["x"], ["y"], ["end"]]
    assert found[1].bytes == 16


def test_a_narrower_number_crosses_and_whole_numbers_are_not_made_again_from_floats() -> None:
    nodes = [
        op("y", "relu.default", Ref("x")),
        op("half", "_to_copy.default", Ref("y"), dtype=torch.float16),
        op("squares", "mul.Tensor", Ref("half"), Ref("half")),
        op("places", "_to_copy.default", Ref("squares"), dtype=torch.int64),
        op("truth", "_to_copy.default", Ref("places"), dtype=torch.bool),
        op("end", "logical_not.default", Ref("truth")),
    ]
    found = {cut.name: cut for cut in cuts(by_hand({"x": X}, {}, nodes, ["end"]))}
    assert [value.name for value in found["half"].seam] == ["half"]
    assert [value.name for value in found["places"].seam] == ["places"]
    assert [value.name for value in found["truth"].seam] == ["truth"]
    assert (found["half"].bytes, found["places"].bytes, found["truth"].bytes) == (8, 32, 4)


def test_what_comes_of_weights_alone_is_made_on_both_sides_and_never_crosses() -> None:
    nodes = [
        op("mask", "triu.default", Ref("w:a")),
        op("wide", "expand.default", Ref("w:b"), (4, 4)),
        op("both", "add.Tensor", Ref("mask"), Ref("wide")),
        op("made", "ones.default", (4, 4)),
        op("y", "matmul.default", Ref("x"), Ref("both")),
        op("z", "matmul.default", Ref("y"), Ref("both")),
        op("end", "matmul.default", Ref("z"), Ref("made")),
    ]
    captured = by_hand({"x": X}, {"w:a": torch.randn(4, 4), "w:b": torch.randn(1, 4)}, nodes, ["end"])
    assert dependent(captured.graph) == {"x", "y", "z", "end"}
    assert seams(captured) == {START: ["x"], "y": ["y"], "z": ["z"], END: ["end"]}
    halves = divide(captured, find_cut(cuts(captured), "y"))
    assert {node.name for node in halves.tail.graph.nodes} == {"mask", "wide", "both", "made", "z", "end"}
    assert set(halves.tail.weights) == {"w:a", "w:b"}


def test_no_cut_falls_between_a_node_of_several_values_and_those() -> None:
    nodes = [
        op("parts", "split.Tensor", Ref("x"), 2, 1),
        Node(name="left", op="operator.getitem", args=(Ref("parts"), 0)),
        Node(name="right", op="operator.getitem", args=(Ref("parts"), 1)),
        op("best", "topk.default", Ref("left"), 1),
        Node(name="value", op="operator.getitem", args=(Ref("best"), 0)),
        Node(name="place", op="operator.getitem", args=(Ref("best"), 1)),
        op("sum", "add.Tensor", Ref("value"), Ref("place")),
        op("end", "add.Tensor", Ref("sum"), Ref("right")),
    ]
    values: dict[str, Any] = dict(zip(("left", "right"), torch.split(X, 2, 1), strict=True))
    values |= dict(zip(("value", "place"), values["left"].topk(1), strict=True))
    values |= {"sum": values["value"] + values["place"], "end": values["value"] + values["place"] + values["right"]}
    known = {name: value_of(name, one) for name, one in (("x", X), *values.items())} | {"parts": None, "best": None}
    ends = [value for value in (known["x"], known["end"]) if value]
    graph = Graph(inputs=(ends[0],), weights=(), nodes=tuple(nodes), outputs=(ends[1],))
    captured = Captured(graph=graph, weights={}, inputs=(X,), values=known)
    found = seams(captured)
    assert found == {
        START: ["x"],
        "right": ["left", "right"],
        "place": ["right", "value", "place"],
        "sum": ["right", "sum"],
        END: ["end"],
    }
    assert same(joined(divide(captured, find_cut(cuts(captured), "place")), (X,)), [values["end"]])


def test_an_input_that_is_an_output_crosses_to_the_end() -> None:
    nodes = [op("y", "relu.default", Ref("x")), op("z", "sin.default", Ref("y"))]
    captured = by_hand({"x": X}, {}, nodes, ["x", "z", "z"])
    assert seams(captured) == {START: ["x"], "y": ["x", "y"], END: ["x", "z"]}
    for cut in cuts(captured):
        assert same(joined(divide(captured, cut), (X,)), [X, X.relu().sin(), X.relu().sin()])


def test_a_seam_from_which_something_is_missing_is_refused() -> None:
    nodes = [op("y", "relu.default", Ref("x")), op("z", "add.Tensor", Ref("y"), Ref("x"))]
    captured = by_hand({"x": X}, {}, nodes, ["z"])
    whole = find_cut(cuts(captured), "y") if "y" in seams(captured) else cuts(captured)[0]
    lacking = Cut(position=1, name="y", module="", seam=tuple(v for v in (captured.values["y"],) if v))
    assert whole.seam
    with pytest.raises(ConfigError, match="seam must hold all that crosses, x is missing at y"):
        divide(captured, lacking)


# ── finding one ─────────────────────────────────────────────────────────────────────────────────────


@functools.cache
def taken(name: str) -> tuple[nn.Module, Captured, list[Cut], list[Tensor]]:
    """Module, graph, cuts, and what the module itself gives."""
    module, inputs = made(name)
    captured = capture(module, inputs)
    return module, captured, cuts(captured), tensors_of(module, *inputs)


def test_a_cut_is_found_by_its_name_its_number_and_a_module_of_the_model() -> None:
    _, _, found, _ = taken("residual")
    for place, cut in enumerate(found):
        assert find_cut(found, cut.name) is cut
        assert find_cut(found, str(place)) is cut
    assert find_cut(found, "stem").name == "conv2d"
    assert find_cut(found, "block").name == "relu"
    assert find_cut(found, "block.0").name == "conv2d_1"
    assert find_cut(found, "0").name == START


@pytest.mark.parametrize(
    ("wanted", "near"),
    [
        ("blok", "block"),
        ("conv2d_7", "conv2d"),
        ("", None),
        ("8", None),
        ("-1", None),
        ("999999999999", None),
        ("١", None),
        ("blo", "block"),
        ("block.", "block"),
        ("block.0.", "block.0"),
        ("qqqqqqqqqqqqq", None),
        ("0 ", None),
    ],
)
def test_what_is_no_cut_is_refused_with_near_names(wanted: str, near: str | None) -> None:
    _, _, found, _ = taken("residual")
    with pytest.raises(ConfigError, match="a cut must be 0 to 7, a node or a module of the model, got") as caught:
        find_cut(found, wanted)
    assert near is None or near in str(caught.value).partition("near: ")[2]


# ── networks ────────────────────────────────────────────────────────────────────────────────────────


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_at_any_cut_of_any_network_the_halves_joined_across_the_wire_give_the_same_bits(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(MODULES)))
    _, captured, found, wanted = taken(name)
    cut = data.draw(st.sampled_from(found))
    halves = divide(captured, cut)
    assert same(joined(halves, captured.inputs), wanted)
    assert same(across(halves, cut, captured.inputs), wanted)


@pytest.mark.parametrize("name", MODULES)
def test_both_halves_come_back_from_json_and_stored_weights_as_they_were(name: str) -> None:
    _, captured, found, wanted = taken(name)
    halves = divide(captured, found[len(found) // 2])
    given: tuple[Tensor, ...] = captured.inputs
    for half in (halves.head, halves.tail):
        graph = Graph.from_json(half.graph.to_json())
        assert graph == half.graph
        with torch.inference_mode():
            given = GraphModule(graph, restored(graph, stored(half.graph, half.weights)))(*given)
    assert same(given, wanted)


@pytest.mark.parametrize("name", MODULES)
def test_every_seam_is_of_different_values_that_depend_on_the_input_and_none_is_a_view_of_another(name: str) -> None:
    _, captured, found, _ = taken(name)
    fed, nodes = dependent(captured.graph), {node.name: node for node in captured.graph.nodes}
    assert (found[0].name, found[-1].name) == (START, END)
    assert len({cut.position for cut in found}) == len({cut.name for cut in found}) == len(found)
    assert [cut.position for cut in found] == sorted(cut.position for cut in found)
    for cut, before in zip(found[1:-1], found, strict=False):
        names = [value.name for value in cut.seam]
        assert cut.seam != before.seam
        assert names
        assert len(set(names)) == len(names)
        assert set(names) <= fed
        for one in names:
            at = nodes.get(one)
            while at is not None and at.op in ARRANGING:
                source = at.inputs()[0]
                kind, whole = captured.values[at.name], captured.values[source]
                if kind is not None and whole is not None and whole.is_float and not kind.is_float:
                    break
                assert source not in names
                at = nodes.get(source)


@pytest.mark.parametrize("name", MODULES)
def test_each_half_has_the_nodes_and_weights_that_it_needs_and_no_others(name: str) -> None:
    _, captured, found, _ = taken(name)
    for cut in found:
        halves = divide(captured, cut)
        for half in (halves.head, halves.tail):
            read = {one for node in half.graph.nodes for one in node.inputs()} | {
                one.name for one in half.graph.outputs
            }
            assert {node.name for node in half.graph.nodes} <= read
            assert {one.name for one in half.graph.weights} == set(half.weights) <= read
        assert len(halves.head.graph.nodes) <= cut.position
    assert divide(captured, found[0]).head.graph.nodes == ()
    assert divide(captured, found[-1]).tail.graph.nodes == ()


def crossing(name: str) -> set[str]:
    _, captured, found, _ = taken(name)
    return {value.name for cut in found for value in cut.seam}


def test_in_a_dense_network_every_map_crosses_once_and_no_copy_of_several_beside_its_parts() -> None:
    _, _, found, _ = taken("dense")
    seam = {cut.name: [value.name for value in cut.seam] for cut in found}
    assert seam["relu"] == ["x_bchw", "relu"]
    assert seam["relu_1"] == ["x_bchw", "relu", "relu_1"]
    assert seam["relu_2"] == ["x_bchw", "relu", "relu_1", "relu_2"]
    assert seam["cat_3"] == ["cat_3"]
    sizes = {cut.name: cut.bytes for cut in found}
    assert sizes["relu_1"] == 4 * 64 * (3 + 2 + 2)


def test_of_two_scales_both_cross_until_they_meet() -> None:
    _, _, found, _ = taken("two scales")
    seam = {cut.name: [value.shape for value in cut.seam] for cut in found}
    assert seam["relu"] == [(1, 2, 8, 8)]
    assert seam["relu_1"] == [(1, 2, 8, 8), (1, 4, 4, 4)]
    assert seam["cat"] == [(1, 6, 8, 8)]
    assert [cut.name for cut in found if cut.fits_bottleneck] == ["input", "conv2d", "relu", "cat", "output"]


def test_masks_positions_and_an_expanded_parameter_are_never_sent() -> None:
    assert crossing("attention").isdisjoint({"full", "triu", "expand", "alias", "positions"})
    _, captured, found, _ = taken("attention")
    assert {value.shape for cut in found for value in cut.seam}.isdisjoint({(6, 6), (6, 8), (1, 1, 8)})


def test_queries_keys_and_values_cross_once_each() -> None:
    _, _, found, _ = taken("attention")
    last = next(cut for cut in found if cut.name == "getitem_2")
    assert [value.name for value in last.seam] == ["add", "getitem", "getitem_1", "getitem_2"]
    assert last.bytes == 4 * 6 * 8 * 4


def test_the_order_in_memory_of_what_crosses_is_known() -> None:
    for name, order in (("residual", (0, 1, 2, 3)), ("residual, channels last", (0, 2, 3, 1))):
        _, _, found, _ = taken(name)
        maps = [value for cut in found for value in cut.seam if len(value.shape) == 4]
        assert {value.order for value in maps} == {order}


def test_where_a_place_in_memory_is_read_after_it_nothing_crosses() -> None:
    class Strided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu().transpose(1, 3)[:, ::2].as_strided((2, 4), (8, 1), 3).neg() * 2

    x = torch.randn(1, 4, 8, 8)
    captured = capture(Strided().eval(), (x,))
    assert [cut.name for cut in cuts(captured)] == [START, "as_strided", "neg", END]
    for cut in cuts(captured)[1:]:
        assert same(across(divide(captured, cut), cut, (x,)), tensors_of(Strided(), x))


def test_a_value_of_a_size_that_varies_crosses_nowhere() -> None:
    class Counts(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.relu() * x[x > 0].sum() + x.nonzero().sum()

    x = torch.randn(1, 4)
    captured = capture(Counts().eval(), (x,))
    names = {value.name for cut in cuts(captured) for value in cut.seam}
    assert names.isdisjoint({"index", "nonzero", "index_1"})
    for cut in cuts(captured):
        for other in (x, torch.ones(1, 4), -torch.ones(1, 4)):
            assert same(joined(divide(captured, cut), (other,)), tensors_of(Counts(), other))
