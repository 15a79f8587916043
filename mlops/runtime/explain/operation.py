"""The operation ``explain``: rows in a dialect's form in, SHAP values as JSON out. The first way that fits the model is taken."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops.runtime import dialects
from mlops.runtime.dialects import Question
from mlops.runtime.dialects.native import dumps
from mlops.runtime.explain import linear, permutation, trees
from mlops.runtime.explain.parts import PREDICTION, PROBABILITY, SCORE, Explanation, NotThisWay
from mlops.runtime.formats.base import Model, Outcome
from mlops.runtime.refusals import Refusal
from mlops.runtime.schema import SchemaError, example_row

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

MAX_ROWS = 1_000
_NUMBERS = 2_000_000  # in one answer
# Steps that change each column by itself: what a later model says about their column n is about our column n.
_ONE_BY_ONE = {
    "StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler", "SimpleImputer", "QuantileTransformer", "PowerTransformer",
}  # fmt: skip
METHODS = ("auto", "permutation")
_FEW_ROWS = 10


def explain(session: Session, header: dict[str, Any], body: bytes) -> tuple[int, dict[str, Any], bytes]:
    """``args``: dialect (of the body), content_type, method, background (native rows that the model takes)."""
    began = time.perf_counter()
    args = header.get("args") or {}
    method = str(args.get("method") or "auto")
    if method not in METHODS:
        raise Refusal(
            400, "unknown_method", f"There is no way {method[:40]!r} to explain.", f"Ways: {', '.join(METHODS)}."
        )
    dialect = dialects.get(str(args.get("dialect") or "native"))
    question = dialect.decode(session, {"content_type": str(args.get("content_type") or "application/json")}, body)
    if question.count > MAX_ROWS:
        raise Refusal(
            413, "too_many_rows", f"{question.count:,} rows are more than {MAX_ROWS:,}.", "Explain fewer rows."
        )
    model = session.model
    if model is None:
        raise Refusal(400, "not_a_model", "This is a data table; it does not predict.")
    native: Model = model.native() if hasattr(model, "native") else model
    _Table.of(question.inputs)  # refuses tensors of more dimensions before anything is computed
    outcome = session.predict_outcome(question.inputs, question.count)
    _one_output(native, outcome)
    found = _explained(session, native, question, args.get("background"), method)
    if found.values.size > _NUMBERS:
        raise Refusal(413, "too_much_to_explain", "The explanation has too many numbers.", "Explain fewer rows.")
    said = _said(session, question, found) | {"predictions": outcome.values}
    elapsed = round((time.perf_counter() - began) * 1e3, 3)
    return 200, {"rows": question.count}, dumps(said | {"model": session.model_name, "timings_ms": {"total": elapsed}})


def _one_output(model: Model, outcome: Outcome) -> None:
    """Raises Refusal for objects of several outputs, and for the labels of several."""
    if model.classes_by_output or isinstance(outcome.values[0], dict):
        raise Refusal(
            422, "not_explainable", "The answer has several outputs; one answer is explained, not several.",
            "Explain a model of each output on its own.",
        )  # fmt: skip


def _said(session: Session, question: Question, found: Explanation) -> dict[str, Any]:
    classes = _classes(session)
    classes = classes if classes is not None and len(classes) == len(found.base) else None
    single = classes is None and len(found.base) == 1
    return {
        "method": found.method,
        "exact": found.exact,
        "explains": found.kind,
        "columns": _Table.of(question.inputs).names,
        "classes": classes,
        "base_values": float(found.base[0]) if single else found.base,
        "values": np.ascontiguousarray(found.values[:, 0] if single else found.values),
        "outputs": np.ascontiguousarray(found.explained[:, 0] if single else found.explained),
    }


def _classes(session: Session) -> list[Any] | None:
    """The model's labels in its order; a network's are in the schema only."""
    return session.classes or ((session.schema or {}).get("output") or {}).get("classes")


def _explained(session: Session, native: Model, question: Question, background: Any, method: str) -> Explanation:
    if method == "auto":
        try:
            found = _exact(session, native, question, background)
            if found.adds_up():
                return found
        except NotThisWay:
            pass
    return _by_permutation(session, native, question, background)


def _exact(session: Session, native: Any, question: Question, background: Any) -> Explanation:
    """Trees and linear models by their own structure. Raises NotThisWay."""
    if hasattr(native, "booster") and isinstance(question.inputs, dict):
        return trees.explain_booster(native, question.inputs, session.schema)
    if not hasattr(native, "estimator") or getattr(native, "way", "") not in ("table", "frame"):
        raise NotThisWay("no trees, not linear")
    table = native.table(question.inputs, session.schema)
    final, table = _peeled(native.estimator, table)
    if type(final).__module__.startswith(("xgboost", "lightgbm")):
        return trees.explain_wrapped(final, table, native.classes)
    if trees.is_tree(final):
        return trees.explain_trees(final, table)
    if linear.is_linear(final):
        inputs = _background(session, background).inputs
        _, middle = _peeled(native.estimator, native.table(inputs, session.schema))
        return linear.explain_linear(final, table, middle)
    raise NotThisWay("no trees, not linear")


def _peeled(estimator: Any, table: Any) -> tuple[Any, Any]:
    """(the last step, the table as it sees it) when all steps before it work column by column. Raises NotThisWay."""
    width = table.shape[1]
    while getattr(estimator, "steps", None):
        for _, step in estimator.steps[:-1]:
            if step is None or step == "passthrough":
                continue
            known = type(step).__name__ in _ONE_BY_ONE and type(step).__module__.startswith("sklearn.")
            table = step.transform(table) if known else None
            if table is None or table.shape[1] != width:
                raise NotThisWay("a step mixes columns")
        estimator = estimator.steps[-1][1]
    return estimator, table


def _by_permutation(session: Session, native: Model, question: Question, background: Any) -> Explanation:
    table = _Table.of(question.inputs)
    others = _Table.of(_background(session, background).inputs)
    kind: list[str] = []

    def ask(inputs: Any) -> np.ndarray:
        outcome = native.predict(inputs, session.schema)
        if outcome.probabilities is not None:
            kind[:] = [PROBABILITY]
            return np.asarray(outcome.probabilities, dtype=np.float64)
        kind[:] = [PREDICTION if native.task == "regressor" else SCORE]
        return _as_numbers(outcome.values, _classes(session))

    found = permutation.explain_any(ask, table.rows, others.rows, table.rebuild, SCORE)
    return Explanation(found.values, found.base, found.explained, found.method, kind[0], found.exact)


def _as_numbers(values: list[Any], classes: list[Any] | None) -> np.ndarray:
    """[rows, outputs]: numbers as they are, labels as one column per class."""
    if classes is not None:
        return np.array([[float(value == label) for label in classes] for value in values])
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise Refusal(
            422,
            "not_explainable",
            "The model answers neither numbers nor known classes.",
            "Name its classes in the schema.",
        ) from error
    return array.reshape(len(values), -1)


class _Table:
    """Checked inputs as rows of values, and back: columns of a table, or a tensor of rank 2."""

    def __init__(self, names: list[str], rows: list[list[Any]], dtype: Any) -> None:
        self.names, self.rows, self._dtype = names, rows, dtype

    @classmethod
    def of(cls, inputs: Any) -> _Table:
        several = isinstance(inputs, dict) and any(isinstance(values, np.ndarray) for values in inputs.values())
        if several or isinstance(inputs, list):
            raise Refusal(
                422, "not_explainable", "Rows of any JSON, or of several tensors, are not explained column by column.",
                "Explanations take tables, and tensors of rows and columns.",
            )  # fmt: skip
        if isinstance(inputs, dict):
            return cls(list(inputs), [list(row) for row in zip(*inputs.values(), strict=True)], None)
        if inputs.ndim != 2:
            raise Refusal(
                422, "not_explainable", f"A tensor of {inputs.ndim} dimensions is not explained column by column.",
                "Explanations take tables, and tensors of rows and columns.",
            )  # fmt: skip
        return cls([f"f{place}" for place in range(inputs.shape[1])], inputs.tolist(), inputs.dtype)

    def rebuild(self, rows: list[list[Any]]) -> Any:
        if self._dtype is not None:
            return np.array(rows, dtype=self._dtype)
        return {name: list(values) for name, values in zip(self.names, zip(*rows, strict=True), strict=True)}


def _background(session: Session, given: Any) -> Question:
    """Rows to compare with: those given, and when they are few, rows drawn from the schema's ranges and levels too."""
    rows = given if isinstance(given, list) else []
    drawn = _drawn(session.schema) if len(rows) < _FEW_ROWS and session.schema is not None else []
    example = [example_row(session.schema)] if session.schema is not None else []
    for chosen in ([*rows, *drawn], rows, drawn, example):
        if chosen:
            try:
                return session.question(chosen)
            except (SchemaError, Refusal):
                continue
    raise Refusal(422, "no_background", "There are no rows to compare with.", "Push the version with a sample.")


def _drawn(schema: dict[str, Any]) -> list[Any]:
    """Rows within what the schema says of its columns; none where it says nothing."""
    known = [
        column for column in schema["inputs"] if column.get("levels") or column["type"] == "boolean" or _range(column)
    ]
    if not known:
        return []
    example, draw = example_row(schema), random.Random(11)  # noqa: S311  the same rows each time
    return [example | {column["name"]: _value(column, draw) for column in known} for _ in range(_FEW_ROWS)]


def _range(column: dict[str, Any]) -> bool:
    return column["type"] in ("double", "long") and column.get("min") is not None and column.get("max") is not None


def _value(column: dict[str, Any], draw: random.Random) -> Any:
    if column.get("levels"):
        return draw.choice(column["levels"])
    if column["type"] == "boolean":
        return draw.random() < 0.5
    value = draw.uniform(column["min"], column["max"])
    return round(value) if column["type"] == "long" else value
