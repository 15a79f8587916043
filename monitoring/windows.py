"""Any stretch of time as tallies: hours are stored, windows are made by adding them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mlops.core import clock
from monitoring.columns import Row, Watched
from monitoring.drift.tally import Tally
from monitoring.drift.window import Hour
from monitoring.models import Baseline, ColumnCount

HOUR = timedelta(hours=1)


@dataclass
class ColumnPast:
    """A column's hours (oldest first) and the tally of those inside the window."""

    total: Tally
    hours: list[Hour] = field(default_factory=list)


def watched(baseline: Baseline) -> list[Watched]:
    return [Watched.from_json(name, data) for name, data in baseline.columns.items()]


def past(
    baseline: Baseline, columns: Sequence[Watched], start: datetime, end: datetime, hours_from: datetime
) -> dict[str, ColumnPast]:
    """For each column the sum over start to end and the single hours of hours_from to end. Whole hours only: both
    beginnings are rounded down."""
    first, earliest = clock.floor(start, HOUR), clock.floor(min(hours_from, start), HOUR)
    result = {column.name: ColumnPast(column.bins.empty()) for column in columns}
    stored = ColumnCount.objects.filter(baseline=baseline, hour__gte=earliest, hour__lte=end).order_by("hour")
    for name, hour, tally_json in stored.values_list("column", "hour", "tally").iterator(chunk_size=500):
        if name not in result:
            continue
        tally = Tally.from_json(tally_json)
        result[name].hours.append(Hour(hour, tally.counts))
        if hour >= first:
            result[name].total = result[name].total + tally
    return result


def row_of(features: object, prediction: object, probabilities: object) -> Row:
    """A logged row as it is stored; a shape nobody expects counts as not kept."""
    known = features if isinstance(features, dict) else None
    return Row(known, prediction, probabilities if isinstance(probabilities, list) else None)
