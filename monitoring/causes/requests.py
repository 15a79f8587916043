"""What changed in requests that are refused: the rows that their excerpts still show, against the version's schema."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from monitoring.drift.causes.requests import schema_change
from monitoring.drift.causes.words import percent
from registry.models import ModelVersion
from serving.models import Deployment, PredictionLog

MOST_REQUESTS = 200
# Refusals that say something of the columns: not of a wrong key, a limit, or a model that is down.
_STATUSES = (400, 422)
_OBJECT = re.compile(r"\{[^{}\[\]]*\}")
_COLUMNS = re.compile(r'"columns"\s*:\s*(\[[^\[\]{}]*\])')
LEAST_OF_ONE_KEY = 0.8


def why_refused(
    deployment: Deployment, version: ModelVersion | None, start: datetime, end: datetime
) -> dict[str, Any] | None:
    """{"sentence", "causes", "since"} from the refused requests of this time; None when their columns are as ever, or nothing of them is kept."""
    expected = {
        column["name"]: column["type"] for column in ((version.schema if version else None) or {}).get("inputs") or []
    }
    if not expected:
        return None
    failed = (
        PredictionLog.objects.production()
        .failed()
        .filter(deployment=deployment, at__gte=start, at__lte=end, status__in=_STATUSES)
    )
    stored = list(failed.order_by("-pk").values_list("at", "key_prefix", "request_excerpt")[:MOST_REQUESTS])
    kept = [(at, key, row) for at, key, text in stored for row in _rows(text)]
    found = schema_change(expected, [row for _, _, row in kept])
    if not found:
        return None
    sentence = "; ".join(cause.sentence for cause in found[:3])
    sentence = f"Of the refused requests: {sentence}{_of_one_key([key for _, key, _ in kept])}."
    return {
        "sentence": sentence,
        "causes": [{"code": cause.code, "sentence": cause.sentence, **cause.numbers} for cause in found[:5]],
        "since": min(at for at, _, _ in kept).isoformat(),
    }


def _of_one_key(keys: list[str]) -> str:
    (key, rows), *_ = Counter(keys).most_common(1)
    share = rows / len(keys)
    return f"; {percent(share)} of them came with key {key}…" if key and share >= LEAST_OF_ONE_KEY else ""


def _rows(excerpt: str) -> Iterator[dict[str, Any]]:
    """The first row of a request's body, as far as its beginning was kept: an object by name, or a table's list of columns."""
    names = _COLUMNS.search(excerpt)
    if names is not None:
        yield from (
            {str(name): None for name in listed} for listed in _read(names.group(1)) if isinstance(listed, list)
        )
        return
    for match in _OBJECT.finditer(excerpt):
        for row in _read(match.group(0)):
            if isinstance(row, dict) and row:
                yield row
                return


def _read(text: str) -> Iterator[Any]:
    try:
        yield json.loads(text)
    except ValueError:
        return
