"""A network as data: what a file may say, what it may not, and that running it is running the operators."""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import contextlib

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitrt.errors import BundleError, InvalidInput
from splitrt.nn.graph import WORDS, Graph, Node, Ref, Value, refs
from splitrt.nn.interpreter import GraphModule, laid_out, restored, stored
from splitrt.nn.operators import ARITHMETIC, SYMBOLIC, resolve

pytestmark = [pytest.mark.torch, pytest.mark.usefixtures("one_thread")]
relaxed = settings(deadline=None)

X = Value(name="x", dtype="float32", shape=(1, 2), order=(0, 1))
W = Value(name="w:linear.weight", dtype="float32", shape=(2, 2), order=(1, 0))
Y = Value(name="y", dtype="float32", shape=(1, 2), order=(0, 1))


def node(name: str, op: str, *args: Any, **kwargs: Any) -> Node:
    return Node(name=name, op=op, args=args, kwargs=kwargs)


def graph(*nodes: Node, inputs: tuple[Value, ...] = (X,), outputs: tuple[Value, ...] = (Y,)) -> Graph:
    return Graph(inputs=inputs, weights=(W,), nodes=nodes, outputs=outputs)


LINEAR = graph(node("y", "aten.linear.default", Ref("x"), Ref("w:linear.weight")))


def table_of(made: Graph) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(made.to_json())
    return table


def refused(table: Any, match: str = "must|is not one of") -> None:
    data = table if isinstance(table, bytes) else json.dumps(table).encode()
    with pytest.raises(BundleError, match=match):
        Graph.from_json(data)


# ── JSON ────────────────────────────────────────────────────────────────────────────────────────────

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63)
    | st.floats(allow_nan=False)
    | st.text(max_size=8)
    | st.sampled_from([one for words in WORDS.values() for one in words.values()])
    | st.just(Ref("x"))
)
ARGUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=8)


@relaxed
@given(st.lists(ARGUMENTS, max_size=4), st.dictionaries(st.text(max_size=6), ARGUMENTS, max_size=3))
def test_what_is_written_is_read_as_an_equal_graph(args: list[Any], kwargs: dict[str, Any]) -> None:
    made = graph(Node(name="y", op="aten.add.Tensor", args=tuple(args), kwargs=kwargs, module="a.b"))
    back = Graph.from_json(made.to_json())
    assert back == made
    assert back.to_json() == made.to_json()


@pytest.mark.parametrize("value", [float("inf"), float("-inf"), torch.float16, torch.channels_last, torch.strided])
def test_infinities_and_words_of_torch_come_back_as_themselves(value: Any) -> None:
    (back,) = Graph.from_json(graph(node("y", "aten.add.Tensor", value)).to_json()).nodes
    assert back.args == (value,)


def test_nan_comes_back_as_nan() -> None:
    (back,) = Graph.from_json(graph(node("y", "aten.add.Tensor", float("nan"))).to_json()).nodes
    assert back.args[0] != back.args[0]


def test_a_device_is_wherever_the_graph_runs() -> None:
    (back,) = Graph.from_json(
        graph(node("y", "aten.full_like.default", Ref("x"), 2.0, device=torch.device("meta"))).to_json()
    ).nodes
    assert back.kwargs == {"device": torch.device("cpu")}
    made = graph(node("y", "aten.ones.default", (1, 2), device=torch.device("cpu")))
    weights = {W.name: torch.zeros(2, 2)}
    assert GraphModule(made, weights)(torch.zeros(1, 2))[0].device.type == "cpu"
    assert GraphModule(made, weights).to("meta")(torch.zeros(1, 2, device="meta"))[0].device.type == "meta"


@pytest.mark.parametrize("value", [1j, object(), b"bytes", {1, 2}])
def test_what_json_cannot_hold_is_not_written(value: object) -> None:
    with pytest.raises(TypeError, match="cannot be stored"):
        graph(node("y", "aten.add.Tensor", value)).to_json()


# ── what a file may not say ─────────────────────────────────────────────────────────────────────────

