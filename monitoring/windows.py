"""Any stretch of time as tallies: hours are stored, older ones as UTC days, windows are made by adding them.

What a window from ``start`` to ``end`` reads: of the hours that are stored one by one (the last three days) every hour that begins
in it, its first one whole; before that every UTC day that begins in it, its first one whole. So the last 24 hours are 24 or 25
hours, the last seven days about 90 hours and four days, the last ninety days about 90 hours and 87 days: never more rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from django.db.models import QuerySet

from mlops.core import clock
from monitoring import packing
from monitoring.columns import Row, Watched
from monitoring.drift.tally import Tally
from monitoring.drift.window import Hour
from monitoring.models import Baseline, ColumnCount

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@dataclass
class ColumnPast:
    """A column's hours (oldest first; days where they are merged) and the tally of those inside the window."""

    total: Tally
    hours: list[Hour] = field(default_factory=list)


def watched(baseline: Baseline) -> list[Watched]:
    return [Watched.from_json(name, data) for name, data in baseline.columns.items()]


def in_days(baseline: Baseline, moment: datetime) -> bool:
    """Whether what happened then is counted by day, not by hour."""
    return baseline.days_until is not None and moment < baseline.days_until


def start_of(baseline: Baseline, moment: datetime) -> datetime:
    """The start of the stored hour or day that a moment falls into: a window that begins then begins in truth there."""
    return clock.floor(moment.astimezone(UTC), DAY if in_days(baseline, moment) else HOUR)


def past(
    baseline: Baseline, columns: Sequence[Watched], start: datetime, end: datetime, hours_from: datetime
) -> dict[str, ColumnPast]:
    """For each column the sum over start to end and the single hours of hours_from to end. Whole hours (and days) only:
    both beginnings are rounded down."""
    first, earliest = start_of(baseline, start), start_of(baseline, min(hours_from, start))
    inside: dict[str, list[packing.Packed]] = {column.name: [] for column in columns}
    hours: dict[str, list[Hour]] = {column.name: [] for column in columns}
    for name, hour, stored in _stored(baseline, earliest, end, list(inside)):
        hours[name].append(Hour(hour, packing.counts_of(stored)))
        if hour >= first:
            inside[name].append(stored)
    return {
        column.name: ColumnPast(packing.total(inside[column.name], column.bins), hours[column.name])
        for column in columns
    }


def total(baseline: Baseline, columns: Sequence[Watched], start: datetime, end: datetime) -> dict[str, Tally]:
    """For each column the sum over start to end, as ``past`` without the single hours."""
    inside: dict[str, list[packing.Packed]] = {column.name: [] for column in columns}
    for name, _, stored in _stored(baseline, start_of(baseline, start), end, list(inside)):
        inside[name].append(stored)
    return {column.name: packing.total(inside[column.name], column.bins) for column in columns}


def row_of(features: object, prediction: object, probabilities: object) -> Row:
    """A logged row as it is stored; a shape nobody expects counts as not kept."""
    known = features if isinstance(features, dict) else None
    return Row(known, prediction, probabilities if isinstance(probabilities, list) else None)


def _stored(baseline: Baseline, earliest: datetime, end: datetime, names: list[str]) -> QuerySet:
    rows = ColumnCount.objects.filter(baseline=baseline, hour__gte=earliest, hour__lte=end).order_by("hour")
    if set(names) != set(baseline.columns):
        rows = rows.filter(column__in=names)
    return rows.values_list("column", "hour", "tally").iterator(chunk_size=500)
