"""Rows of plain numbers go the shortest way through a runner, and get what the complete way gives them: every byte, every refusal."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import orjson
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mlops.runtime import formats
from mlops.runtime.convert.plan import MATRIX, SLOTS, Plan, pruned
from mlops.runtime.formats.accelerated import AcceleratedModel
from mlops.runtime.formats.base import Outcome
from mlops.runtime.formats.bound import bound, open_session
from mlops.runtime.formats.fence import FENCE, on_the_fence, picked, sure, usual
from mlops.runtime.formats.values import from_scores
from mlops.runtime.handlers import Session
from mlops.runtime.handlers import _first_invalid as first_invalid
from mlops.runtime.limits import Limits
from tests.runner_host import model_spec

NAMES = ["a", "b", "c"]
BASE = "0198f00000007000a0000000000" + "00000"
HEADER = {"op": "predict", "dialect": "native", "content_type": "application/json", "base_id": BASE}


def schema(classes: list[Any] | None, **of_columns: dict[str, Any]) -> dict[str, Any]:
    inputs = [{"name": name, "type": "double", "nullable": False} | of_columns.get(name, {}) for name in NAMES]
    output = {
        "task": "classifier" if classes else "regressor",
        "classes": classes,
        "probabilities": classes is not None,
    }
    return {"kind": "table", "inputs": inputs, "tensor": None, "output": output, "source": "reference"}


def estimators() -> dict[str, tuple[Any, dict[str, Any]]]:
    from sklearn.linear_model import LinearRegression, LogisticRegression

    x = np.random.default_rng(0).normal(size=(200, 3))
    return {
        "two classes": (LogisticRegression().fit(x, x[:, 0] > 0), schema([False, True])),
        "three classes": (
            LogisticRegression().fit(x, np.array(["low", "mid", "top"])[np.digitize(x[:, 1], (-0.5, 0.5))]),
            schema(["low", "mid", "top"], b={"type": "long"}),
        ),
        "a number": (LinearRegression().fit(x, x @ [3, 2, 1]), schema(None, c={"nullable": True})),
    }


OWN_ONNX = "an ONNX file of their own"


@pytest.fixture(scope="module", params=["two classes", "three classes", "a number", OWN_ONNX])
def ways(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Session, Session]:
    """The same model: as it is, and without the short way."""
    estimator, told = estimators()["two classes" if request.param == OWN_ONNX else request.param]
    folder: Path = tmp_path_factory.mktemp("quick")
    joblib.dump(estimator, folder / "model.joblib")
    spec = model_spec(folder / "model.joblib", schema=told, name="quick", version=2, limits=Limits(rows=20))
    native = Session(formats.open_spec(spec), spec)
    status, header, file = native.handle({"op": "convert", "args": {"budget_s": 30}}, b"")
    assert (status, header["record"]["status"]) == (200, "accelerated"), header
    (folder / "model.onnx").write_bytes(file)

    def session() -> Session:
        from mlops.runtime.formats import accelerated

        if request.param == OWN_ONNX:
            own = model_spec(
                folder / "model.onnx", "onnx", schema=told, name="quick", version=2, limits=Limits(rows=20)
            )
            return Session(formats.open_spec(own), own)
        return Session(accelerated.load(str(folder / "model.onnx"), lambda: formats.open_spec(spec)), spec)

    quick, complete = session(), session()
    assert quick._takes_table
    complete._takes_table = False
    return quick, complete


def same(ways: tuple[Session, Session], body: bytes, **header: Any) -> tuple[int, dict[str, Any]]:
    """(status, answer), which both ways give alike but for the time it took."""
    told = [way.handle({**HEADER, **header}, body) for way in ways]
    answers = [json.loads(answer) for _, _, answer in told]
    for answer in answers:
        answer.pop("timings_ms", None)
    assert told[0][:2] == told[1][:2]
    assert orjson.dumps(answers[0]) == orjson.dumps(answers[1])
    keys = [list(json.loads(answer)) for _, _, answer in told]
    assert keys[0] == keys[1]
    return told[0][0], answers[0]


USUAL = st.floats(-50, 50).map(lambda value: round(value, 3)) | st.integers(-50, 50)
ODD = st.sampled_from(
    [0, 1, -0.0, True, False, None, "1", "", 2**53, -(2**53) - 1, 2**63, 2**64, 1e15, 1e29, 1e31, 1e300, 1e-300, [], [1], {}, {"a": 1}]
)  # fmt: skip
ROW = (
    st.lists(USUAL, min_size=3, max_size=3)
    | st.lists(USUAL | ODD, min_size=3, max_size=3)
    | st.lists(USUAL, max_size=4)
)


def named(order: str) -> Callable[[list[Any]], Any]:
    return lambda row: dict(zip(order, row, strict=False))


SHAPED = st.sampled_from([list, named("abc"), named("cab"), named("abd"), named("ab")])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(ROW, min_size=1, max_size=3) | st.lists(ROW, max_size=25),
    shape=SHAPED,
    alone=st.booleans(),
    beside=st.sampled_from([{}, {}, {}, {"parameters": {}}, {"inputs": 3}]),
)
@example(rows=[[1.5, 2, 0.25]], shape=named("abc"), alone=False, beside={})
@example(rows=[[1.5, 2, 0.25]] * 20, shape=list, alone=False, beside={})
@example(rows=[[1.5, 2, 0.25]] * 21, shape=list, alone=False, beside={})
def test_any_rows_get_the_same_answer_or_the_same_refusal(
    ways: tuple[Session, Session], rows: list[list[Any]], shape: Any, alone: bool, beside: dict[str, Any]
) -> None:
    shaped = [shape(row) for row in rows]
    same(ways, orjson.dumps({"inputs": shaped[0] if alone and shaped else shaped, **beside}, option=orjson.OPT_NON_STR_KEYS)
         if all(_fits(row) for row in rows) else json.dumps({"inputs": shaped, **beside}).encode())  # fmt: skip


def _fits(row: list[Any]) -> bool:
    return not any(isinstance(value, int) and abs(value) >= 2**63 for value in row)


DEEP = b'{"inputs": ' + b"[" * 70 + b"]" * 70 + b"}"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"inputs": [[1, 2, NaN]]}', None), (b'{"inputs": [[1, 2, Infinity]]}', 400), (b'{"inputs": [[1, 2, 3]', 400), (b"", 400),
        (b"[[1, 2, 3]]", 400), (b'{"rows": []}', 400), (b'{"inputs": []}', 422), (DEEP, 400), (b'{"x": ' + DEEP + b', "inputs": [[1, 2, 3]]}', 400),
        (b'{"inputs": [[1, 2, 3]], "inputs": 5}', 422), (b'{"inputs": [{"a": 1, "b": 2, "c": 3, "a": 4}]}', 200),
        (b'{"inputs": [' + b",".join([b"[1,2,3]"] * 60_000) + b"]}", 413), (b"\xff", 400),
    ],
)  # fmt: skip
def test_bodies_that_are_no_plain_rows(ways: tuple[Session, Session], body: bytes, said: int | None) -> None:
    status, _ = same(ways, body)
    assert said is None or status == said


def test_it_is_the_short_way_that_is_tested(ways: tuple[Session, Session]) -> None:
    quick, complete = ways
    body = orjson.dumps({"inputs": [[1.5, 2, 0.25]]})
    assert isinstance(quick.decode(HEADER, body).question.inputs, np.ndarray)
    assert isinstance(complete.decode(HEADER, body).question.inputs, dict)
    status, answer = same(ways, body)
    assert (status, answer["prediction_ids"]) == (200, ["0198f000-0000-7000-a000-000000000000"])
    assert quick.model is not None
    assert quick.model._one_row is not None  # type: ignore[attr-defined]


def test_a_row_on_the_fence_is_the_models_own_to_answer(ways: tuple[Session, Session]) -> None:
    """Two classes as near as rounding: both ways ask the native model."""
    quick, complete = ways
    if quick.classes != [False, True] or not isinstance(quick.model, AcceleratedModel):
        pytest.skip("a fence has two sides, and a model behind it")
    native = quick.model.native()
    low, high = -5.0, 5.0
    for _ in range(60):
        middle = (low + high) / 2
        chances = native.predict({"a": [middle], "b": [0.0], "c": [0.0]}, quick.schema).probabilities
        low, high = (middle, high) if chances[0][1] < 0.5 else (low, middle)  # type: ignore[index]
    for width in (0.0, FENCE / 2, -FENCE / 2, FENCE, 3 * FENCE):
        same(ways, orjson.dumps({"inputs": [[low + width, 0.0, 0.0]]}))
    outcome = quick.model.predict(np.array([[low, 0.0, 0.0]]), quick.schema)
    assert outcome == native.predict({"a": [low], "b": [0.0], "c": [0.0]}, quick.schema)


@pytest.mark.parametrize(
    "base", [None, BASE.upper(), "0198f000-0000-7000-a000-0000000003ff", "f" * 32, "0" * 29 + "3ff"]
)
def test_every_row_has_an_id_of_its_own(ways: tuple[Session, Session], base: str | None) -> None:
    import uuid

    told = json.loads(ways[0].handle({**HEADER, "base_id": base}, orjson.dumps({"inputs": [[1.5, 2, 0.25]] * 3}))[2])
    ids = [uuid.UUID(each).int for each in told.get("prediction_ids", [])]
    assert base == "f" * 32 or [each - ids[0] for each in ids] == [0, 1, 2]
    assert base in (None, "f" * 32) or ids[0] == uuid.UUID(base).int


# -- the memory that is bound -----------------------------------------------------------------------------------------


def test_rows_through_bound_memory_are_independent_and_of_one_width(ways: tuple[Session, Session]) -> None:
    model = ways[0].model
    if not isinstance(model, AcceleratedModel):
        pytest.skip("the same, with other names")
    rows = np.random.default_rng(3).normal(size=(5, 1, 3))
    one = bound(model.session, model._feed, model._dtype, model._outputs, rows[0])
    assert one is not None
    for row in rows:
        alone = model.session.run(model._outputs, {model._feed: row.astype(model._dtype)})
        assert [answer.tolist() for answer in one(row)] == [answer.tolist() for answer in alone]
    with pytest.raises(ValueError, match="a row of shape"):
        one(np.zeros((1, 1)))


def test_answers_that_are_not_arrays_of_numbers_are_not_bound() -> None:
    class Texts:
        def run(self, outputs: list[str], feeds: dict[str, np.ndarray]) -> list[Any]:
            return [np.array(["yes"], dtype=object)]

    assert bound(Texts(), "x", np.dtype(np.float32), ["label"], np.zeros((1, 3))) is None


class Counted:
    """A session that counts its runs."""

    def __init__(self, session: Any) -> None:
        self._session, self.runs = session, 0
        self.io_binding = session.io_binding

    def run(self, *args: Any) -> Any:
        self.runs += 1
        return self._session.run(*args)

    def run_with_iobinding(self, *args: Any) -> Any:
        self.runs += 1
        return self._session.run_with_iobinding(*args)


def network(shape: list[Any], answer: list[Any], *nodes: tuple[str, list[str], str, dict[str, Any]]) -> bytes:
    """From x to y by nodes of (operator, inputs, output, attributes)."""
    from onnx import TensorProto, helper

    made = helper.make_graph(
        [helper.make_node(kind, inputs, [output], **attributes) for kind, inputs, output, attributes in nodes],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, answer)],
        [
            helper.make_tensor("second", TensorProto.INT64, [1], [1]),
            helper.make_tensor("0", TensorProto.FLOAT, [], [0]),
        ],
    )
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(whole.SerializeToString())


def chance(keepdims: int) -> bytes:
    total = ("ReduceSum", ["x", "second"], "sum", {"keepdims": keepdims})
    return network([None, 3], [None, 1][: 1 + keepdims], total, ("Sigmoid", ["sum"], "y", {}))


EMBEDDING = network([None, 3], [None, 3], ("Neg", ["x"], "y", {}))
CHOSEN = network(  # the positive numbers of a row
    [None, 3],
    ["rows", "some"],
    ("Squeeze", ["x"], "row", {}),
    ("Greater", ["row", "0"], "positive", {}),
    ("Compress", ["x", "positive"], "y", {"axis": 1}),
)
NETWORKS = {
    "a number": (network([None, 3], [None, 1], ("ReduceSum", ["x", "second"], "y", {})), None),
    "numbers": (EMBEDDING, None),
    "one chance": (chance(1), ["no", "yes"]),
    "scores": (EMBEDDING, ["a", "b", "c"]),
    "other labels": (EMBEDDING, ["a", "b"]),
    "a tensor": (network([None, 3, 2], [None, 3], ("ReduceMean", ["x"], "y", {"axes": [2], "keepdims": 0})), None),
    "a tensor's scores": (network([None, 3, 2], [None, 3], ("ReduceMean", ["x"], "y", {"axes": [2], "keepdims": 0})), ["a", "b", "c"]),
    "some numbers": (CHOSEN, None),
}  # fmt: skip


def accelerated(file: bytes, plan: Plan) -> tuple[AcceleratedModel, Counted]:
    def native() -> Any:
        raise AssertionError("the graph has an answer")

    session = Counted(open_session(file))
    return AcceleratedModel(session, plan, native), session


def same_in_one_run(quick: Any, complete: Any, session: Counted, rows: list[np.ndarray], told: Any) -> None:
    """After the first rows, each is one run of the graph, with the answer of the complete way."""
    complete._may_bind = False
    for place, row in enumerate(rows):
        before = session.runs
        outcome = quick.predict(row, told)
        if place >= 2:
            assert session.runs - before == 1
        found = complete.predict(row, told)
        assert (outcome.values, outcome.probabilities) == (found.values, found.probabilities)


ROWS = [[1.0, 2.0, -4.0], [1.5, 2.0, 4.0], [2.0, -1.0, 5.0], [-1.0, -3.0, 8.0], [1.0, 2.0, 3.0], [3.0, 2.0, -1.0]]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_row_is_one_run_of_a_network(name: str) -> None:
    file, classes = NETWORKS[name]
    shape = [-1, 3, 2] if name.startswith("a tensor") else [-1, 3]
    plan = Plan(
        SLOTS, "float32", [{"name": "x", "dtype": "float32"}], None, values="y",
        slots=[["x", "float32", shape]], native={"classes": classes},
    )  # fmt: skip
    rows = [np.array([row]) for row in ROWS]
    if len(shape) == 3:
        rows = [np.stack([row, row + 1], axis=2) for row in rows]
    (quick, session), (complete, _) = accelerated(file, plan), accelerated(file, plan)
    same_in_one_run(quick, complete, session, rows, None)


@pytest.mark.parametrize("keepdims", [0, 1])
def test_a_row_is_one_run_of_a_graph_that_tells_one_of_two_chances(keepdims: int) -> None:
    plan = Plan(
        MATRIX, "float32", [{"name": "x", "dtype": "float32"}], NAMES, chances="y", labels=[False, True], pick=True,
        native={"classes": [False, True]},
    )  # fmt: skip
    (quick, session), (complete, _) = accelerated(chance(keepdims), plan), accelerated(chance(keepdims), plan)
    same_in_one_run(quick, complete, session, [np.array([row]) for row in ROWS], schema([False, True]))


def test_a_row_is_one_run_of_a_file_whose_answers_change_their_shape(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(CHOSEN)
    quick, complete = (formats.load(str(tmp_path / "m.onnx"), "onnx") for _ in range(2))
    session = quick.session = Counted(quick.session)  # type: ignore[attr-defined]
    same_in_one_run(quick, complete, session, [np.array([row]) for row in ROWS], None)


# -- the graph itself -------------------------------------------------------------------------------------------------


def graph(*, nested: bool = False) -> Any:
    """y = x + one, and beside it label = x - two, worked out by nodes of its own."""
    from onnx import TensorProto, helper

    def told(name: str) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3])

    def constant(name: str, value: float) -> Any:
        return helper.make_tensor(name, TensorProto.FLOAT, [1], [value])

    nodes = [
        helper.make_node("Sub", ["x", "two"], ["label"]),
        helper.make_node("Add", ["x", "one"], ["sum"]),
        helper.make_node("Identity", ["sum"], ["y"]),
    ]
    if nested:
        inner = helper.make_graph([helper.make_node("Identity", ["sum"], ["in"])], "inner", [], [told("in")])
        yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
        nodes += [
            helper.make_node("Constant", [], ["ask"], value=yes),
            helper.make_node("If", ["ask"], ["other"], then_branch=inner, else_branch=inner),
        ]
    made = helper.make_graph(
        nodes, "g", [told("x")], [told("label"), told("y")], [constant("one", 1), constant("two", 2)]
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_leads_to_no_answer_is_cut_from_the_graph() -> None:
    whole = graph()
    cut = pruned(whole, "y")
    assert [node.op_type for node in cut.graph.node] == ["Add", "Identity"]
    assert [each.name for each in cut.graph.initializer] == ["one"]
    assert len(whole.graph.node) == 3
    session = open_session(cut.SerializeToString())
    assert session.run(None, {"x": np.ones((1, 3), np.float32)})[0].tolist() == [[2.0, 2.0, 2.0]]


def test_a_graph_with_graphs_inside_is_left_whole() -> None:
    whole = graph(nested=True)
    assert pruned(whole, "y") is whole


# -- what is said to be finite ----------------------------------------------------------------------------------------

NUMBER = st.floats(-5, 5) | st.sampled_from([math.nan, math.inf, -math.inf, 1e308, 0.0])


@settings(deadline=None)
@given(
    scores=st.integers(2, 3).flatmap(lambda width: st.lists(st.lists(NUMBER, min_size=width, max_size=width), min_size=1, max_size=3)),
    labels=st.sampled_from([None, ["a", "b", "c"], [0, 1, 2], [None, "b", "c"], [math.nan, 1.0, 2.0], [0.5, 1.5, 2.5]]),
    activation=st.sampled_from([None, "none", "softmax", "sigmoid"]),
)  # fmt: skip
def test_an_outcome_that_is_said_to_be_finite_is(
    scores: list[list[float]], labels: Any, activation: str | None
) -> None:
    names = None if labels is None else labels[: len(scores[0])]
    with np.errstate(all="ignore"):
        outcome = from_scores(np.array(scores), {"task": "classifier", "activation": activation}, names)
    invalid = first_invalid(outcome.values), first_invalid(outcome.probabilities or [])
    if outcome.finite:
        assert invalid == (None, None)
    elif names is None or isinstance(names[0], (str, int)):  # nothing but the numbers is in doubt
        assert invalid != (None, None)


@settings(deadline=None)
@given(row=st.lists(NUMBER | st.just(0.5) | st.just(0.5 + FENCE / 2), min_size=2, max_size=4))
def test_who_is_sure_of_a_row_is_not_on_the_fence(row: list[float]) -> None:
    outcome = picked(list("abcd"), row)
    assert (outcome is not None) == sure(row)
    if outcome is not None:
        assert all(map(math.isfinite, row))
        assert not on_the_fence(np.array([row])).any()
        assert outcome == Outcome([list("abcd")[int(np.argmax(row))]], [row])
        assert outcome.finite
    elif all(abs(value) < 1e300 for value in row):
        assert on_the_fence(np.array([row])).all()


@pytest.mark.parametrize(
    ("row", "said"),
    [([1.5, 2, True], True), ([1e14], True), ([1e15], False), ([math.nan, 1.0], False), ([None, 1.0], False), (["1"], False), ([10**400], False)],
)  # fmt: skip
def test_usual_numbers_are_told_from_all_else(row: list[Any], said: bool) -> None:
    assert usual(row) is said