FORBIDDEN = [
    *("aten.from_file.default", "aten.from_file.out", "aten.save.default", "aten.load.default", "aten.warn.default"),
    *(
        "aten.add_.Tensor",
        "aten.relu_.default",
        "aten.copy_.default",
        "aten.set_.source_Storage",
        "aten.resize_.default",
    ),
    *("aten.add.out", "aten.mm.out", "aten.max.dim_max", "aten._foreach_add_.List", "aten.set_data.default"),
    *("aten.manual_seed.default", "aten.seed.default", "aten.format.default", "aten.input.default"),
    *("torch.load", "torch.save", "torch.hub.load", "torch.compile", "torch.ops", "torch.sym_int.__call__"),
    *("operator.attrgetter", "operator.methodcaller", "operator.call", "operator.itemgetter", "operator.setitem"),
    *("operator.iadd", "operator.__import__", "operator.pow", "operator.lshift", "operator.getitem.x"),
    *(
        "aten.__class__",
        "aten.__class__.__init__",
        "aten.__dict__.x",
        "aten.__getattr__.__call__",
        "aten.add.__class__",
    ),
    *("aten.add.__call__", "aten.add.redispatch", "aten.add.name", "aten.add._schema", "aten._dir.append"),
    *("aten.add", "aten.add.", "aten..Tensor", "aten.add.Tensor.x", "aten.add.Tensor\n", "aten.add.Ten sor", "aten."),
    *("ATEN.add.Tensor", "aten.no_such.default", "aten.add.NoSuch", "prims.add.default", "quantized.add.default"),
    *("builtins.eval", "os.system", "math.ceil", "", ".", "..", "aten", "torch", "operator", "operator.", "torch."),
]


@pytest.mark.parametrize("op", FORBIDDEN)
def test_an_operator_that_is_not_functional_arithmetic_is_refused(op: str) -> None:
    with pytest.raises(BundleError, match="operator"):
        resolve(op)
    table = table_of(LINEAR)
    table["nodes"][0][1] = op
    refused(table)


@relaxed
@given(st.text(max_size=20) | st.lists(st.text(max_size=8), min_size=1, max_size=4).map(".".join))
def test_any_text_is_an_operator_or_refused(op: str) -> None:
    with contextlib.suppress(BundleError):
        assert callable(resolve(op))


def test_no_operator_that_writes_or_takes_a_file_can_be_asked_for() -> None:
    reached = 0
    for schema in torch._C._jit_get_all_schemas():
        if not schema.name.startswith("aten::"):
            continue
        op = f"aten.{schema.name[6:]}.{schema.overload_name or 'default'}"
        names = {one.name for one in schema.arguments}
        if schema.is_mutable or names & {"filename", "file", "path"} and "str" in str(schema):
            if "einsum" in op:  # its path is an order of contractions
                continue
            reached += 1
            with pytest.raises(BundleError):
                resolve(op)
    assert reached > 1000


@pytest.mark.parametrize("op", [*(f"operator.{one}" for one in ARITHMETIC), *(f"torch.{one}" for one in SYMBOLIC)])
def test_arithmetic_on_sizes_may_run(op: str) -> None:
    assert callable(resolve(op))


def with_node(**changes: Any) -> dict[str, Any]:
    table = table_of(LINEAR)
    fields = dict(zip(("name", "op", "args", "kwargs", "module"), table["nodes"][0], strict=True)) | changes
    table["nodes"] = [list(fields.values())]
    return table


def with_input(*row: Any) -> dict[str, Any]:
    return table_of(LINEAR) | {"inputs": [list(row)]}


