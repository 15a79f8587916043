"""From a spool record to rows: what was asked and answered, per predicted row, under the schema's column names.

Bodies come from clients and from runners, which are the tenants' code: anything may stand in them, nothing here may raise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from mlops.core import ids
from mlops.runtime import bodies
from serving.models import PredictionLog
from serving.spool import Record

MAX_ROWS = 100_000
MAX_TENSOR_COLUMNS = 1_000
EXCERPT_CHARACTERS = 2_000


@dataclass(frozen=True)
class Call:
    """One request of the log: what the counters need, and its rows (without their batch)."""

    organization_id: int
    deployment_id: int
    version_id: int | None
    at: datetime
    status: int
    latency_ms: float
    via: str
    rows: list[PredictionLog]
    pinned: bool = False

    @property
    def production(self) -> bool:
        """Whether it counts as traffic: a preview's does not."""
        return self.via != PredictionLog.PREVIEW

    @property
    def answered_rows(self) -> int:
        return len(self.rows) if self.status < 400 else 0


def parse(record: Record, schema_of: Callable[[int], dict[str, Any] | None]) -> Call:
    """Raises KeyError, TypeError or ValueError when the header is not one that ``prediction_log.append`` writes."""
    head = record.header
    at = datetime.fromtimestamp(head["at"], tz=UTC)
    status, version_id = int(head["status"]), head["version"]
    shared: dict[str, Any] = {
        "organization_id": int(head["organization"]),
        "deployment_id": int(head["deployment"]),
        "version_id": version_id,
        "at": at,
        "request_id": str(head["request_id"])[:64],
        "key_prefix": str(head["key"])[:8],
        "status": status,
        "error_code": str(head["code"])[:60],
        "latency_ms": float(head["latency_ms"]),
        "via": str(head.get("via", ""))[:10],
    }
    base = UUID(head["id"])
    if status < 400:
        rows = _answered(record, base, schema_of(version_id), shared)
    elif status == 429:
        rows = []  # counted in the traffic, not kept one by one: a limit must also protect the log
    else:
        rows = [_failed(record, base, shared)]
    return Call(
        shared["organization_id"],
        shared["deployment_id"],
        version_id,
        at,
        status,
        shared["latency_ms"],
        shared["via"],
        rows,
        bool(head.get("pinned")),
    )


def _failed(record: Record, base: UUID, shared: dict[str, Any]) -> PredictionLog:
    excerpt = record.request[: 4 * EXCERPT_CHARACTERS].decode("utf-8", "replace").replace("\x00", "\ufffd")
    detail = str(record.header.get("detail", "")).replace("\x00", "\ufffd")
    return PredictionLog(
        id=base, row=0, error_detail=detail[:500], request_excerpt=excerpt[:EXCERPT_CHARACTERS], **shared
    )


def _answered(record: Record, base: UUID, schema: dict[str, Any] | None, shared: dict[str, Any]) -> list[PredictionLog]:
    asked, answer = as_object(record.request), as_object(record.response)
    features = named_rows(schema, asked.get("inputs"))
    predictions = _listed(answer.get("predictions"))
    probabilities = _listed(answer.get("probabilities"))
    timings = answer.get("timings_ms")
    timings = timings if isinstance(timings, dict) and len(timings) < 20 else None
    count = len(features) or min(len(predictions), MAX_ROWS)
    return [
        PredictionLog(
            id=ids.prediction_id(base, row),
            row=row,
            features=features[row] if row < len(features) else None,
            prediction=predictions[row] if row < len(predictions) else None,
            probabilities=probabilities[row] if row < len(probabilities) else None,
            timings_ms=timings,
            **shared,
        )
        for row in range(count)
    ]


def as_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; an empty one where there is none."""
    try:
        parsed = bodies.parse(body)
    except ValueError:
        return {}
    if b"\\u0000" in body:  # PostgreSQL's JSON cannot hold it
        parsed = without_nul(parsed)
    return parsed if isinstance(parsed, dict) else {}


def without_nul(value: Any) -> Any:
    """PostgreSQL's JSON cannot hold NUL, which clients, models and files may send."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, list):
        return [without_nul(each) for each in value]
    if isinstance(value, dict):
        return {without_nul(key): without_nul(each) for key, each in value.items()}
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def named_rows(schema: dict[str, Any] | None, inputs: Any) -> list[dict[str, Any] | None]:
    """Rows as ``{column: value}`` in the schema's order: from objects, from lists (schema order), from one object.

    A tensor's row is ``{"f0": ..., "f1": ...}``, or None when it has more than one dimension or 1,000 numbers.
    """
    rows = [inputs] if isinstance(inputs, dict) else _listed(inputs)[:MAX_ROWS]
    if schema is not None and schema.get("kind") == "tensor":
        return [_tensor_row(row) for row in rows]
    names = [column["name"] for column in (schema or {}).get("inputs") or []]
    return [_table_row(names, row) for row in rows]


def _table_row(names: list[str], row: Any) -> dict[str, Any] | None:
    if isinstance(row, dict):
        return {name: row.get(name) for name in names} if names else row
    if isinstance(row, list) and len(row) == len(names):
        return dict(zip(names, row, strict=True))
    return _tensor_row(row)


def _tensor_row(row: Any) -> dict[str, Any] | None:
    if (
        not isinstance(row, list)
        or len(row) > MAX_TENSOR_COLUMNS
        or any(isinstance(each, (list, dict)) for each in row)
    ):
        return None
    return {f"f{place}": value for place, value in enumerate(row)}
