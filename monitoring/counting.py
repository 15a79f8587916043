"""Counting the prediction log, exactly once: each shipped batch is added to the hours of its columns in one transaction
with the cursor that says so. A crash in the middle leaves both as they were; late rows go to the hour they belong to.

A new baseline's past is counted by its backfill: the rows of batches that the counter had passed over by then, newest first, in
transactions of their own that move the baseline's ``backfill_before``. Counter and backfill never look at the same batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from django.db import transaction
from django.db.models import Exists, Min, OuterRef, Q, QuerySet

from mlops.core import clock
from monitoring import stored_counts, windows
from monitoring.columns import Row
from monitoring.models import Baseline, ColumnCount, CountCursor
from serving.models import PredictionLog, ShippedBatch

CURSOR = "columns"
ROWS_AT_ONCE = 20_000
# Steps that one call may take for backfills: about 15 seconds of work. The rest is the next minute's.
BACKFILL_STEPS = 25
FIELDS = ("deployment_id", "version_id", "at", "features", "prediction", "probabilities")
_EVERYTHING = datetime(9999, 1, 1, tzinfo=UTC)


def count_new() -> int:
    """Count every shipped batch that has not been counted, then go on with backfills. Returns the new rows looked at.
    Safe to call from two processes."""
    total = 0
    while (rows := count_step()) is not None:
        total += rows
    for baseline in Baseline.objects.filter(backfill_before__isnull=False).order_by("pk").only("pk"):
        backfill(baseline)
    return total


@transaction.atomic
def count_step() -> int | None:
    """The next batches, about ROWS_AT_ONCE rows; None when there are none."""
    cursor = locked_cursor()
    upto = next_batch(cursor.batch)
    if upto is None:
        return None
    total = 0
    for rows in _portions(_predicted(Q(batch__gt=cursor.batch, batch__lte=upto))):
        _count(rows, _counting({(row[0], row[1]) for row in rows}))
        total += len(rows)
    cursor.batch = upto
    cursor.save(update_fields=["batch"])
    return total


def locked_cursor(name: str = CURSOR) -> CountCursor:
    """The cursor, held until the transaction ends: whoever holds it is the only one who counts."""
    CountCursor.objects.get_or_create(name=name)
    return CountCursor.objects.select_for_update().get(name=name)


def counted_upto(name: str = CURSOR) -> int:
    """The number of the last shipped batch whose rows are all counted; 0 before the first."""
    return CountCursor.objects.filter(name=name).values_list("batch", flat=True).first() or 0


def next_batch(after: int) -> int | None:
    """Up to which shipped batch one step counts: about ROWS_AT_ONCE rows, at least one batch; None when there are none."""
    rows, last = 0, None
    for pk, size in ShippedBatch.objects.filter(pk__gt=after).order_by("pk").values_list("pk", "rows")[:2000]:
        if last is not None and rows + size > ROWS_AT_ONCE:
            break
        rows, last = rows + size, pk
    return last


def counted() -> Q:
    """The logged rows that no counter needs any more, for whoever drops or redacts raw rows: those of counted batches
    that are failures or a preview's, or whose version has a baseline that has counted its past.

    Rows of a version that has no baseline yet are not among them: its first rows become the baseline.
    """
    mine = Baseline.objects.filter(deployment=OuterRef("deployment"), version=OuterRef("version"))
    settled = Exists(mine.filter(active=True)) & ~Exists(mine.filter(backfill_before__isnull=False))
    uncounted = ~Q(error_code="") | Q(version__isnull=True) | Q(via=PredictionLog.PREVIEW)
    return Q(batch__lte=counted_upto()) & (uncounted | Q(settled))


# -- a new baseline's past --------------------------------------------------------------------------------------------


def leave_to_backfill(baseline: Baseline, cursor: CountCursor) -> None:
    """Say on a baseline about to be saved that what the counter has passed over is its backfill's. The caller holds the cursor."""
    baseline.backfill_batch, baseline.backfill_before = cursor.batch, _EVERYTHING


def backfill(baseline: Baseline) -> int:
    """Count kept rows from before a baseline, newest first, BACKFILL_STEPS at most. Returns the rows counted."""
    total = 0
    for _ in range(BACKFILL_STEPS):
        rows = backfill_step(baseline.pk)
        if rows is None:
            break
        total += rows
    return total