DAMAGED: dict[str, Callable[[], Any]] = {
    "not JSON": lambda: b"{",
    "not text": lambda: b"\xff\xfe\x00",
    "no table": lambda: [],
    "nothing": lambda: {},
    "a format from the future": lambda: table_of(LINEAR) | {"format": 2},
    "no format": lambda: {key: value for key, value in table_of(LINEAR).items() if key != "format"},
    "no nodes": lambda: table_of(LINEAR) | {"nodes": None},
    "no outputs": lambda: {key: value for key, value in table_of(LINEAR).items() if key != "outputs"},
    "weights that are names": lambda: table_of(LINEAR) | {"weights": ["w"]},
    "weights that are a text": lambda: table_of(LINEAR) | {"weights": "weights"},
    "a node of four": lambda: table_of(LINEAR) | {"nodes": [["y", "aten.relu.default", [], {"named": {}}]]},
    "a node that is a number": lambda: table_of(LINEAR) | {"nodes": [5]},
    "a name that is a number": lambda: with_node(name=5),
    "a name that is a list": lambda: with_node(name=["y"]),
    "a name with a dot": lambda: with_node(name="y.z"),
    "a name that is empty": lambda: with_node(name=""),
    "an operator that is a number": lambda: with_node(op=5),
    "an operator that is none": lambda: with_node(op=None),
    "a module that is a list": lambda: with_node(module=[]),
    "arguments that are a text": lambda: with_node(args="xy"),
    "arguments that are a number": lambda: with_node(args=5),
    "arguments that are none": lambda: with_node(args=None),
    "keywords that are a list": lambda: with_node(kwargs=[]),
    "keywords that are a word": lambda: with_node(kwargs={"dtype": "float32"}),
    "keywords that are none": lambda: with_node(kwargs=None),
    "a reference to nothing": lambda: with_node(args=[{"ref": "z"}]),
    "a reference to a list": lambda: with_node(args=[{"ref": ["x"]}]),
    "a reference to nothing, deep inside": lambda: with_node(args=[[[{"named": {"a": {"ref": "z"}}}]]]),
    "a reference to nothing, in a keyword": lambda: with_node(kwargs={"named": {"a": [{"ref": "z"}]}}),
    "an argument of no kind": lambda: with_node(args=[{}]),
    "an argument of two kinds": lambda: with_node(args=[{"ref": "x", "dtype": "float32"}]),
    "an argument of another kind": lambda: with_node(args=[{"eval": "1"}]),
    "a word that is no dtype": lambda: with_node(args=[{"dtype": "load"}]),
    "a word that is a module": lambda: with_node(args=[{"dtype": "_dynamo"}]),
    "a word with a dot": lambda: with_node(args=[{"dtype": "nn.Module"}]),
    "a word that is a class": lambda: with_node(args=[{"dtype": "__class__"}]),
    "a word of another list": lambda: with_node(args=[{"layout": "float32"}]),
    "a word that is a number": lambda: with_node(args=[{"dtype": 5}]),
    "a word that is a list": lambda: with_node(args=[{"dtype": ["float32"]}]),
    "a float that is none": lambda: with_node(args=[{"float": "one"}]),
    "a value's dtype that is torch's, and none": lambda: with_input("x", "load", [], []),
    "a value's dtype that is a lazy module": lambda: with_input("x", "_inductor", [], []),
    "a value's dtype that is a list": lambda: with_input("x", ["float32"], [], []),
    "a value's name that is a list": lambda: with_input(["x"], "float32", [1, 2], [0, 1]),
    "a value's name that is a number": lambda: with_input(5, "float32", [1, 2], [0, 1]),
    "a value's sizes that are a text": lambda: with_input("x", "float32", "12", [0, 1]),
    "a value's sizes that are none": lambda: with_input("x", "float32", None, []),
    "a value's size below nought": lambda: with_input("x", "float32", [-1, 2], [0, 1]),
    "a value's size that is no whole number": lambda: with_input("x", "float32", [1.5, 2], [0, 1]),
    "a value's size that is true": lambda: with_input("x", "float32", [True, 2], [0, 1]),
    "a value's order that names a dimension twice": lambda: with_input("x", "float32", [1, 2], [0, 0]),
    "a value's order that is short": lambda: with_input("x", "float32", [1, 2], [0]),
    "a value's order of dimensions that are not there": lambda: with_input("x", "float32", [1, 2], [1, 2]),
    "an output that nothing gives": lambda: table_of(LINEAR) | {"outputs": [["z", "float32", [], []]]},
    "two inputs of a name": lambda: table_of(LINEAR) | {"inputs": table_of(LINEAR)["inputs"] * 2},
    "two weights of a name": lambda: table_of(LINEAR) | {"weights": table_of(LINEAR)["weights"] * 2},
    "an input of a weight's name": lambda: table_of(LINEAR) | {"weights": [["x", "float32", [1], [0]]]},
    "two nodes of a name": lambda: table_of(LINEAR) | {"nodes": table_of(LINEAR)["nodes"] * 2},
    "a node of an input's name": lambda: with_node(name="x"),
    "a node that reads itself": lambda: with_node(args=[{"ref": "y"}]),
}


