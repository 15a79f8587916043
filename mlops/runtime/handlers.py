"""What a runner does with one frame: describe, predict, predict_columns, read_table. Runs where the model is (runner or in-process host).

An answer is (status, header, body): body is ready JSON, either the answer or a problem {"code", "detail", "hint", "errors"?}.
"""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson

from mlops.runtime import bodies
from mlops.runtime.formats.base import Model, ModelError, Outcome, said
from mlops.runtime.schema import Checker, SchemaError, from_model
from mlops.runtime.spec import ModelSpec

Answer = tuple[int, dict[str, Any], bytes]
_DETAIL_CHARACTERS = 500
_ID_ROWS = 1 << 20  # the low 20 bits of a prediction base are the row


class Refusal(Exception):
    """A request that gets a problem instead of an answer."""

    def __init__(
        self, status: int, code: str, detail: str, hint: str = "", errors: list[dict[str, Any]] | None = None
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.body = problem(code, detail, hint, errors)
        self.code = code


def problem(code: str, detail: str, hint: str = "", errors: list[dict[str, Any]] | None = None) -> bytes:
    """A problem's JSON; ``errors`` name columns and rows."""
    said: dict[str, Any] = {"code": code, "detail": detail[:_DETAIL_CHARACTERS], "hint": hint[:_DETAIL_CHARACTERS]}
    if errors:
        said["errors"] = errors
    return orjson.dumps(said, default=str)


class Session:
    """One loaded model and its spec, answering frames one after the other."""

    def __init__(self, model: Model | None, spec: ModelSpec) -> None:
        self.model = model
        self.spec = spec
        schema = spec.schema
        if schema is None and model is not None:
            schema = from_model(model.describe())
        self.schema = schema
        self._checker = Checker(schema, max_rows=spec.limits.rows) if schema is not None else None
        self._model_name = {"name": spec.name, "version": spec.version}
        self._ops: dict[str, Callable[[dict[str, Any], bytes], Answer]] = {
            "predict": self.predict,
            "predict_columns": self.predict_columns,
            "describe": self.describe,
            "read_table": self.read_table,
        }

    def handle(self, header: dict[str, Any], body: bytes) -> Answer:
        """The answer to one request; never raises except MemoryError's worse cousins (SystemExit, KeyboardInterrupt)."""
        op = self._ops.get(str(header.get("op")))
        try:
            if op is None:
                raise Refusal(400, "unknown_operation", f"A runner has no operation {header.get('op')!r}.")
            status, reply, answer = op(header, body)
        except Refusal as refusal:
            return refusal.status, {"code": refusal.code}, refusal.body
        except SchemaError as error:
            status = 413 if error.code == "too_many_rows" else 422
            return status, {"code": error.code}, problem(error.code, error.message, error.hint, error.errors)
        except ModelError as error:
            return 422, {"code": error.code}, problem(error.code, error.message, error.hint)
        except MemoryError:
            return 502, {"code": "out_of_memory"}, problem(
                "out_of_memory", "The model ran out of its memory quota.", "Send fewer rows per request or push a smaller model."
            )  # fmt: skip
        except Exception as error:  # noqa: BLE001  a model may raise anything at all
            return 500, {"code": "model_error"}, problem(
                "model_error", f"The model raised {said(error)}", "Try the same rows with the model on your own machine."
            )  # fmt: skip
        if len(answer) > self.spec.limits.reply_bytes:
            return 502, {"code": "reply_too_large"}, problem(
                "reply_too_large",
                f"The answer has {len(answer)} bytes, more than {self.spec.limits.reply_bytes}.",
                "Send fewer rows per request.",
            )  # fmt: skip
        return status, reply, answer

    # -- operations ---------------------------------------------------------------------------------------------

    def predict(self, header: dict[str, Any], body: bytes) -> Answer:
        """The native dialect: {"inputs": rows} in, predictions with ids, probabilities, classes and timings out."""
        start = time.perf_counter()
        if header.get("content_type", "application/json").partition(";")[0].strip().lower() != "application/json":
            raise Refusal(
                415, "unsupported_media_type", "Predictions take application/json.", 'Send {"inputs": [...]}.'
            )
        inputs, count = self._inputs(_object(body))
        parsed = time.perf_counter()
        outcome = self._predict(inputs, count)
        predicted = time.perf_counter()
        answer = self._native(outcome, header.get("base_id"))
        timings = {
            "parse": round((parsed - start) * 1e3, 3),
            "predict": round((predicted - parsed) * 1e3, 3),
            "total": round((time.perf_counter() - start) * 1e3, 3),
        }
        if header.get("load_ms") is not None:
            timings["load"] = round(float(header["load_ms"]), 1)
        answer["timings_ms"] = timings
        return 200, {"rows": count, "timings_ms": timings}, _json(answer)

    def predict_columns(self, header: dict[str, Any], body: bytes) -> Answer:
        """{"columns": {name: [values]}} or {"inputs": rows} in; values and probabilities without ids out (for validation and drift)."""
        parsed = _object(body)
        inputs, count = self._columns(parsed["columns"]) if "columns" in parsed else self._inputs(parsed)
        start = time.perf_counter()
        outcome = self._predict(inputs, count)
        timings = {"predict": round((time.perf_counter() - start) * 1e3, 3)}
        answer: dict[str, Any] = {"predictions": outcome.values, "classes": self._need().classes}
        if outcome.probabilities is not None:
            answer["probabilities"] = outcome.probabilities
        return 200, {"rows": count, "timings_ms": timings}, _json(answer)

    def describe(self, header: dict[str, Any], body: bytes) -> Answer:
        """What the model says about itself."""
        return 200, {}, _json(self._need().describe())

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
        return 200, {"rows": found.get("rows_total", 0)}, _json(found)

    # -- parts --------------------------------------------------------------------------------------------------

    def _need(self) -> Model:
        if self.model is None:
            raise Refusal(400, "not_a_model", "This is a data table; it does not predict.")
        return self.model

    def _inputs(self, parsed: dict[str, Any]) -> tuple[Any, int]:
        if "inputs" not in parsed:
            raise Refusal(
                400, "inputs_missing", 'The request has no "inputs".', 'Send {"inputs": [{"column": value}]}.'
            )
        if self._checker is not None:
            inputs = self._checker.rows(parsed["inputs"])
        else:
            inputs = _columns_of(parsed["inputs"], self.spec.limits.rows)
        return inputs, _rows(inputs)

    def _columns(self, columns: Any) -> tuple[Any, int]:
        if not isinstance(columns, dict) or not all(isinstance(values, list) for values in columns.values()):
            raise Refusal(400, "columns_invalid", '"columns" must map names to lists.')
        if len({len(values) for values in columns.values()}) > 1:
            raise Refusal(400, "columns_invalid", "The columns are not equally long.")
        if self._checker is not None and self._checker.kind == "table":
            columns = self._checker.columns(columns)
        return columns, _rows(columns)

    def _predict(self, inputs: Any, count: int) -> Outcome:
        model = self._need()
        outcome = model.predict(inputs, self.schema)
        if not isinstance(outcome.values, list) or len(outcome.values) != count:
            raise Refusal(
                422,
                "model_output_invalid",
                f"The model answered {len(outcome.values)} values for {count} rows.",
                "predict() must give one prediction per row.",
            )
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

    def _native(self, outcome: Outcome, base: str | None) -> dict[str, Any]:
        model = self._need()
        answer: dict[str, Any] = {"predictions": outcome.values}
        if outcome.probabilities is not None:
            answer["probabilities"] = outcome.probabilities
        if model.classes is not None:
            answer["classes"] = model.classes
        answer["prediction_ids"] = prediction_ids(base, len(outcome.values))
        answer["model"] = self._model_name
        return answer


def prediction_ids(base: str | None, count: int) -> list[str]:
    """Ids base, base + 1, ...: the log can then name every row from one id. A random base when none is given."""
    number = (uuid.UUID(base) if base else uuid.UUID(int=uuid.uuid4().int >> 20 << 20)).int
    if count <= 1:
        return [str(uuid.UUID(int=number + row)) for row in range(count)]
    low = number % _ID_ROWS
    if low + count > _ID_ROWS:
        return [str(uuid.UUID(int=number + row)) for row in range(count)]
    prefix = str(uuid.UUID(int=number))[:-5]
    return [f"{prefix}{low + row:05x}" for row in range(count)]


def _object(body: bytes) -> dict[str, Any]:
    try:
        parsed = bodies.parse(body)
    except ValueError as error:
        hint = "Send null for a missing value; " if b"Infinity" in body else ""
        raise Refusal(
            400, "invalid_json", f"The body is not JSON: {error}.", hint + 'Send {"inputs": [...]}.'
        ) from error
    if not isinstance(parsed, dict):
        raise Refusal(400, "invalid_request", "The body must be a JSON object.", 'Send {"inputs": [...]}.')
    return parsed


def _json(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS)


def _plain(value: Any) -> Any:
    """Leftovers that orjson does not know: numpy scalars and arrays of odd layout, everything else as text."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)


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
    for row, value in enumerate(values):
        if not _finite(value):
            return row
    return None


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