@transaction.atomic
def backfill_step(baseline_id: int) -> int | None:
    """About ROWS_AT_ONCE rows of a baseline's past; None when all of it is counted."""
    locked_cursor()
    baseline = Baseline.objects.filter(pk=baseline_id, backfill_before__isnull=False).first()
    if baseline is None:
        return None
    left = _past(baseline)
    lowest = left.order_by("-at").values_list("at", flat=True)[ROWS_AT_ONCE - 1 : ROWS_AT_ONCE].first()
    total, found = 0, left if lowest is None else left.filter(at__gte=lowest)
    for rows in _portions(found.order_by().values_list(*FIELDS).iterator(chunk_size=2000)):
        _count(rows, {(baseline.deployment_id, baseline.version_id): [baseline]})
        total += len(rows)
    baseline.backfill_before = lowest
    if lowest is None:
        baseline.counts_from = ColumnCount.objects.filter(baseline=baseline).aggregate(at=Min("hour"))["at"]
    baseline.save(update_fields=["backfill_before", "counts_from"])
    return total


def _past(baseline: Baseline) -> QuerySet[PredictionLog]:
    """The kept rows that its backfill has not counted yet, without those that a live baseline was learnt from."""
    rows = PredictionLog.objects.production().filter(
        deployment=baseline.deployment_id,
        version=baseline.version_id,
        error_code="",
        batch__lte=baseline.backfill_batch,
        at__lt=baseline.backfill_before,
    )
    until, last = baseline.learned_until, baseline.learned_id
    if until is None:
        return rows
    return rows.exclude(Q(at__lt=until) | Q(at=until, pk__lte=last) if last else Q(at__lte=until))


# -- by day -----------------------------------------------------------------------------------------------------------


def merge_days() -> int:
    """Make days of the hours that are old enough, each day in a transaction of its own. Returns how many days were made."""
    upto = clock.floor(clock.now() - stored_counts.HOURS_KEPT, windows.DAY)
    behind = Baseline.objects.filter(Q(days_until=None) | Q(days_until__lt=upto))
    made = 0
    for pk in list(behind.values_list("pk", flat=True)):
        while _merge_step(pk, upto):
            made += 1
    return made


@transaction.atomic
def _merge_step(baseline_id: int, upto: datetime) -> bool:
    locked_cursor()
    baseline = Baseline.objects.filter(pk=baseline_id).first()
    return baseline is not None and stored_counts.merge_days(baseline, upto)


def forget_retired() -> int:
    """Delete the counts of baselines that were replaced and cannot come back. Returns how many rows."""
    retired = Q(baseline__counted_until=None) | Q(baseline__counted_until__lt=clock.now())
    deleted, _ = ColumnCount.objects.filter(retired, baseline__active=False).delete()
    return deleted


# -- the count itself -------------------------------------------------------------------------------------------------


def _predicted(which: Q) -> Iterable[tuple[Any, ...]]:
    """Answered rows, without the failed requests and what previews were asked."""
    answered = PredictionLog.objects.production().filter(which, error_code="", version__isnull=False)
    return answered.order_by().values_list(*FIELDS).iterator(chunk_size=2000)


def _portions(rows: Iterable[tuple[Any, ...]]) -> Iterable[list[tuple[Any, ...]]]:
    """One request may bring a hundred thousand rows: never more than ROWS_AT_ONCE in memory."""
    rest = iter(rows)
    while portion := list(islice(rest, ROWS_AT_ONCE)):
        yield portion


def _counting(keys: set[tuple[int, int]]) -> dict[tuple[int, int], list[Baseline]]:
    """The baselines to count on, by deployment and version: the active one, and a replaced one that may still come back."""
    found: dict[tuple[int, int], list[Baseline]] = defaultdict(list)
    counted_on = Q(active=True) | Q(counted_until__gt=clock.now())
    for baseline in Baseline.objects.filter(counted_on, deployment__in={key[0] for key in keys}):
        found[baseline.deployment_id, baseline.version_id].append(baseline)
    return found


def _count(rows: list[tuple[Any, ...]], baselines: dict[tuple[int, int], list[Baseline]]) -> None:
    """Add rows (as FIELDS) to the hours of their baselines; rows of versions without one are passed over."""
    by_version: dict[tuple[int, int], dict[datetime, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for deployment, version, at, *answer in rows:
        if (deployment, version) in baselines:
            hour = at.replace(minute=0, second=0, microsecond=0)  # of UTC; faster than clock.floor
            by_version[deployment, version][hour].append(windows.row_of(*answer))
    for key, hours in by_version.items():
        for baseline in baselines[key]:
            stored_counts.add(baseline, hours)
