"""Rows of the log as a file: CSV and JSON lines as they are read, Parquet by a process of its own. At most MOST_ROWS at once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from django.http import FileResponse
from django.http.response import HttpResponseBase
from django.utils.http import content_disposition_header

from mlops.core import csv_lines, errors
from serving import downloads, parquet
from serving.models import Deployment, PredictionLog, PredictionQuerySet
from serving.services import log_policies

MOST_ROWS = 100_000
FORMATS = ("csv", "jsonl", "parquet")
MOST_COLUMNS = 1_000
NEXT = "Slipway-Next-Before"
_FIELDS = (
    "id",
    "at",
    "version",
    "row",
    "status",
    "error_code",
    "error_detail",
    "request_id",
    "key_prefix",
    "via",
    "latency_ms",
)


def answer(deployment: Deployment, found: PredictionQuerySet, kind: str) -> HttpResponseBase:
    """A download, newest first. Where there are more rows, the header ``Slipway-Next-Before`` names the id to go on before. Raises Invalid."""
    if kind not in FORMATS:
        raise errors.Invalid(
            f"There is no format {kind!r}.",
            hint=f"Choose {', '.join(FORMATS)}.",
            fields={"format": [f"Use {', '.join(FORMATS)}."]},
        )
    edge = list(found.values_list("pk", flat=True)[MOST_ROWS - 1 : MOST_ROWS + 1])
    if len(edge) == 2:
        found = found.filter(pk__gte=edge[0])
    filename = f"{deployment.name}-predictions.{kind}"
    if kind == "parquet":
        response: HttpResponseBase = _parquet(found, filename)
    elif kind == "csv":
        response = downloads.text(_csv(deployment, found), filename=filename, content_type="text/csv")
    else:
        response = downloads.text(_jsonl(found), filename=filename, content_type="application/jsonl")
    if len(edge) == 2:
        response[NEXT] = str(edge[0])
    return response


def _rows(found: PredictionQuerySet) -> Iterator[PredictionLog]:
    return found.select_related("version").iterator(chunk_size=1_000)


def _facts(row: PredictionLog) -> dict[str, Any]:
    facts = {name: getattr(row, name) for name in _FIELDS}
    return facts | {"id": str(row.pk), "at": row.at.isoformat(), "version": row.version.number if row.version else None}


def _csv(deployment: Deployment, found: PredictionQuerySet) -> Iterator[str]:
    """Every column that the model's versions know is one here; what a row has beside them is not in a CSV."""
    return csv_lines.lines(_csv_rows(log_policies.columns_of(deployment)[:MOST_COLUMNS], found))


def _csv_rows(columns: list[str], found: PredictionQuerySet) -> Iterator[list[Any]]:
    yield [*_FIELDS, "prediction", "probabilities", *(f"feature.{name}" for name in columns)]
    for row in _rows(found):
        features = row.features if isinstance(row.features, dict) else {}
        cells = (row.prediction, row.probabilities, *(features.get(name) for name in columns))
        yield [*_facts(row).values(), *map(_cell, cells)]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _jsonl(found: PredictionQuerySet) -> Iterator[str]:
    for row in _rows(found):
        line = {
            **_facts(row), "timings_ms": row.timings_ms, "features": row.features, "prediction": row.prediction,
            "probabilities": row.probabilities,
        }  # fmt: skip
        yield json.dumps(line, ensure_ascii=False) + "\n"


def _parquet(found: PredictionQuerySet, filename: str) -> FileResponse:
    """The columns of the archives (docs/prediction-log.md)."""
    with parquet.written(parquet.lines(found)) as (path, _):
        content = path.open("rb")  # it stays readable when its name goes
    response = FileResponse(content, content_type="application/vnd.apache.parquet")
    response["Content-Disposition"] = content_disposition_header(True, filename)
    response["X-Content-Type-Options"] = "nosniff"
    response["Cache-Control"] = "private, no-transform"
    return response