@pytest.mark.parametrize("damaged", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_we_do_not_write_is_refused(damaged: Callable[[], Any]) -> None:
    refused(damaged())


def test_a_value_that_is_read_before_it_is_made_is_refused() -> None:
    late = graph(node("y", "aten.relu.default", Ref("z")), node("z", "aten.relu.default", Ref("x")))
    refused(late.to_json(), "y reads 'z'")


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_are_none_of_jsons_are_refused(literal: bytes) -> None:
    data = graph(node("y", "aten.add.Tensor", Ref("x"), 12345)).to_json()
    assert data.count(b"12345") == 1
    refused(data.replace(b"12345", literal), "no number of JSON")
    refused(table_of(LINEAR) and LINEAR.to_json().replace(b'"format":1', b'"format":' + literal))


@pytest.mark.parametrize("literal", [b"1e999", b"9" * 5000])
def test_numbers_beyond_all_bounds_are_no_sizes(literal: bytes) -> None:
    data = LINEAR.to_json()
    assert data.count(b"[1,2]") == 2
    refused(data.replace(b"[1,2]", b"[1," + literal + b"]"))


@pytest.mark.parametrize("depth", [500, 100_000])
def test_deep_nesting_is_refused_or_read(depth: int) -> None:
    data = graph(node("y", "aten.add.Tensor", Ref("x"), 12345)).to_json()
    with contextlib.suppress(BundleError):
        Graph.from_json(data.replace(b"12345", b"[" * depth + b"]" * depth))


@relaxed
@given(st.data())
def test_any_json_is_a_graph_or_refused(data: st.DataObject) -> None:
    """A sound graph with one part of it replaced by anything."""
    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["ref", "named", "dtype", "float", "a"]), inner, max_size=2)
        ),
        max_leaves=5,
    )
    table: Any = table_of(LINEAR)
    at, key = table, data.draw(st.sampled_from(sorted(table)))
    while isinstance(at[key], dict | list) and at[key] and data.draw(st.booleans()):
        at = at[key]
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
    at[key] = data.draw(anything)
    with contextlib.suppress(BundleError):
        Graph.from_json(json.dumps(table).encode())


@relaxed
@given(st.binary(max_size=64))
def test_any_bytes_are_refused(data: bytes) -> None:
    refused(data)


# ── running ─────────────────────────────────────────────────────────────────────────────────────────


def test_a_graph_gives_what_its_operators_give() -> None:
    weight, x = torch.randn(2, 2), torch.randn(1, 2)
    (y,) = GraphModule(LINEAR, {W.name: weight})(x)
    assert torch.equal(y, torch.nn.functional.linear(x, weight))


def test_a_missing_weight_is_named() -> None:
    with pytest.raises(BundleError, match="missing 'w:linear.weight'"):
        GraphModule(LINEAR, {})


@pytest.mark.parametrize(
    "given",
    [
        (torch.zeros(2, 2),),
        (torch.zeros(1, 3),),
        (torch.zeros(2),),
        (torch.zeros(1, 2, dtype=torch.float64),),
        (torch.zeros(1, 2, dtype=torch.int64),),
        (),
        (torch.zeros(1, 2), torch.zeros(1, 2)),
    ],
)
def test_other_inputs_than_were_captured_are_refused_before_an_operator_runs(given: tuple[Tensor, ...]) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        GraphModule(LINEAR, {W.name: torch.zeros(2, 2)})(*given)


def test_numbers_come_and_go_as_tensors_without_dimensions() -> None:
    n, f, b = (Value(name=name, dtype=f"py_{kind}") for name, kind in (("n", "int"), ("f", "float"), ("b", "bool")))
    made = graph(
        node("n2", "operator.add", Ref("n"), 1),
        node("f2", "operator.mul", Ref("f"), 0.5),
        node("b2", "torch.sym_not", Ref("b")),
        inputs=(n, f, b),
        outputs=tuple(Value(name=f"{one.name}2", dtype=one.dtype) for one in (n, f, b)),
    )
    given = (torch.tensor(2**40), torch.tensor(0.1, dtype=torch.float64), torch.tensor(False))
    found = GraphModule(made, {W.name: torch.zeros(2, 2)})(*given)
    assert [one.dtype for one in found] == [torch.int64, torch.float64, torch.bool]
    assert [one.item() for one in found] == [2**40 + 1, 0.05, True]
    assert all(one.ndim == 0 for one in found)
    with pytest.raises(InvalidInput, match="input n must be py_int"):
        GraphModule(made, {W.name: torch.zeros(2, 2)})(torch.tensor(1.0), *given[1:])


