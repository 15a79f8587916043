"""A model's ONNX form, made and proven at validation. Rows it was not proven on go to the native model, opened when the first one comes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from mlops.runtime.convert.plan import COLUMNS, KEY, MATRIX, SLOTS, TEXT, Plan, Unsuitable
from mlops.runtime.formats.base import Model, ModelError, Outcome
from mlops.runtime.formats.bound import OneRow, bound, open_session, run_of
from mlops.runtime.formats.fence import FENCE, LABELS, merged, on_the_fence, picked, rows_at, sure, usual
from mlops.runtime.formats.slots import Slot, fill
from mlops.runtime.formats.values import check_width, from_scores, ordered, plain

_SUM_OF_ONE = 1e-4
_USUAL = 1e30  # the squares of a row's numbers are less together: none is too large for any graph, or NaN


BEYOND = 1e30  # numbers this large overflow somewhere inside: the model itself says what it makes of them
_SQUARED = {np.dtype(np.float64): BEYOND**2, np.dtype(np.float32): 1e38}


def load(path: str, native: Callable[[], Model], *, eager: bool = False) -> Model:
    """The form in ``path``. ``native`` opens the model itself; ``eager`` does so now, for one that takes long to open."""
    session = open_session(path)
    try:
        plan = Plan.loads(session.get_modelmeta().custom_metadata_map.get(KEY, "null"))
    except (Unsuitable, ValueError, TypeError) as error:
        raise ModelError("accelerated_invalid", f"The accelerated form cannot be used: {error}.") from error
    model = AcceleratedModel(session, plan, native)
    if eager:
        model.native()
    return model


class AcceleratedModel(Model):
    """Answers with ONNX Runtime, as the plan says."""

    def __init__(self, session: Any, plan: Plan, native: Callable[[], Model]) -> None:
        super().__init__()
        self.plan = plan
        self._open = native
        self._native: Model | None = None
        self._run = run_of(session)
        self.session = session
        told = plan.native
        self.framework, self.task = told.get("framework", ""), told.get("task", "other")
        self.classes, self.inputs, self.tensor = told.get("classes"), told.get("inputs"), told.get("tensor")
        self.tensors, self.multilabel = told.get("tensors"), bool(told.get("multilabel"))
        self.classes_by_output = told.get("classes_by_output")
        self.probabilities = bool(told.get("probabilities"))
        self.libraries, self.notes = dict(told.get("libraries") or {}), list(told.get("notes") or [])
        self._labels = self.classes if plan.labels is not None else None
        self._renamed = (
            dict(zip(plan.labels, self.classes, strict=True))
            if plan.labels is not None and self.classes is not None and plan.labels != self.classes
            else None
        )
        self._feed = plan.feeds[0]["name"]
        self._dtype = np.dtype(plan.feeds[0]["dtype"])
        self._width = len(plan.names) if plan.names else len(plan.native.get("inputs") or []) or None
        self._squared = _SQUARED.get(self._dtype, 0.0)
        self._outputs = [name for name in ((None if plan.pick else plan.values), plan.chances) if name]
        self._slots = [Slot(name, dtype, tuple(shape)) for name, dtype, shape in plan.slots]
        # What one row of numbers goes through: made when the first one comes; None where there is no such way.
        self._one_row: OneRow | None = None
        self._may_bind = plan.way == MATRIX or (plan.way == SLOTS and len(self._slots) == 1)
        self._sound = self._labels is not None and {type(label) for label in self._labels} <= set(LABELS)
        self._schema_said: tuple[Any, dict[str, Any] | None] = (None, None)
        self._closed = {name: frozenset(levels) for name, levels in plan.closed.items()}

    def describe(self) -> dict[str, Any]:
        return {
            **self.plan.native,
            "accelerated": {"precision": self.plan.precision, "native_open": self._native is not None},
        }

    def native(self) -> Model:
        """The model itself."""
        if self._native is None:
            self._native = self._open()
        return self._native

    def _natively(self, columns: Any, schema: dict[str, Any] | None) -> Outcome:
        if (inputs := _stands_for(columns, schema)) is not None:
            columns = _columns_of(columns, inputs)
        return self.native().predict(columns, schema)

    def takes_table(self, names: tuple[str, ...]) -> bool:
        if self.plan.names not in (None, list(names)) or self._width not in (None, len(names)):
            return False
        if self.plan.way == SLOTS:
            one = self._slots[0]
            return len(self._slots) == 1 and one.dtype.startswith("float") and one.shape[1:] == (len(names),)
        return self.plan.way == MATRIX

    def predict(self, columns: Any, schema: dict[str, Any] | None = None) -> Outcome:
        way = self.plan.way
        if (
            self._may_bind
            and type(columns) is np.ndarray
            and len(columns) == 1
            and (quick := self._quick(columns, schema)) is not None
        ):
            return quick
        if way == SLOTS:
            return self._network(columns, schema)
        if way == MATRIX and _stands_for(columns, schema) is not None:
            return self._numbers_of(columns, columns, schema)
        if not isinstance(columns, dict):
            return self._natively(columns, schema)
        if way == MATRIX:
            return self._matrix(columns, schema)
        return self._columns(columns, schema)

    @property
    def picks(self) -> bool:
        """Whether it tells probabilities: rows with two near ones go to the native model."""
        return self.plan.chances is not None or self.plan.way == SLOTS

    def raw(self, columns: Any, schema: dict[str, Any] | None) -> Outcome:
        """The graph's own answer to every row, proven or not: what is compared before anything is kept."""
        plan = self.plan
        if plan.way == SLOTS:
            return self._scored(fill(self._slots, columns, plan.names), schema)
        if plan.way == MATRIX:
            table = np.array(ordered(columns, plan.names), self._dtype).T
            found = self._run(self._outputs, {self._feed: np.ascontiguousarray(table)})
        else:
            found = self._run(self._outputs, self._feeds(columns, set()))
        if not plan.pick:
            return self._read(found)
        scores, labels = self._expanded(found[0]), self._labels
        return Outcome([labels[place] for place in scores.argmax(axis=1).tolist()], plain(scores))  # type: ignore[index]

    # -- one row of numbers ---------------------------------------------------------------------------------------

    def _quick(self, table: np.ndarray, schema: dict[str, Any] | None) -> Outcome | None:
        """The outcome of one row of usual numbers that the graph is sure of; None for any other, which goes the long way."""
        network = self.plan.way == SLOTS
        if table.ndim != 2 or table.dtype.kind != "f" or not (network or (schema and schema["kind"] == "table")):
            return None
        flat = table[0]
        # One dot product finds NaN, infinity and what is too large at a fifth of the price of looking at each number.
        if not flat.dot(flat) < _USUAL:
            return None
        try:
            if self._one_row is None and not self._bind(table):
                return None
            assert self._one_row is not None
            found = self._one_row(table)
        except Exception:  # noqa: BLE001  whatever it is, the long way meets it too
            return None
        if network:
            return self._told(found[0], 1, table, schema)
        if self.plan.chances is None:
            return self._read(found)
        chances = found[-1]
        if chances.ndim != 2 or chances.shape[1] < 2:
            if chances.size != 1:
                return None
            chances = self._expanded(chances)  # of the second of two classes
        row = chances[0].tolist()
        if self.plan.pick:
            return picked(self._labels, row)
        return self._read(found) if sure(row) else None

    def _bind(self, table: np.ndarray) -> bool:
        feed = self.plan.feeds[0]
        self._one_row = bound(self.session, feed["name"], np.dtype(feed["dtype"]), self._outputs, table)
        self._may_bind = self._one_row is not None
        return self._may_bind

    # -- one matrix -----------------------------------------------------------------------------------------------

    def _matrix(self, columns: dict[str, Any], schema: dict[str, Any] | None) -> Outcome:
        check_width(len(columns), self._width)
        names = self.plan.names
        chosen = list(columns.values()) if names is None else ordered(columns, names)
        try:
            if len(chosen[0]) == 1:
                flat = np.array([value for (value,) in chosen], self._dtype)
                # One dot product finds NaN, infinity and numbers beyond at a fifth of the price of looking at each.
                if not flat.dot(flat) < self._squared and not self._within(flat).all():
                    return self._natively(columns, schema)
                return self._one({self._feed: flat.reshape(1, -1)}, columns, schema)
            table = np.array(chosen, self._dtype).T
        except (TypeError, ValueError, OverflowError):
            return self._natively(columns, schema)
        return self._numbers_of(table, columns, schema)

    def _numbers_of(self, table: np.ndarray, columns: Any, schema: dict[str, Any] | None) -> Outcome:
        fine = self._within(table)
        if not fine.all():
            return self._split(np.asarray(fine.all(axis=1)), columns, schema)
        return self._many({self._feed: np.ascontiguousarray(table, self._dtype)}, columns, schema)

    def _within(self, table: np.ndarray) -> np.ndarray:
        """The numbers that the graph was proven to answer."""
        fine: np.ndarray = np.abs(table) < BEYOND
        return fine | np.isnan(table) if self.plan.nulls else fine

    # -- a graph input per column -----------------------------------------------------------------------------------

    def _columns(self, columns: dict[str, Any], schema: dict[str, Any] | None) -> Outcome:
        check_width(len(columns), self._width)
        bad: set[int] = set()
        try:
            feeds = self._feeds(columns, bad)
        except (TypeError, ValueError, OverflowError, KeyError):
            return self._natively(columns, schema)
        rows = len(next(iter(columns.values())))
        if bad:
            good = np.ones(rows, dtype=bool)
            good[list(bad)] = False
            return self._split(good, columns, schema)
        return self._one(feeds, columns, schema) if rows == 1 else self._many(feeds, columns, schema)

    def _feeds(self, columns: dict[str, Any], bad: set[int]) -> dict[str, np.ndarray]:
        """An array per input of the graph; rows it was not proven on are added to ``bad``."""
        plan = self.plan
        values = ordered(columns, plan.names)
        chosen = dict(zip(plan.names or columns, values, strict=True))
        feeds = {}
        for feed in plan.feeds:
            names = feed["columns"] if plan.way == COLUMNS else list(chosen)
            block = [chosen[name] for name in names]
            make = self._texts if feed["dtype"] == "object" else self._numbers
            feeds[feed["name"]] = make(names, feed["dtype"], block, bad)
        return feeds

    def _texts(self, names: list[str], dtype: str, block: list[Any], bad: set[int]) -> np.ndarray:
        table = np.empty((len(block[0]), len(block)), dtype=object)
        for place, (name, values) in enumerate(zip(names, block, strict=True)):
            known = self._closed.get(name)
            if known is not None:
                bad.update(row for row, value in enumerate(values) if value not in known)
            elif name in self.plan.ascii:
                bad.update(row for row, value in enumerate(values) if value is None or not value.isascii())
            elif None in values:
                bad.update(row for row, value in enumerate(values) if value is None)
            table[:, place] = ["" if value is None else value for value in values] if bad else values
        return table[:, 0] if self.plan.way == TEXT else table

    def _numbers(self, names: list[str], dtype: str, block: list[Any], bad: set[int]) -> np.ndarray:
        if len(block[0]) == 1 and usual(row := [value for (value,) in block]):
            return np.array([row], dtype)
        table = np.ascontiguousarray(np.array(block, dtype).T)
        fine = self._within(table)
        if not fine.all():
            bad.update(np.flatnonzero(~fine.all(axis=1)).tolist())
        return table

    # -- answers ----------------------------------------------------------------------------------------------------

    def _one(self, feeds: dict[str, Any], columns: Any, schema: dict[str, Any] | None) -> Outcome:
        plan = self.plan
        found = self._run(self._outputs, feeds)
        if plan.chances is None:
            return self._read(found)
        chances = self._chances(found[-1])
        row = chances[0]
        if plan.pick and (quick := picked(self._labels, row)) is not None:
            return quick
        if not plan.pick and sure(row):
            return self._read(found)
        best = max(row)
        limit = best - FENCE
        if sum(value > limit for value in row) > 1:
            return self._natively(columns, schema)
        labels: Any = self._labels
        return Outcome([labels[row.index(best)]], chances) if plan.pick else self._read(found)

    def _many(self, feeds: dict[str, Any], columns: Any, schema: dict[str, Any] | None) -> Outcome:
        plan = self.plan
        found = self._run(self._outputs, feeds)
        if plan.chances is None:
            return self._read(found)
        scores = self._expanded(found[-1])
        near = on_the_fence(scores)
        if near.any():
            return self._split(~near, columns, schema)
        if not plan.pick:
            return self._read(found)
        labels: Any = self._labels
        values = [labels[place] for place in scores.argmax(axis=1).tolist()]
        if np.isfinite(scores).all():
            return Outcome(values, scores.tolist(), self._sound)
        return Outcome(values, plain(scores))

    def _read(self, found: list[Any]) -> Outcome:
        plan = self.plan
        if plan.values is None:
            return Outcome([], self._chances(found[0]))
        values = found[0].reshape(-1) if plan.flat else found[0]
        listed = plain(values)
        if self._renamed is not None:
            listed = [self._renamed.get(value, value) if not isinstance(value, list) else value for value in listed]
        return Outcome(listed, self._chances(found[1]) if plan.chances else None)

    def _chances(self, array: np.ndarray) -> list[list[float]]:
        found: list[list[float]] = self._expanded(array).tolist()
        return found

    def _expanded(self, array: np.ndarray) -> np.ndarray:
        if array.ndim == 2 and array.shape[1] > 1:
            return array
        one = array.reshape(-1, 1).astype(np.float64)
        return np.hstack([1.0 - one, one])

    def _split(self, good: np.ndarray, columns: Any, schema: dict[str, Any] | None) -> Outcome:
        """Rows the graph was not proven on to the native model, the others to the graph."""
        if not good.any():
            return self._natively(columns, schema)
        places = (np.flatnonzero(good).tolist(), np.flatnonzero(~good).tolist())
        parts = [rows_at(columns, chosen) for chosen in places]
        # The native model first: when it refuses a row, the request is refused as it always was.
        other = self._natively(parts[1], schema)
        mine = self.predict(parts[0], schema)
        return merged(places, (mine, other), len(good))

    # -- networks ---------------------------------------------------------------------------------------------------

    def _network(self, columns: Any, schema: dict[str, Any] | None) -> Outcome:
        arrays = fill(self._slots, columns, self.plan.names)
        for array in arrays:
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                return self._natively(columns, schema)
        return self._told(self._graph(arrays), len(arrays[0]), columns, schema)

    def _told(self, scores: Any, rows: int, columns: Any, schema: dict[str, Any] | None) -> Outcome:
        """What the graph's scores of these rows say."""
        said = self._said(schema)
        if rows == 1 and (quick := self._alone(scores, said)) is not None:
            return quick
        if not scores.ndim or len(scores) != rows:
            return self._natively(columns, schema)
        if scores.ndim == 2 and scores.shape[1] > 1 and scores.dtype.kind == "f":
            # Scores this near make probabilities within FENCE of each other, whatever makes the one of the other.
            near = on_the_fence(scores, 2 * scores.shape[1] * FENCE)
            if near.any():
                return self._split(~near, columns, schema)
        return from_scores(scores, said, self.classes)

    def _alone(self, scores: np.ndarray, output: dict[str, Any] | None) -> Outcome | None:
        """One row of class scores without an array for each step; None for anything else."""
        labels = (output or {}).get("classes") or self.classes
        if not labels or scores.shape != (1, len(labels)) or len(labels) < 2 or scores.dtype.kind != "f":
            return None
        if output is not None and output.get("task", "classifier") != "classifier":
            return None
        row = scores[0].tolist()
        activation = (output or {}).get("activation")
        if activation is None:
            likely = min(row) >= 0.0 and max(row) <= 1.0 and abs(sum(row) - 1.0) <= _SUM_OF_ONE
            activation = "none" if likely else "softmax"
        if activation == "softmax":
            top = max(row)
            powers = [math.exp(value - top) for value in row]
            total = sum(powers)
            row = [power / total for power in powers]
        elif activation != "none":
            return None
        return picked(labels, row)

    def _scored(self, arrays: list[np.ndarray], schema: dict[str, Any] | None) -> Outcome:
        scores = self._graph(arrays)
        return from_scores(scores, self._said(schema), self.classes) if scores.ndim else Outcome([])

    def _graph(self, arrays: list[np.ndarray]) -> Any:
        feeds = {feed["name"]: array for feed, array in zip(self.plan.feeds, arrays, strict=True)}
        return self._run(self._outputs, feeds)[0]

    def _said(self, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        """What the schema says of the answer. Asked with the same schema nearly always."""
        if self._schema_said[0] is not schema or schema is None:
            self._schema_said = (schema, self._output(schema))
        return self._schema_said[1]

    def _output(self, schema: dict[str, Any] | None) -> dict[str, Any] | None:
        output = (schema or {}).get("output")
        if self.classes is not None and (output is None or output.get("task") == "other"):
            kept = {"activation": output["activation"]} if output and "activation" in output else {}
            return {"task": "classifier", "classes": self.classes, **kept}
        return output


def _stands_for(columns: Any, schema: dict[str, Any] | None) -> list[dict[str, Any]] | None:
    """The columns that an array stands for; None where it is a tensor, or there are columns."""
    table = isinstance(columns, np.ndarray) and schema is not None and schema["kind"] == "table"
    return schema["inputs"] if table and schema is not None else None


def _columns_of(table: np.ndarray, inputs: list[dict[str, Any]]) -> dict[str, list[Any]]:
    return {
        column["name"]: (values.astype(np.int64) if column["type"] == "long" else values).tolist()
        for column, values in zip(inputs, table.T, strict=True)
    }
