"""Rows of a stretch of time as they were logged: all of them when they are few, else a seeded sample spread over the traffic."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

from django.db.models import QuerySet

from monitoring import windows
from monitoring.columns import Row
from monitoring.models import Baseline, ColumnCount
from serving.models import PredictionLog

MOST_ROWS = 20_000
# Of wide tables fewer rows: so many values are read and fitted in some seconds.
MOST_VALUES = 1_000_000
# A large stretch is sampled at many moments, each with so many of the rows that follow it.
AT_A_MOMENT = 50
_FIELDS = ("pk", "at", "features", "prediction", "probabilities")


def answered(baseline: Baseline) -> QuerySet[PredictionLog]:
    """The kept rows of the baseline's version, failed requests and previews' left out."""
    rows = PredictionLog.objects.production()
    return rows.filter(deployment=baseline.deployment_id, version=baseline.version_id, error_code="")


def most_rows(baseline: Baseline) -> int:
    return min(MOST_ROWS, MOST_VALUES // max(len(baseline.columns), 1))


def sample(baseline: Baseline, start: datetime, end: datetime, seed: int) -> tuple[list[Row], datetime | None]:
    """At most ``most_rows`` rows from start to end, and when the oldest of them was answered. ``baseline``'s counts say where
    traffic was: each hour gives its share. The same seed finds the same rows while they are kept."""
    inside, most = answered(baseline).filter(at__gte=start, at__lt=end), most_rows(baseline)
    found = _keyed(inside, most + 1)
    if len(found) > most:
        found, draw = {}, random.Random(seed)  # noqa: S311  a sample, no secret
        stretches = _traffic(baseline, start, end)
        total = sum(rows for _, _, rows in stretches)
        for begin, length, rows in stretches:
            of_hour = inside.filter(at__gte=begin, at__lt=begin + length)
            found |= _some(of_hour, begin, length, most * rows // total, draw)
    oldest = min((at for at, _ in found.values()), default=None)
    return [row for _, row in found.values()], oldest


def _some(
    rows: QuerySet[PredictionLog], begin: datetime, length: timedelta, wanted: int, draw: random.Random
) -> dict[Any, tuple[datetime, Row]]:
    """``wanted`` rows of an hour: those that follow random moments of it, and the first ones where that finds too few."""
    found: dict[Any, tuple[datetime, Row]] = {}
    for _ in range(wanted // AT_A_MOMENT):
        found |= _keyed(rows.filter(at__gte=begin + length * draw.random()), AT_A_MOMENT)
    if len(found) < wanted:
        for key, row in _keyed(rows, wanted).items():
            if len(found) < wanted:
                found.setdefault(key, row)
    return found


def _keyed(rows: QuerySet[PredictionLog], most: int) -> dict[Any, tuple[datetime, Row]]:
    stored = rows.order_by("at", "pk").values_list(*_FIELDS)[:most]
    return {key: (at, windows.row_of(*answer)) for key, at, *answer in stored}


def _traffic(baseline: Baseline, start: datetime, end: datetime) -> list[tuple[datetime, timedelta, int]]:
    """(start, length, rows) of the stored hours and days; the whole stretch as one where nothing is counted yet."""
    column = next(
        reversed(baseline.columns), ""
    )  # an output, if there are any: rows whose features are not kept have one
    counts = ColumnCount.objects.filter(
        baseline=baseline, column=column, hour__gte=windows.start_of(baseline, start), hour__lt=end, rows__gt=0
    )
    found = [
        (hour, timedelta(hours=span), rows)
        for hour, span, rows in counts.order_by("hour").values_list("hour", "span", "rows")
    ]
    return found or [(start, end - start, 1)]
