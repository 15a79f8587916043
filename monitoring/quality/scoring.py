"""What was answered, hour by hour, labelled or not: the histograms that estimates are made from. Counted like columns are: each
shipped batch once, in one transaction with the cursor that says so."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import Q

from mlops.core import clock
from monitoring import counting
from monitoring.drift.quality.scores import ScoreCounts, columns_of
from monitoring.models import ScoreCount
from monitoring.quality.answers import Answers
from registry.models import ModelVersion
from serving.models import PredictionLog

CURSOR = "scores"
STEPS = 200
HOUR = timedelta(hours=1)
_Rows = list[tuple[Any, Any]]


def count_new() -> int:
    """Count every shipped batch that has not been counted. Returns the rows. Safe to call from two processes."""
    total = 0
    for _ in range(STEPS):
        rows = count_step()
        if rows is None:
            break
        total += rows
    return total


@transaction.atomic
def count_step() -> int | None:
    """The next batches, about counting.ROWS_AT_ONCE rows; None when there are none."""
    cursor = counting.locked_cursor(CURSOR)
    upto = counting.next_batch(cursor.batch)
    if upto is None:
        return None
    logged = PredictionLog.objects.production().filter(
        batch__gt=cursor.batch, batch__lte=upto, error_code="", version__isnull=False
    )
    hours: dict[tuple[int, int, datetime], _Rows] = defaultdict(list)
    count = 0
    fields = ("deployment_id", "version_id", "at", "prediction", "probabilities")
    for deployment, version, at, *answer in logged.order_by().values_list(*fields).iterator(chunk_size=2000):
        hours[deployment, version, clock.floor(at, HOUR)].append((answer[0], answer[1]))
        count += 1
    _add(hours)
    cursor.batch = upto
    cursor.save(update_fields=["batch"])
    return count


def counted() -> Q:
    """The logged rows that these counts need no more, for whoever thins out the log."""
    return Q(batch__lte=counting.counted_upto(CURSOR))


def _add(hours: dict[tuple[int, int, datetime], _Rows]) -> None:
    versions = {key[1] for key in hours}
    answers = {
        pk: Answers.of(schema)
        for pk, schema in ModelVersion.objects.filter(pk__in=versions).values_list("pk", "schema")
    }
    for (deployment, version, hour), rows in hours.items():
        row = ScoreCount.objects.filter(deployment=deployment, version=version, hour=hour).first()
        row = row or ScoreCount(deployment_id=deployment, version_id=version, hour=hour)
        found = counts_of(rows, answers[version])
        if found is not None:
            if row.scores:
                found = ScoreCounts.from_json(row.scores) + found
            row.scores = found.to_json()
        row.rows += len(rows)
        row.save()


def counts_of(rows: _Rows, answers: Answers) -> ScoreCounts | None:
    """Histograms of rows (prediction, probabilities); None where nothing can be estimated from them."""
    if not columns_of(len(answers.classes)):
        return None
    usable = [
        (scores, place)
        for prediction, probabilities in rows
        if (scores := answers.scores_of(probabilities)) is not None
        and (place := answers.place_of(prediction)) is not None
    ]
    if not usable:
        return None
    chances = np.array([scores for scores, _ in usable], dtype=np.float64)
    return ScoreCounts.of(chances, np.array([place for _, place in usable], dtype=np.int64))
