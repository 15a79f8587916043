"""Sample requests: rows that came with the version, sent through the predict path one request at a time."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import orjson

from accounts.caller import Caller
from mlops.core import errors, ids
from mlops.runtime.schema import example_row
from registry.models import Dataset, ModelVersion
from registry.services import datasets
from serving import predict
from serving.models import Deployment
from serving.predict import JSON, Call

TELL_EVERY = 20


def send(deployment: Deployment, count: int, caller: Caller, *, on_progress: Callable[[float], None]) -> int:
    """``count`` requests of one row each, drawn from the version's own rows. Returns how many were answered. Raises Conflict when not live."""
    version = deployment.live_version
    if version is None:
        raise errors.Conflict(f"{deployment.name} is not live.", code="not_live", hint="Start it first.")
    rows, answered = rows_of(version), 0
    drawn = random.Random(version.pk).choices(rows, k=count)  # noqa: S311  which rows, the same each time; no secret
    for number, row in enumerate(drawn, start=1):
        answered += _send(deployment, row, caller)
        if number % TELL_EVERY == 0:
            on_progress(number / count)
    return answered


def _send(deployment: Deployment, row: Any, caller: Caller) -> bool:
    body = orjson.dumps({"inputs": [row]})
    call = Call(
        caller=caller,
        organization=deployment.organization.slug,
        deployment=deployment.name,
        read=lambda: body,
        content_type=JSON,
        request_id=str(ids.uuid7()),
        via="job",
    )
    return predict.answer(call).status == 200


def rows_of(version: ModelVersion) -> list[Any]:
    """Rows this version is known to take: of its reference, its sample, its example; at least one made from the schema."""
    by_kind = {dataset.kind: dataset for dataset in version.datasets.all()}
    for kind in (Dataset.Kind.REFERENCE, Dataset.Kind.SAMPLE):
        found = _rows(by_kind[kind], version) if kind in by_kind else []
        if found:
            return found
    if isinstance(version.example, list) and version.example:
        return version.example
    return [example_row(version.schema or {"kind": "table", "inputs": []})]


def _rows(dataset: Dataset, version: ModelVersion) -> list[dict[str, Any]]:
    names = [column["name"] for column in (version.schema or {}).get("inputs") or []]
    columns = (datasets.read_columns(dataset) or {}).get("columns") or {}
    if not names or any(name not in columns for name in names):
        return []
    return [dict(zip(names, values, strict=True)) for values in zip(*(columns[name] for name in names), strict=True)]
