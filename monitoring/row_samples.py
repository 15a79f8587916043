"""Rows of a stretch of time as they were logged: all of them when they are few, else a seeded sample spread over the traffic."""

from __future__ import annotations

import random
from collections.abc import Iterable
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
# A large stretch is sampled at so many moments, each with the rows that follow it.
MOMENTS = 400
_FIELDS = ("pk", "at", "features", "prediction", "probabilities")


def answered(baseline: Baseline) -> QuerySet[PredictionLog]:
    """The kept rows of the baseline's version, failed requests and previews' left out."""
    rows = PredictionLog.objects.production()
    return rows.filter(deployment=baseline.deployment_id, version=baseline.version_id, error_code="")


def most_rows(baseline: Baseline) -> int:
    return max(min(MOST_ROWS, MOST_VALUES // max(len(baseline.columns), 1)), MOMENTS)


def sample(baseline: Baseline, start: datetime, end: datetime, seed: int) -> tuple[list[Row], datetime | None]:
    """At most ``most_rows`` rows from start to end, and when the oldest of them was answered. ``baseline``'s counts say where
    traffic was: each of the sample's moments stands for as many rows. The same seed finds the same rows while they are kept."""
    inside, most = answered(baseline).filter(at__gte=start, at__lt=end), most_rows(baseline)
    found = _keyed(inside, most + 1)
    if len(found) > most:
        found = {}
        for moment in _moments(baseline, start, end, random.Random(seed)):  # noqa: S311  a sample, no secret
            found |= _keyed(inside.filter(at__gte=moment), most // MOMENTS)
    oldest = min((at for at, _ in found.values()), default=None)
    return [row for _, row in found.values()], oldest


def _keyed(rows: QuerySet[PredictionLog], most: int) -> dict[Any, tuple[datetime, Row]]:
    stored = rows.order_by("at", "pk").values_list(*_FIELDS)[:most]
    return {key: (at, windows.row_of(*answer)) for key, at, *answer in stored}


def _moments(baseline: Baseline, start: datetime, end: datetime, draw: random.Random) -> Iterable[datetime]:
    """MOMENTS of them: one at a random place of each equal part of the traffic."""
    stretches = _traffic(baseline, start, end)
    total = sum(rows for _, _, rows in stretches)
    places = sorted((part + draw.random()) / MOMENTS * total for part in range(MOMENTS))
    passed = 0.0
    for begin, length, rows in stretches:
        while places and places[0] <= passed + rows:
            yield begin + length * ((places.pop(0) - passed) / rows)
        passed += rows


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
