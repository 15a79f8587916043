"""Rows past their retention into Parquet files, a day at a time: a file's row comes and its rows go in one transaction.

A worker that dies before it leaves a file without a row, which the sweeper of the storage takes; one that dies after it leaves nothing to do.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Max

from mlops.core import clock, errors, logs, storage
from mlops.jobs.models import ENDED, Job
from mlops.jobs.queue import enqueue
from mlops.jobs.runner import GoOn, JobRun
from registry.services import blobs
from serving import parquet, retention
from serving.models import LogArchive, LogPolicy, PredictionLog

log = logs.get(__name__)
PART_ROWS = 50_000  # of one file, and of one transaction: about a second on SQLite
PORTION_S = 60.0
LIMIT_BYTES = 4 << 30


def request_all() -> int:
    """A job for every deployment that has rows to archive, and none under way. Returns how many."""
    made = 0
    for policy in LogPolicy.objects.filter(archive=True).select_related("deployment__organization"):
        made += _due(policy).exists() and request(policy) is not None
    return made


def request(policy: LogPolicy) -> Job | None:
    deployment = policy.deployment
    mine = Job.objects.filter(kind="archive_log", subject_type="deployment", subject_id=str(deployment.pk))
    if mine.exclude(status__in=ENDED).exists():
        return None
    return enqueue(
        "archive_log", organization=deployment.organization, subject=deployment, args={"policy_id": policy.pk}
    )


def work(run: JobRun, policy_id: int) -> None:
    """Every part that is due, a minute of them at a time."""
    policy = LogPolicy.objects.select_related("deployment", "organization").filter(pk=policy_id, archive=True).first()
    until, files = time.monotonic() + PORTION_S, 0
    try:
        while policy is not None and (made := archive_next(policy)):
            files += 1
            run.log(f"{made}: {made.rows:,} rows, {storage.readable(made.size_bytes)}.")
            if time.monotonic() > until:
                raise GoOn
    except errors.SlipwayError as error:
        LogPolicy.objects.filter(pk=policy_id).update(archive_problem=f"{error.detail} {error.hint}".strip()[:500])
        raise
    if policy is not None and policy.archive_problem:
        LogPolicy.objects.filter(pk=policy_id).update(archive_problem="")


def _due(policy: LogPolicy) -> Any:
    """Rows of whole days past the retention."""
    before = retention.day_of(clock.now() - retention.retention_of(policy))
    return PredictionLog.objects.filter(deployment=policy.deployment_id).before(before)


def archive_next(policy: LogPolicy) -> LogArchive | None:
    """The oldest rows that are due, at most PART_ROWS of one day. None when there are none. Raises TooLarge (quota), StorageFull, NotReady."""
    due = _due(policy).order_by("pk")
    oldest = due.first()
    if oldest is None:
        return None
    day = retention.day_of(_made_at(oldest.pk))
    # No end beside the day's: what is due has passed it.
    ids = list(due.before(day + timedelta(days=1)).values_list("pk", flat=True)[:PART_ROWS])
    rows = due.filter(pk__gte=ids[0], pk__lte=ids[-1])
    with parquet.written(parquet.lines(rows)) as (path, count):
        with path.open("rb") as source:
            spool = storage.spool_of(source, limit_bytes=LIMIT_BYTES, what="An archive of the log")
        try:
            kept = blobs.keep(policy.organization, spool)
        finally:
            spool.discard()
    archive = LogArchive(
        organization_id=policy.organization_id, deployment_id=policy.deployment_id, day=day.date(), first_id=ids[0],
        last_id=ids[-1], rows=count, size_bytes=kept.stored.size_bytes, sha256=kept.stored.sha256, key=kept.stored.key,
    )  # fmt: skip
    try:
        _switch(archive, rows)
    except BaseException:
        blobs.give_back(kept)
        raise
    log.info("log_archived", deployment=policy.deployment_id, day=str(archive.day), rows=count)
    return archive


@transaction.atomic
def _switch(archive: LogArchive, rows: Any) -> None:
    """The file's row comes, its rows go. A row that came late, or went, meanwhile: neither, and the next attempt writes anew."""
    list(LogPolicy.objects.select_for_update().filter(deployment=archive.deployment_id).values("pk"))
    mine = LogArchive.objects.filter(deployment=archive.deployment_id, day=archive.day)
    archive.part = (mine.aggregate(last=Max("part"))["last"] or 0) + 1
    archive.save()
    gone = rows.delete()[1].get(PredictionLog._meta.label, 0)
    if gone != archive.rows:
        raise errors.Conflict(
            f"{archive.rows} rows were written and {gone} are there.", code="log_moved", hint="The job tries again."
        )


def _made_at(prediction: UUID) -> datetime:
    return datetime.fromtimestamp((prediction.int >> 80) / 1000, tz=UTC)


def forget() -> int:
    """Archives past their own retention. Returns how many."""
    count = 0
    for policy in LogPolicy.objects.exclude(archive_days=None):
        first_day = (clock.now() - timedelta(days=policy.archive_days or 0)).date()
        count += remove(LogArchive.objects.filter(deployment=policy.deployment_id, day__lt=first_day))
    return count


def remove(archives: Any) -> int:
    found = list(archives)
    LogArchive.objects.filter(pk__in=[each.pk for each in found]).delete()
    for each in found:
        blobs.release(each.organization_id, [each.key])
    return len(found)