def test_a_value_is_let_go_after_its_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a chain of ten, never more than two values are alive: what a step reads and what it gives."""
    alive: weakref.WeakSet[Tensor] = weakref.WeakSet()
    most = 0
    negate = resolve("aten.neg.default")

    def watched(x: Tensor) -> Tensor:
        nonlocal most
        y: Tensor = negate(x)
        alive.add(y)
        most = max(most, len(alive))
        return y

    names = [f"n{place}" for place in range(10)]
    chain = [
        node(name, "aten.neg.default", Ref(before)) for before, name in zip(["x", *names], [*names, "y"], strict=True)
    ]
    module = GraphModule(graph(*chain, node("unused", "aten.neg.default", Ref("x"))), {W.name: torch.zeros(2, 2)})
    monkeypatch.setattr(module, "_steps", [(one, watched, last) for one, _, last in module._steps])
    (y,) = module(torch.ones(1, 2))
    assert torch.equal(y, -torch.ones(1, 2))
    assert most <= 3  # the unused one's for a moment as well


def test_an_output_and_an_input_are_kept_to_the_end() -> None:
    made = graph(node("y", "aten.neg.default", Ref("x")), node("z", "aten.neg.default", Ref("y")), outputs=(X, Y, Y))
    x = torch.ones(1, 2)
    first, second, third = GraphModule(made, {W.name: torch.zeros(2, 2)})(x)
    assert torch.equal(first, x)
    assert torch.equal(second, -x)
    assert torch.equal(third, -x)


def test_references_are_found_wherever_they_are() -> None:
    argument = (Ref("a"), [Ref("b"), {"k": (Ref("c"), 1)}], "d", None)
    assert [one.name for one in refs(argument)] == ["a", "b", "c"]
    assert node("y", "aten.add.Tensor", Ref("a"), Ref("a"), other=Ref("b")).inputs() == ["a", "b"]


# ── weights and inputs in memory ────────────────────────────────────────────────────────────────────


@st.composite
def an_order(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    shape = tuple(draw(st.lists(st.integers(1, 4), max_size=4)))
    return shape, tuple(draw(st.permutations(range(len(shape)))))


@relaxed
@given(an_order())
def test_weights_and_inputs_keep_their_order_in_memory(made: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    shape, order = made
    value = Value(name="v", dtype="float32", shape=shape, order=order)
    tensor = torch.randn([shape[dim] for dim in order]).permute([order.index(dim) for dim in range(len(order))])
    one = Graph(inputs=(value,), weights=(value,), nodes=(), outputs=())
    (again,) = restored(one, stored(one, {"v": tensor})).values()
    (given,) = laid_out(one.inputs, [tensor.contiguous().numpy()])
    for found in (again, given):
        assert torch.equal(found, tensor)
        assert found.permute(order).is_contiguous()


def test_views_of_one_weight_are_stored_each_by_itself() -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    views = {"a": whole, "b": whole.view(-1), "c": whole.t()}
    specs = [("a", (2, 3), (0, 1)), ("b", (6,), (0,)), ("c", (3, 2), (1, 0))]
    values = tuple(Value(name=name, dtype="float32", shape=shape, order=order) for name, shape, order in specs)
    made = Graph(inputs=(), weights=values, nodes=(), outputs=())
    kept = stored(made, views)
    assert len({one.untyped_storage().data_ptr() for one in kept.values()}) == 3
    assert all(torch.equal(restored(made, kept)[name], views[name]) for name in views)


@pytest.mark.parametrize(
    "held",
    [
        {},
        {W.name: torch.zeros(4)},
        {W.name: torch.zeros(2, 2, dtype=torch.float64)},
        {W.name: torch.zeros(2, 2, 1)},
        {"linear.weight": torch.zeros(2, 2)},
    ],
)
def test_other_weights_than_the_graph_says_are_refused(held: dict[str, Tensor]) -> None:
    with pytest.raises(BundleError, match=r"weight w:linear\.weight must be float32 \(2, 2\), got"):
        restored(LINEAR, held)


def test_arrays_of_another_shape_or_number_are_not_laid_out() -> None:
    for arrays in ([], [np.zeros((2, 1), np.float32)], [np.zeros((1, 2), np.float32)] * 2):
        with pytest.raises(InvalidInput, match="shapes"):
            laid_out((X,), arrays)
