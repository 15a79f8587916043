"""What a runner does with one frame: predict (in any dialect), predict_columns, describe, read_table. Runs where the model is (runner or in-process host).

An answer is (status, header, body): body is ready JSON, either the answer or a problem {"code", "detail", "hint", "errors"?}.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from mlops.runtime import bodies, bulk, convert, devices, dialects, explain, unpacking
from mlops.runtime.dialects import Dialect, Question
from mlops.runtime.dialects.native import dumps, inputs_of, parsed_object
from mlops.runtime.formats.base import Model, ModelError, Outcome, said
from mlops.runtime.refusals import Refusal, problem
from mlops.runtime.schema import Checker, SchemaError, from_model
from mlops.runtime.spec import ModelSpec

Answer = tuple[int, dict[str, Any], bytes]
_ROWS, _LABELS, _NUMBERS = {list}, {str, int, bool}, {float, int}


@dataclass(slots=True)
class Asked:
    """A prediction request whose body was read: what the model is asked, and how to say the answer."""

    header: dict[str, Any]
    dialect: Dialect
    question: Question
    parse_s: float


class Session:
    """One loaded model and its spec, answering frames one after the other."""

    def __init__(self, model: Model | None, spec: ModelSpec, on_cpu: Callable[[], Model] | None = None) -> None:
        """``on_cpu`` loads the same model on the CPU: for one on a GPU, when that has no memory left for a call."""
        self.model = model
        self.spec = spec
        self._on_cpu = on_cpu
        schema = spec.schema
        if schema is None and model is not None:
            schema = from_model(model.describe())
        self.schema = schema
        self._checker = Checker(schema, max_rows=spec.limits.rows) if schema is not None else None
        self._takes_table = (
            self._checker is not None
            and self._checker.kind == "table"
            and model is not None
            and model.takes_table(self._checker.names)
        )
        self.model_name = {"name": spec.name, "version": spec.version}
        self.facts: Callable[[], dict[str, Any]] = dict  # what whoever runs this session adds to ``describe``
        self._ops: dict[str, Callable[[dict[str, Any], bytes], Answer]] = {
            "predict": self.predict,
            "predict_columns": self.predict_columns,
            "describe": self.describe,
            "read_table": self.read_table,
            **bulk.operations(self),
            **explain.operations(self),
            **convert.operations(self),
            **unpacking.operations(self),
        }

    @property
    def classes(self) -> list[Any] | None:
        """The model's labels. Code of a user's own may say them with its answers only."""
        if self.model is None:
            return None
        return self.model.classes if self.model.classes is not None else self.model.classes_by_output

    def handle(self, header: dict[str, Any], body: bytes) -> Answer:
        """The answer to one request; never raises except MemoryError's worse cousins (SystemExit, KeyboardInterrupt)."""
        op = self._ops.get(str(header.get("op")))
        try:
            if op is None:
                raise Refusal(400, "unknown_operation", f"A runner has no operation {header.get('op')!r}.")
            return self._bounded(*op(header, body))
        except Exception as error:  # noqa: BLE001  a model may raise anything at all
            return refused(error)

    def _bounded(self, status: int, reply: dict[str, Any], answer: bytes) -> Answer:
        if len(answer) > self.spec.limits.reply_bytes:
            return 502, {"code": "reply_too_large"}, problem(
                "reply_too_large",
                f"The answer has {len(answer)} bytes, more than {self.spec.limits.reply_bytes}.",
                "Send fewer rows per request.",
            )  # fmt: skip
        return status, reply, answer

    # -- operations ---------------------------------------------------------------------------------------------

    def predict(self, header: dict[str, Any], body: bytes) -> Answer:
        """One request in any dialect."""
        asked = self.decode(header, body)
        start = time.perf_counter()
        outcome = self.predict_outcome(asked.question.inputs, asked.question.count)
        return self.encode(asked, outcome, time.perf_counter() - start)

    def decode(self, header: dict[str, Any], body: bytes) -> Asked:
        """The first step of ``predict``: bytes to checked inputs. Raises Refusal or SchemaError."""
        start = time.perf_counter()
        dialect = dialects.get(header.get("dialect", "native"))
        question = dialect.decode(self, header, body)
        return Asked(header, dialect, question, time.perf_counter() - start)

    def encode(self, asked: Asked, outcome: Outcome, predict_s: float) -> Answer:
        """The last step: the outcome as bytes in the request's own dialect."""
        parse_s = asked.parse_s
        timings = {"parse": _ms(parse_s), "predict": _ms(predict_s), "total": _ms(parse_s + predict_s)}
        if (load_ms := asked.header.get("load_ms")) is not None:
            timings["load"] = round(float(load_ms), 1)
        reply, answer = asked.dialect.encode(self, asked.header, asked.question, outcome, timings)
        return self._bounded(200, reply, answer)

    def predict_columns(self, header: dict[str, Any], body: bytes) -> Answer:
        """{"columns": {name: [values]}} or {"inputs": rows} in; values and probabilities without ids out (for validation and drift)."""
        parsed = parsed_object(body)
        asked = self.columns_question(parsed["columns"]) if "columns" in parsed else self.question(inputs_of(parsed))
        start = time.perf_counter()
        outcome = self.predict_outcome(asked.inputs, asked.count)
        timings = {"predict": round((time.perf_counter() - start) * 1e3, 3)}
        answer: dict[str, Any] = {"predictions": outcome.values, "classes": self._need().classes}
        if outcome.probabilities is not None:
            answer["probabilities"] = outcome.probabilities
        return 200, {"rows": asked.count, "timings_ms": timings}, dumps(answer)

    def describe(self, header: dict[str, Any], body: bytes) -> Answer:
        """What the model says about itself."""
        return 200, {}, dumps(self._need().describe() | self.facts())

    def read_table(self, header: dict[str, Any], body: bytes) -> Answer:
        """The spec's file as canonical columns; ``args`` has format (csv, parquet, json) and max_rows."""
        from mlops.runtime import tables

        args = header.get("args") or {}
        try:
            found = tables.read(
                str(args.get("path") or self.spec.path),
                str(args.get("format", "csv")),
                int(args.get("max_rows", 100_000)),
            )
        except tables.TableError as error:
            raise Refusal(422, error.code, error.message, error.hint) from error
        return 200, {"rows": found.get("rows_total", 0)}, dumps(found)

    def _call(self, inputs: Any) -> Outcome:
        try:
            return self._need().predict(inputs, self.schema)
        except Exception as error:
            if self._on_cpu is None or not devices.is_out_of_memory(error):
                raise
        # Not inside the handler: the error's traceback holds what filled the memory.
        self._leave_gpu()
        return self._need().predict(inputs, self.schema)

    def _leave_gpu(self) -> None:
        """Its memory there is given back before the model is loaded again: it was full."""
        load, self._on_cpu, self.model = self._on_cpu, None, None
        assert load is not None
        devices.give_back()
        self.model = load()

    # -- parts --------------------------------------------------------------------------------------------------

    def _need(self) -> Model:
        if self.model is None:
            raise Refusal(400, "not_a_model", "This is a data table; it does not predict.")
        return self.model

    def question(self, inputs: Any) -> Question:
        """Rows of a request, checked against the schema. Raises SchemaError or Refusal."""
        checker = self._checker
        checked = _columns_of(inputs, self.spec.limits.rows) if checker is None else checker.rows(inputs)
        return Question(checked, _rows(checked))

    def numbers_asked(self, body: bytes) -> Question | None:
        """The question of a small body that is nothing but {"inputs": rows of plain numbers}, for a model that takes an array.

        None for any other, and for any that is to be refused. Such rows are flat, so nothing else needs to be known of the JSON.
        """
        if self._takes_table:
            parsed = bodies.small(body)
            if type(parsed) is dict and len(parsed) == 1 and self._checker is not None:
                table = self._checker.table(parsed.get("inputs"))
                return None if table is None else Question(table, len(table))
        return None

    def numbers_question(self, inputs: Any) -> Question:
        """The same, and many rows of numbers as one array where the model takes that."""
        if self._takes_table and self._checker is not None and (table := self._checker.table(inputs)) is not None:
            return Question(table, len(table))
        return self.question(inputs)

    def columns_question(self, columns: Any) -> Question:
        """The same for named columns, of one length."""
        if not isinstance(columns, dict) or not all(isinstance(each, (list, np.ndarray)) for each in columns.values()):
            raise Refusal(400, "columns_invalid", '"columns" must map names to lists.')
        if len({len(values) for values in columns.values()}) > 1:
            raise Refusal(400, "columns_invalid", "The columns are not equally long.")
        if self._checker is not None and self._checker.kind != "tensor":
            columns = self._checker.columns(columns)
        return Question(columns, _rows(columns))

    def predict_outcome(self, inputs: Any, count: int) -> Outcome:
        """What the model answers to checked inputs: one finite value per row. Raises Refusal, or whatever the model raises."""
        outcome = self._call(inputs)
        if not isinstance(outcome.values, list) or len(outcome.values) != count:
            raise Refusal(
                422,
                "model_output_invalid",
                f"The model answered {len(outcome.values)} values for {count} rows.",
                "predict() must give one prediction per row.",
            )
        if outcome.finite:
            return outcome
        # Loaders turn NaN into None, so None in place of a prediction is refused as well.
        row = _first_invalid(outcome.values)
        if row is None and outcome.probabilities is not None:
            row = _first_invalid(outcome.probabilities)
        if row is not None:
            raise Refusal(
                422,
                "model_output_invalid",
                f"The model answered NaN, infinity or nothing for row {row}.",
                "Check that row's values; a missing value the model was not trained on is the usual reason.",
                [{"row": row, "message": "the prediction is not a finite number"}],
            )
        return outcome


