"""Counting the prediction log, exactly once: each shipped batch is added to the hours of its columns in one transaction
with the cursor that says so. A crash in the middle leaves both as they were; late rows go to the hour they belong to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q

from mlops.core import clock
from monitoring import columns, windows
from monitoring.columns import Row, Watched
from monitoring.drift.tally import Tally
from monitoring.models import Baseline, ColumnCount, CountCursor
from serving.models import PredictionLog, ShippedBatch

CURSOR = "columns"
ROWS_AT_ONCE = 20_000
FIELDS = ("deployment_id", "version_id", "at", "features", "prediction", "probabilities")


def count_new() -> int:
    """Count every shipped batch that has not been counted. Returns the rows looked at. Safe to call from two processes."""
    total = 0
    while (rows := count_step()) is not None:
        total += rows
    return total


@transaction.atomic
def count_step() -> int | None:
    """The next batches, about ROWS_AT_ONCE rows; None when there are none."""
    cursor = locked_cursor()
    upto = _upto(cursor.batch)
    if upto is None:
        return None
    rows = list(_predicted(Q(batch__gt=cursor.batch, batch__lte=upto)))
    _count(rows)
    cursor.batch = upto
    cursor.save(update_fields=["batch"])
    return len(rows)


def locked_cursor() -> CountCursor:
    """The cursor, held until the transaction ends: whoever holds it is the only one who counts."""
    CountCursor.objects.get_or_create(name=CURSOR)
    return CountCursor.objects.select_for_update().get(name=CURSOR)


def counted_upto() -> int:
    """The number of the last shipped batch whose rows are all counted; 0 before the first."""
    return CountCursor.objects.filter(name=CURSOR).values_list("batch", flat=True).first() or 0


def counted() -> Q:
    """The logged rows that no counter needs any more, for whoever drops or redacts raw rows: those of counted batches
    that are failures or a preview's, or whose version has a baseline that has counted its past.

    Rows of a version that has no baseline yet are not among them: its first rows become the baseline.
    """
    mine = Baseline.objects.filter(deployment=OuterRef("deployment"), version=OuterRef("version"))
    settled = Exists(mine.filter(active=True)) & ~Exists(mine.filter(backfill_before__isnull=False))
    uncounted = ~Q(error_code="") | Q(version__isnull=True) | Q(via=PredictionLog.PREVIEW)
    return Q(batch__lte=counted_upto()) & (uncounted | Q(settled))


def backfill(baseline: Baseline, cursor: CountCursor) -> int:
    """Count what was passed over before this baseline existed. The caller holds the cursor. Returns the rows."""
    mine = Q(deployment=baseline.deployment_id, version=baseline.version_id, batch__lte=cursor.batch)
    total, chunk = 0, []
    for row in _predicted(mine):
        chunk.append(row)
        if len(chunk) == ROWS_AT_ONCE:
            total += _count(chunk)
            chunk = []
    return total + _count(chunk)


def _upto(after: int) -> int | None:
    rows, last = 0, None
    for pk, size in ShippedBatch.objects.filter(pk__gt=after).order_by("pk").values_list("pk", "rows")[:2000]:
        if last is not None and rows + size > ROWS_AT_ONCE:
            break
        rows, last = rows + size, pk
    return last


def _predicted(which: Q) -> Iterable[tuple[Any, ...]]:
    """Answered rows, without the failed requests and what previews were asked."""
    answered = PredictionLog.objects.production().filter(which, error_code="", version__isnull=False)
    return answered.order_by().values_list(*FIELDS).iterator(chunk_size=2000)


def _count(rows: list[tuple[Any, ...]]) -> int:
    """Add rows (as FIELDS) to the hours of their baselines; rows of versions without one are passed over."""
    by_version: dict[tuple[int, int], dict[datetime, list[Row]]] = defaultdict(lambda: defaultdict(list))
    baselines = _baselines({(row[0], row[1]) for row in rows})
    counted = 0
    for deployment, version, at, *answer in rows:
        baseline = baselines.get((deployment, version))
        if baseline is None or (baseline.learned_until is not None and at <= baseline.learned_until):
            continue
        by_version[deployment, version][clock.floor(at, windows.HOUR)].append(windows.row_of(*answer))
        counted += 1
    for key, hours in by_version.items():
        _add(baselines[key], hours)
    return counted


def _baselines(keys: set[tuple[int, int]]) -> dict[tuple[int, int], Baseline]:
    found = Baseline.objects.filter(deployment__in={key[0] for key in keys}).select_related("version")
    return {(row.deployment_id, row.version_id): row for row in found if (row.deployment_id, row.version_id) in keys}


def _add(baseline: Baseline, hours: dict[datetime, list[Row]]) -> None:
    watched = windows.watched(baseline)
    there = {(row.column, row.hour): row for row in ColumnCount.objects.filter(baseline=baseline, hour__in=hours)}
    new, changed = [], []
    for hour, rows in hours.items():
        for name, tally in _tallies(rows, watched):
            row = there.get((name, hour))
            if row is None:
                row = ColumnCount(baseline=baseline, column=name, hour=hour)
                new.append(row)
            else:
                tally = Tally.from_json(row.tally) + tally
                changed.append(row)
            row.rows, row.tally = tally.rows, tally.to_json()
    ColumnCount.objects.bulk_create(new, batch_size=500)
    ColumnCount.objects.bulk_update(changed, ["rows", "tally"], batch_size=500)


def _tallies(rows: list[Row], watched: list[Watched]) -> Iterable[tuple[str, Tally]]:
    values = columns.values_of(rows, watched)
    for column in watched:
        if values[column.name]:
            yield column.name, column.bins.tally(values[column.name])
