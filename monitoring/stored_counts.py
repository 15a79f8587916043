"""Where counts are kept: by hour, and by UTC day once they are older than HOURS_KEPT, so that a long window stays short in rows.

Every function here that writes is called in a transaction that holds ``counting.locked_cursor``: one writer at a time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from django.db.models import Min

from mlops.core import clock
from monitoring import columns, packing, windows
from monitoring.columns import Row, Watched
from monitoring.drift.tally import Tally
from monitoring.models import Baseline, ColumnCount
from monitoring.windows import DAY

# The change point of a drift is looked for among hours: three days of them, and the day that is not over.
HOURS_KEPT = timedelta(days=3)
_WRITTEN_AT_ONCE = 500
_DAY_HOURS = 24


def add(baseline: Baseline, rows: Mapping[datetime, list[Row]]) -> None:
    """Add rows by the hour they belong to. A row so late that its day is merged already goes to that day."""
    slots: dict[datetime, list[Row]] = defaultdict(list)
    for hour, found in rows.items():
        slots[windows.start_of(baseline, hour)] += found
    watched = windows.watched(baseline)
    bins = {column.name: column.bins for column in watched}
    there = {(row.column, row.hour): row for row in ColumnCount.objects.filter(baseline=baseline, hour__in=slots)}
    changed = []
    for start, found in slots.items():
        for name, tally in _tallies(found, watched):
            row = there.get((name, start))
            if row is not None:
                tally = packing.unpack(row.tally, bins[name]) + tally
            changed.append(_row(baseline, name, start, tally))
    _write(changed)


def merge_days(baseline: Baseline, upto: datetime) -> bool:
    """Make one row a column of the oldest day that is still in hours and over before ``upto`` (a midnight). False: there is none."""
    hours = ColumnCount.objects.filter(baseline=baseline, span=1, hour__lt=upto)
    oldest = hours.aggregate(at=Min("hour"))["at"]
    baseline.days_until = upto if oldest is None else clock.floor(oldest, DAY) + DAY
    if oldest is not None:
        day = hours.filter(hour__lt=baseline.days_until)
        bins = {column.name: column.bins for column in windows.watched(baseline)}
        found: dict[str, list[packing.Packed]] = defaultdict(list)
        for name, tally in day.order_by("hour").values_list("column", "tally").iterator(chunk_size=500):
            found[name].append(tally)
        day.delete()
        start = clock.floor(oldest, DAY)
        _write([_row(baseline, name, start, packing.total(stored, bins[name])) for name, stored in found.items()])
    baseline.save(update_fields=["days_until"])
    return oldest is not None


def _row(baseline: Baseline, name: str, start: datetime, tally: Tally) -> ColumnCount:
    span = _DAY_HOURS if windows.in_days(baseline, start) else 1
    return ColumnCount(
        baseline=baseline, column=name, hour=start, span=span, rows=tally.rows, tally=packing.pack(tally)
    )


def _write(rows: list[ColumnCount]) -> None:
    ColumnCount.objects.bulk_create(
        rows,
        batch_size=_WRITTEN_AT_ONCE,
        update_conflicts=True,
        unique_fields=["baseline", "column", "hour"],
        update_fields=["rows", "tally"],
    )


def _tallies(rows: list[Row], watched: list[Watched]) -> Iterable[tuple[str, Tally]]:
    values = columns.values_of(rows, watched)
    for column in watched:
        if values[column.name]:
            yield column.name, column.bins.tally(values[column.name])
