"""KServe's (and TensorFlow Serving's) version 1: {"instances": rows} in, {"predictions": values} out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops.runtime.dialects import Question
from mlops.runtime.dialects.native import dumps, parsed_object
from mlops.runtime.dialects.record import appended, native_pair
from mlops.runtime.formats.base import Outcome
from mlops.runtime.refusals import Refusal

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

_HINT = 'Send {"instances": [[...], ...]} or {"instances": [{"column": value}, ...]}.'


def decode(session: Session, header: dict[str, Any], body: bytes) -> Question:
    request = parsed_object(body, session.spec.limits.rows)
    rows = request.get("instances", request.get("inputs"))
    if not isinstance(rows, list):
        raise Refusal(400, "inputs_missing", 'The request has no list "instances".', _HINT)
    return session.question(singles_as_rows(session, rows))


def encode(
    session: Session, header: dict[str, Any], question: Question, outcome: Outcome, timings: dict[str, float]
) -> tuple[dict[str, Any], bytes]:
    log, body = appended(
        dumps({"predictions": outcome.values}), native_pair(session, header, question, outcome, timings)
    )
    return {"rows": question.count, "timings_ms": timings, "log": log}, body


def singles_as_rows(session: Session, rows: list[Any]) -> list[Any]:
    """For a model of one column its bare values are rows too: ["a text", "another"]."""
    schema = session.schema
    if schema is None or schema["kind"] != "table" or len(schema["inputs"]) != 1:
        return rows
    return [row if isinstance(row, (dict, list)) else [row] for row in rows]
