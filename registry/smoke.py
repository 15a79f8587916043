"""The smoke prediction: rows that should work, predicted for real, and the time one row takes."""

from __future__ import annotations

import math
import statistics
import time
from dataclasses import dataclass
from typing import Any

import orjson

from mlops.core import errors
from mlops.runtime.dialects import tensors
from mlops.runtime.schema import example_row
from registry import profiling
from registry.checking import Validation, answer, refuse

MAX_ROWS = 200
CALLS, CALLS_S = 20, 4.0  # one-row calls that are timed, and the most time they may take
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Result:
    rows: list[Any]
    count: int
    origin: str
    compared: bool
    timings: dict[str, float]
    answered: dict[str, Any]  # datatype and shape of what it answers, in the words of the Open Inference Protocol


def predict(validation: Validation) -> Result:
    """Predict the sample (``test_data.json``), else rows of the reference, else a row made from the schema.

    Raises Invalid when the model fails, answers NaN, or answers something else than the sample's ``expected``.
    """
    rows, origin, expected = _rows(validation)
    spec = validation.ready_spec
    seconds = min(spec.limits.predict_s, validation.remaining_s())
    body = orjson.dumps({"inputs": rows})
    made_up = origin == "the schema"
    what = "A row made up from the schema did not work: " if made_up else f"Predicting {origin}: "
    reply = validation.host.predict(spec, body, timeout_s=seconds)
    try:
        predicted = answer(reply, what)["predictions"]
    except errors.Invalid as error:
        if made_up and error.code in ("model_error", "not_a_number"):  # nobody has such rows on his machine
            error.hint = "Push a sample (JSON or CSV) with real rows: it tells the columns' types and is tried instead."
        raise
    if expected is not None:
        _compare(predicted, expected)
    seen = tensors.of_values("predict", predicted)
    answered = {"datatype": seen.datatype, "shape": [-1, *seen.shape[1:]]}
    return Result(rows, len(rows), origin, expected is not None, _time_one(validation, rows[0]), answered)


def _rows(validation: Validation) -> tuple[list[Any], str, list[Any] | None]:
    sample = profiling.sample_of(validation)
    if sample is not None:
        rows = sample.rows_for(validation.schema, MAX_ROWS)
        return rows, "the sample", sample.expected[: len(rows)] if sample.expected is not None else None
    reference = profiling.reference_of(validation)
    if reference is not None and reference.has(validation.schema):
        return reference.rows_for(validation.schema, 5), "the reference", None
    return [example_row(validation.schema)], "the schema", None


def _time_one(validation: Validation, row: Any) -> dict[str, float]:
    """Milliseconds of single-row calls, as a caller inside this machine sees them."""
    body, taken, until = orjson.dumps({"inputs": [row]}), [], time.monotonic() + CALLS_S
    while len(taken) < CALLS and (not taken or time.monotonic() < until):
        started = time.perf_counter()
        validation.host.predict(validation.ready_spec, body)
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    worst = taken[min(len(taken) - 1, math.ceil(0.95 * len(taken)) - 1)]
    return {"predict_ms_p50": round(statistics.median(taken), 3), "predict_ms_p95": round(worst, 3)}


def _compare(predicted: list[Any], expected: list[Any]) -> None:
    if len(expected) != len(predicted):
        refuse(
            "expected_differs",
            f"The sample expects {len(expected)} predictions for {len(predicted)} rows.",
            "Give one expected value per row.",
        )
    for row, (got, wanted) in enumerate(zip(predicted, expected, strict=True)):
        if not _same(got, wanted):
            refuse(
                "expected_differs",
                f"Row {row} of the sample predicts {got!r}, expected is {wanted!r}.",
                "The model may need the library versions it was trained with, or the sample belongs to another model.",
            )


def _same(got: Any, wanted: Any) -> bool:
    if isinstance(got, list) and isinstance(wanted, list):
        return len(got) == len(wanted) and all(map(_same, got, wanted))
    if isinstance(got, dict) and isinstance(wanted, dict):
        return got.keys() == wanted.keys() and all(_same(got[key], wanted[key]) for key in wanted)
    numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in (got, wanted))
    return math.isclose(got, wanted, rel_tol=TOLERANCE, abs_tol=TOLERANCE) if numbers else got == wanted
