"""Slipway's own dialect: {"inputs": rows} in; predictions with ids, probabilities, classes and timings out."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import orjson

from mlops.runtime import bodies
from mlops.runtime.dialects import Question
from mlops.runtime.formats.base import Outcome
from mlops.runtime.refusals import Refusal

if TYPE_CHECKING:
    from mlops.runtime.handlers import Session

_JSON = "application/json"
_ID_ROWS = 1 << 20  # the low 20 bits of a prediction base are the row
_TAILS = 1024
_tails = [f"{number:05x}" for number in range(_TAILS)]
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


def decode(session: Session, header: dict[str, Any], body: bytes) -> Question:
    content_type = header.get("content_type", _JSON)
    if content_type != _JSON and content_type.partition(";")[0].strip().lower() != _JSON:
        raise Refusal(415, "unsupported_media_type", "Predictions take application/json.", 'Send {"inputs": [...]}.')
    return session.numbers_asked(body) or session.numbers_question(
        inputs_of(parsed_object(body, session.spec.limits.rows))
    )


def encode(
    session: Session, header: dict[str, Any], question: Question, outcome: Outcome, timings: dict[str, float]
) -> tuple[dict[str, Any], bytes]:
    said = answer(session, outcome, header.get("base_id"))
    said["timings_ms"] = timings
    return {"rows": question.count}, dumps(said)


def inputs_of(parsed: dict[str, Any]) -> Any:
    """What stands under "inputs"."""
    if "inputs" not in parsed:
        raise Refusal(400, "inputs_missing", 'The request has no "inputs".', 'Send {"inputs": [{"column": value}]}.')
    return parsed["inputs"]


def answer(session: Session, outcome: Outcome, base: str | None) -> dict[str, Any]:
    """The native answer, without timings."""
    said: dict[str, Any] = {"predictions": outcome.values}
    if outcome.probabilities is not None:
        said["probabilities"] = outcome.probabilities
    if session.classes is not None:
        said["classes"] = session.classes
    said["prediction_ids"] = prediction_ids(base, len(outcome.values))
    said["model"] = session.model_name
    return said


def prediction_ids(base: str | None, count: int) -> list[str]:
    """Ids base, base + 1, ...: the log can then name every row from one id. A random base when none is given."""
    digits = base or f"{uuid.uuid4().int >> 20 << 20:032x}"
    if len(digits) != 32:  # with hyphens: not ours
        digits = uuid.UUID(digits).hex
    prefix = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:27]}"
    if digits[27:] == _tails[0] and count == 1:  # one row, and a base as the web process makes it
        return [prefix + _tails[0]]
    low = int(digits[27:], 16)
    if low + count <= _TAILS:
        return [prefix + tail for tail in _tails[low : low + count]]
    if low + count > _ID_ROWS:
        return [str(uuid.UUID(int=int(digits, 16) + row)) for row in range(count)]
    return [f"{prefix}{number:05x}" for number in range(low, low + count)]


def parsed_object(body: bytes, max_rows: int = 0) -> dict[str, Any]:
    """The body as a JSON object. Raises Refusal."""
    try:
        parsed = bodies.parse(body, max_rows)
    except bodies.Unfit:
        raise
    except ValueError as error:
        hint = "Send null for a missing value; " if b"Infinity" in body else ""
        raise Refusal(
            400, "invalid_json", f"The body is not JSON: {error}.", hint + 'Send {"inputs": [...]}.'
        ) from error
    if not isinstance(parsed, dict):
        raise Refusal(400, "invalid_request", "The body must be a JSON object.", 'Send {"inputs": [...]}.')
    return parsed


def dumps(value: Any) -> bytes:
    """JSON of an answer; numpy scalars and arrays of odd layout as lists, everything else that JSON does not know as text."""
    return orjson.dumps(value, default=_plain, option=_OPTIONS)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return str(value)
