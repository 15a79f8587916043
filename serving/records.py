"""From a spool record to rows: what was asked and answered, per predicted row, under the schema's column names.

Bodies come from clients and from runners, which are the tenants' code: anything may stand in them, nothing here may raise.
JSON values are kept as the text that the database takes: a row is written down once, and nobody makes it of objects again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice, zip_longest
from typing import Any, NamedTuple

import orjson

from mlops.core.storable import storable
from mlops.runtime import bodies
from serving.models import PredictionLog
from serving.redaction import NOT_KEPT, Redactor
from serving.spool import Record

MAX_ROWS = 100_000
MAX_TENSOR_COLUMNS = 1_000
EXCERPT_CHARACTERS = 2_000


class Row(NamedTuple):
    """What the rows of one request differ in, by the names of PredictionLog's columns. The last three are JSON, or None."""

    id: str
    row: int
    features: str | None = None
    prediction: str | None = None
    probabilities: str | None = None


@dataclass(slots=True)
class Call:
    """One request of the log: what the counters need, its rows, and what these share (by PredictionLog's names)."""

    organization_id: int
    deployment_id: int
    version_id: int | None
    at: datetime
    status: int
    latency_ms: float
    via: str
    rows: list[Row]
    pinned: bool = False
    request_id: str = ""
    key_prefix: str = ""
    error_code: str = ""
    error_detail: str = ""
    request_excerpt: str = ""
    timings_ms: str | None = None  # JSON

    @property
    def production(self) -> bool:
        """Whether it counts as traffic: a preview's does not."""
        return self.via != PredictionLog.PREVIEW

    @property
    def answered_rows(self) -> int:
        return len(self.rows) if self.status < 400 else 0


def parse(record: Record, columns: Callable[[int], Columns | None], redactor: Redactor | None = None) -> Call:
    """``columns`` knows those of a version; ``redactor``: what the deployment's policy does to its rows. Raises KeyError, TypeError or ValueError when the header is not one that ``prediction_log.append`` writes."""
    head = record.header
    call = Call(
        organization_id=int(head["organization"]),
        deployment_id=int(head["deployment"]),
        version_id=head["version"],
        at=datetime.fromtimestamp(head["at"], tz=UTC),
        status=int(head["status"]),
        latency_ms=float(head["latency_ms"]),
        via=str(head.get("via", ""))[:10],
        rows=[],
        pinned=bool(head.get("pinned")),
        request_id=str(head["request_id"])[:64],
        key_prefix=str(head["key"])[:8],
        error_code=str(head["code"])[:60],
    )
    first = int(head["id"], 16)
    if call.status < 400:
        _answered(call, record, first, columns(head["version"]), redactor)
    elif call.status != 429:  # counted in the traffic, not kept one by one: a limit must also protect the log
        _failed(call, record, first, redactor)
    return call


def _failed(call: Call, record: Record, first: int, redactor: Redactor | None) -> None:
    call.rows.append(Row(f"{first:032x}", 0))
    if redactor is not None:  # anything may stand in what could not be understood, and a refusal quotes it
        call.error_detail = NOT_KEPT
        return
    excerpt = record.request[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace").replace("\x00", "\ufffd")
    detail = str(record.header.get("detail", "")).replace("\x00", "\ufffd")
    call.error_detail, call.request_excerpt = detail[:500], excerpt[:EXCERPT_CHARACTERS]


def _answered(call: Call, record: Record, first: int, columns: Columns | None, redactor: Redactor | None) -> None:
    asked, answer = as_object(record.request), as_object(record.response)
    features = named_rows(columns, asked.get("inputs"))
    if redactor is not None:
        features = [redactor.row(row) for row in features]
    predictions = _listed(answer.get("predictions"))
    timings = answer.get("timings_ms")
    if isinstance(timings, dict) and len(timings) < 20:
        call.timings_ms = _text(timings)
    count = len(features) or min(len(predictions), MAX_ROWS)
    values = zip_longest(features, predictions, _listed(answer.get("probabilities")))
    call.rows = [
        Row(f"{first + row:032x}", row, _text(given), _text(said), _text(chances))
        for row, (given, said, chances) in enumerate(islice(values, count))
    ]


def _text(value: Any) -> str | None:
    """JSON, as PredictionLog's columns hold it: nothing where there is none."""
    if value is None:
        return None
    try:
        return orjson.dumps(value).decode()
    except TypeError:  # a number of more than 64 bits
        return json.dumps(value)


def as_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one where there is none."""
    try:
        parsed = bodies.parse(body)
    except ValueError:
        return {}
    if b"\\u0000" in body or b"NaN" in body:  # with NaN it was read by Python, which takes more than JSON has
        parsed = storable(parsed)
    return parsed if isinstance(parsed, dict) else {}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


class Columns(NamedTuple):
    """What the values of a version's rows are called: its schema's columns, or a tensor's ``f0``, ``f1``, ..."""

    names: list[str]
    tensor: bool
    kept: bool = True  # rows of any JSON have no columns: nothing of them is kept


def columns_of(schema: dict[str, Any] | None) -> Columns:
    schema = schema or {}
    if schema.get("kind") == "tensor":
        return Columns([], tensor=True)
    if schema.get("kind") == "json":
        return Columns([], tensor=False, kept=False)
    return Columns([column["name"] for column in schema.get("inputs") or []], tensor=False)


def named_rows(columns: Columns | None, inputs: Any) -> list[dict[str, Any] | None]:
    """Rows as ``{column: value}`` in the schema's order: from objects, from lists (schema order), from one object.

    A tensor's row is ``{"f0": ..., "f1": ...}``, or None when it has more than one dimension or 1,000 numbers.
    """
    rows = [inputs] if isinstance(inputs, dict) else _listed(inputs)[:MAX_ROWS]
    names, tensor, kept = columns or _UNKNOWN
    if not kept:
        return [None] * len(rows)
    if tensor:
        return [_tensor_row(row) for row in rows]
    return [_table_row(names, row) for row in rows]


_UNKNOWN = columns_of(None)


def _table_row(names: list[str], row: Any) -> dict[str, Any] | None:
    if isinstance(row, dict):
        return {name: row.get(name) for name in names} if names else row
    if isinstance(row, list) and len(row) == len(names):
        return dict(zip(names, row, strict=True))
    if len(names) == 1 and isinstance(row, (str, int, float)):  # the value of a model's only column
        return {names[0]: row}
    return _tensor_row(row)


def _tensor_row(row: Any) -> dict[str, Any] | None:
    if (
        not isinstance(row, list)
        or len(row) > MAX_TENSOR_COLUMNS
        or any(isinstance(each, (list, dict)) for each in row)
    ):
        return None
    return {f"f{place}": value for place, value in enumerate(row)}
