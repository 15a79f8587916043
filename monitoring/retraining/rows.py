"""The rows of a run: what was logged in its window, joined with what really happened, and the champion's reference.

A share of all logged rows is held out (by their ids, the same ones in every run): it is handed to no training, and every candidate is
judged on it. Of the rest at most ``most_rows`` are handed out, those with a label first, newest first.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from mlops.core import storage
from monitoring.models import Feedback, Retraining
from registry.models import Dataset
from registry.services import datasets
from serving.models import PredictionLog
from serving.models.log import PredictionQuerySet
from serving.redaction import redacted_columns

CHUNK = 1000
MOST_JUDGED = 2000
_FACTS = ("prediction_id", "predicted_at", "version", "prediction", "actual")


@dataclass(frozen=True)
class Row:
    """One logged row. ``actual`` is None while nobody has said what happened."""

    prediction_id: uuid.UUID
    at: datetime
    version: int | None
    features: dict[str, Any]
    prediction: Any
    probabilities: Any
    actual: Any

    def as_json(self) -> dict[str, Any]:
        return {
            "prediction_id": str(self.prediction_id),
            "predicted_at": self.at.isoformat(),
            "version": self.version,
            "features": self.features,
            "prediction": self.prediction,
            "probabilities": self.probabilities,
            "actual": self.actual,
        }


def since(run: Retraining) -> datetime:
    """Where the run's window begins."""
    return run.until - timedelta(days=run.terms["days"])


def is_held_out(prediction_id: uuid.UUID, percent: int) -> bool:
    """Drawn by the id's hash: the same answer always, and no order of time in it."""
    digest = hashlib.blake2b(prediction_id.bytes, digest_size=8).digest()
    return int.from_bytes(digest, "big") % 100 < percent


def handed_out(run: Retraining) -> Iterator[Row]:
    """What a training gets: labelled rows first, then others, newest first, none of those held out."""
    left: int = run.terms["most_rows"]
    for labelled in (True, False):
        for row in _rows(run, labelled=labelled):
            if not left:
                return
            if not is_held_out(row.prediction_id, run.terms["held_out_percent"]):
                left -= 1
                yield row


def judged(run: Retraining, most: int = MOST_JUDGED) -> list[Row]:
    """The newest labelled rows that were held out: what a candidate is judged on."""
    found: list[Row] = []
    for row in _rows(run, labelled=True):
        if is_held_out(row.prediction_id, run.terms["held_out_percent"]):
            found.append(row)
            if len(found) == most:
                break
    return found


def _rows(run: Retraining, *, labelled: bool) -> Iterator[Row]:
    """Newest first, by pages of the id: the log may grow and shrink meanwhile."""
    known = Feedback.objects.filter(deployment=run.deployment_id).values("prediction_id")
    window: PredictionQuerySet = PredictionLog.objects.production().filter(deployment=run.deployment_id).answered()
    window = window.since(since(run)).before(run.until).order_by("-pk")
    window = window.filter(pk__in=known) if labelled else window.exclude(pk__in=known)
    last: uuid.UUID | None = None
    while True:
        page = list((window.filter(pk__lt=last) if last is not None else window).select_related("version")[:CHUNK])
        if not page:
            return
        last = page[-1].pk
        found: dict[uuid.UUID, Any] = dict(
            Feedback.objects.filter(
                deployment=run.deployment_id, prediction_id__in=[each.pk for each in page]
            ).values_list("prediction_id", "actual")
            if labelled
            else ()
        )
        for each in page:
            # a model neither learns from marks of redacted values nor can be asked with them
            if isinstance(each.features, dict) and each.features and not redacted_columns(each.features):
                number = each.version.number if each.version is not None else None
                yield Row(
                    each.pk, each.at, number, each.features, each.prediction, each.probabilities, found.get(each.pk)
                )


# -- files ----------------------------------------------------------------------------------------------------------


def files(run: Retraining) -> tuple[str, ...]:
    """The files that are handed out."""
    reference = run.champion.reference
    return ("recent.jsonl", "recent.csv", *((f"reference.{reference.format}",) if reference is not None else ()))


def content(run: Retraining, file: str) -> Iterator[bytes]:
    """A file's content, piece by piece. Raises KeyError for one that there is not."""
    if file not in files(run):
        raise KeyError(file)
    if file == "recent.jsonl":
        return (orjson.dumps(row.as_json(), default=str) + b"\n" for row in handed_out(run))
    if file == "recent.csv":
        return _csv(run)
    reference = run.champion.reference
    assert reference is not None
    return storage.open_stream(reference.file_key)


def _csv(run: Retraining) -> Iterator[bytes]:
    """The champion's columns, and facts whose names no column has. Values that are no plain ones are JSON."""
    names = [column["name"] for column in (run.champion.schema or {}).get("inputs") or []]
    found = handed_out(run)
    first = next(found, None)
    if not names and first is not None:
        names = list(first.features)
    facts = [name if name not in names else f"slipway_{name}" for name in _FACTS]
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow([*names, *facts])
    for row in (first, *found) if first is not None else ():
        told = (str(row.prediction_id), row.at.isoformat(), row.version, row.prediction, row.actual)
        writer.writerow([_plain(row.features.get(name)) for name in names] + [_plain(each) for each in told])
        if buffer.tell() > 1 << 16:
            yield buffer.getvalue().encode()
            buffer.seek(0)
            buffer.truncate()
    yield buffer.getvalue().encode()


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (dict, list)) else "" if value is None else value


# -- the reference --------------------------------------------------------------------------------------------------


def reference(run: Retraining, most: int = MOST_JUDGED) -> tuple[list[dict[str, Any]], list[Any]]:
    """Rows of the champion's reference and what really happened to each, evenly drawn; none where the reference does not say it."""
    dataset: Dataset | None = run.champion.reference
    found = (datasets.read_columns(dataset) or {}) if dataset is not None else {}
    target, columns = found.get("target"), found.get("columns") or {}
    if not target or not columns:
        return [], []
    actual = target["values"]
    chosen = [place for place in range(len(actual)) if actual[place] is not None]
    chosen = chosen[:: max(1, -(-len(chosen) // most))]
    return [{name: values[place] for name, values in columns.items()} for place in chosen], [
        actual[place] for place in chosen
    ]