def refused(error: Exception) -> Answer:
    """What the caller of a request is told that raised ``error``, wherever on its way."""
    if isinstance(error, Refusal):
        return error.status, {"code": error.code}, error.body
    if isinstance(error, SchemaError):
        status = 413 if error.code == "too_many_rows" else 422
        return status, {"code": error.code}, problem(error.code, error.message, error.hint, error.errors)
    if isinstance(error, ModelError):
        return 422, {"code": error.code}, problem(error.code, error.message, error.hint)
    if isinstance(error, MemoryError):
        return 502, {"code": "out_of_memory"}, problem(
            "out_of_memory", "The model ran out of its memory quota.", "Send fewer rows per request or push a smaller model."
        )  # fmt: skip
    return 500, {"code": "model_error"}, problem(
        "model_error", f"The model raised {said(error)}", "Try the same rows with the model on your own machine."
    )  # fmt: skip


def _ms(seconds: float) -> float:
    """Milliseconds with three digits, a fifth of the price of ``round``."""
    return int(seconds * 1e6 + 0.5) / 1e3


def _rows(inputs: Any) -> int:
    if isinstance(inputs, dict):
        return len(next(iter(inputs.values()), []))
    return len(inputs)


def _columns_of(rows: Any, limit: int) -> dict[str, list[Any]]:
    """Columns of rows for a model that says nothing about its inputs."""
    rows = [rows] if isinstance(rows, dict) else rows
    if not isinstance(rows, list) or not rows:
        raise Refusal(
            422, "inputs_invalid", '"inputs" must be a list of rows.', 'Send {"inputs": [{"column": value}]}.'
        )
    if len(rows) > limit:
        raise Refusal(
            413, "too_many_rows", f"{len(rows)} rows are more than {limit}.", "Send them in several requests."
        )
    if all(isinstance(row, dict) for row in rows):
        names = list(rows[0])
        if any(list(row) != names for row in rows):
            raise Refusal(422, "inputs_invalid", "The rows do not all have the same columns in the same order.")
        return {name: [row[name] for row in rows] for name in names}
    if all(isinstance(row, list) and len(row) == len(rows[0]) for row in rows):
        return {f"f{index}": [row[index] for row in rows] for index in range(len(rows[0]))}
    raise Refusal(422, "inputs_invalid", "The rows are not all objects or all lists of one length.")


def _first_invalid(values: list[Any]) -> int | None:
    """The first row with NaN, infinity or nothing in it."""
    if _plainly_finite(values):
        return None
    for row, value in enumerate(values):
        if not _finite(value):
            return row
    return None


def _plainly_finite(values: list[Any]) -> bool:
    """A quick yes for what models usually answer: labels, numbers, or rows of numbers. NaN and infinity survive a sum."""
    kinds = set(map(type, values))
    rows = kinds == _ROWS
    if rows:
        kinds = set(map(type, chain.from_iterable(values)))
    if kinds <= _LABELS:
        return True
    try:
        return kinds <= _NUMBERS and math.isfinite(sum(chain.from_iterable(values) if rows else values))
    except OverflowError:
        return False


def _finite(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if value is None:
        return False
    if isinstance(value, list):
        return all(_finite(item) for item in value)
    if isinstance(value, dict):  # a record may leave a field empty
        return all(item is None or _finite(item) for item in value.values())
    return True
