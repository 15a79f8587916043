"""The prediction log: ``append`` writes to the spool before the answer leaves, ``ship_once`` moves the spool into the database.

Nothing is lost and nothing doubled: the offset up to which a segment was read moves in the same transaction as its rows, by
compare-and-set, so a shipper that dies, or a second one, changes nothing.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import F

from mlops.core import clock, logs
from registry.models import ModelVersion
from serving import records, rollout_counts, shadow_records, spool, traffic
from serving.models import Deployment, PredictionLog, Segment, ShippedBatch, TrafficBucket

log = logs.get(__name__)

READ_BYTES = 4 << 20
BATCH_RECORDS = 2_000
# A finished segment is kept this long after its last write: by then the database's own files have reached the disk, so a
# power cut that rolls the last transactions back finds their source still there.
KEEP_S = 60.0
_SHIPPER_LOCK = 0x51195EED  # PostgreSQL advisory lock: batch numbers must rise in commit order

_writer: spool.Writer | None = None


# --- The hot path -------------------------------------------------------------------------------------------------------


def append(  # noqa: PLR0913  one flat record, written thousands of times a second
    *,
    base_id: UUID,
    organization_id: int,
    deployment_id: int,
    version_id: int | None,
    at: float,
    latency_ms: float,
    status: int,
    code: str,
    detail: str,
    key_prefix: str,
    request_id: str,
    via: str,
    request: bytes,
    response: bytes,
    pinned: bool = False,
) -> bool:
    """Log one request, answered or failed, durably. ``at``: Unix seconds; ``pinned``: it chose its version. False: there was no room; the drop is counted."""
    header = {
        "id": base_id.hex,
        "organization": organization_id,
        "deployment": deployment_id,
        "version": version_id,
        "at": at,
        "latency_ms": latency_ms,
        "status": status,
        "code": code,
        "key": key_prefix,
        "request_id": request_id,
        "via": via,
    }
    if pinned:
        header["pinned"] = True
    if status >= 400:
        header["detail"] = detail
        request, response = request[: 4 * records.EXCERPT_CHARACTERS], b""
    return writer().append(spool.frame(header, request, response), deployment_id)


def writer() -> spool.Writer:
    global _writer  # noqa: PLW0603  one segment per process
    if _writer is None:
        _writer = spool.Writer(settings.SPOOL_DIR, settings.SPOOL_LIMIT_BYTES)
    return _writer


# --- The shipper --------------------------------------------------------------------------------------------------------


@dataclass
class Shipped:
    requests: int = 0
    rows: int = 0
    damaged_bytes: int = 0


def ship_once() -> Shipped:
    """Move everything the spool holds into the database and delete finished segments. Safe beside other shippers."""
    done, folder = Shipped(), Path(settings.SPOOL_DIR)
    for path in spool.segments(folder):
        with contextlib.suppress(FileNotFoundError):  # another shipper has finished it
            _ship_segment(path, done)
    _forget_deleted(folder)
    return done


def _ship_segment(path: Path, done: Shipped) -> None:
    segment, _ = Segment.objects.get_or_create(name=path.stem)
    offset = segment.offset
    with spool.opened(path) as (fd, writer_gone):
        size = os.fstat(fd).st_size
        while offset < size:
            reading = _look(fd, offset, size, writer_gone=writer_gone, max_records=BATCH_RECORDS)
            if reading.offset == offset:
                return  # the last frame is still being written
            moved = _store_or_split(fd, path.stem, offset, reading, size, done, writer_gone=writer_gone)
            if moved is None:
                return  # another shipper works on it
            offset = moved
        if writer_gone and time.time() - os.fstat(fd).st_mtime > KEEP_S:
            path.unlink()
            Segment.objects.filter(pk=segment.pk).delete()


def _look(fd: int, offset: int, size: int, *, writer_gone: bool, max_records: int) -> spool.Reading:
    """The next records; a frame larger than the usual look is read whole."""
    for length in (READ_BYTES, spool.MAX_PAYLOAD_BYTES + READ_BYTES):
        data = os.pread(fd, min(length, size - offset), offset)
        final = writer_gone and offset + len(data) >= size
        reading = spool.read(data, offset, final=final, max_records=max_records)
        if reading.offset > offset or len(data) < length:
            break
    return reading


def _store_or_split(
    fd: int, name: str, offset: int, reading: spool.Reading, size: int, done: Shipped, *, writer_gone: bool
) -> int | None:
    """Store a reading. A record that the database refuses is stepped over alone, never with its neighbours, and counted as damaged."""
    try:
        return _store(name, offset, reading, done)
    except (DataError, IntegrityError, ValueError) as error:
        if len(reading.records) == 1:
            log.warning("prediction_log_refused", segment=name, offset=offset, error=str(error)[:300])
            empty = spool.Reading([], reading.offset, reading.damaged_bytes + reading.offset - offset)
            return _store(name, offset, empty, done)
        single = _look(fd, offset, size, writer_gone=writer_gone, max_records=1)
        return _store_or_split(fd, name, offset, single, size, done, writer_gone=writer_gone)


def _store(name: str, offset: int, reading: spool.Reading, done: Shipped) -> int | None:
    """One transaction: offset, rows, counters. None when another shipper has moved the offset."""
    calls, drops, compared, damaged = _parsed(reading)
    rows = [row for call in calls for row in call.rows]
    with transaction.atomic():
        _one_at_a_time()
        moved = Segment.objects.filter(name=name, offset=offset).update(
            offset=reading.offset, damaged_bytes=F("damaged_bytes") + damaged, updated_at=clock.now()
        )
        if moved != 1:
            return None
        if rows:
            batch = ShippedBatch.objects.create(rows=len(rows))
            for row in rows:
                row.batch_id = batch.pk
            PredictionLog.objects.bulk_create(rows, batch_size=1_000)
        production = [call for call in calls if call.production]
        _count(production, drops)
        rollout_counts.count(production)
        shadow_records.count(compared)
        _mark_first_calls(production)
    done.requests += len(calls)
    done.rows += len(rows)
    done.damaged_bytes += damaged
    return reading.offset


def _one_at_a_time() -> None:
    """SQLite's immediate transactions come one after the other by themselves."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SHIPPER_LOCK])


def _parsed(
    reading: spool.Reading,
) -> tuple[list[records.Call], list[tuple[int, datetime, int]], list[shadow_records.Compared], int]:
    """Calls of deployments that still exist, drops as ``(deployment id, at, count)``, what shadows answered, damaged bytes."""
    compared: list[shadow_records.Compared] = []
    calls: list[records.Call] = []
    drops: list[tuple[int, datetime, int]] = []
    damaged = reading.damaged_bytes
    asked = {record.header.get(name) for record in reading.records for name in ("version", "champion")}
    schemas = dict(
        ModelVersion.objects.filter(pk__in=[pk for pk in asked if isinstance(pk, int)]).values_list("pk", "schema")
    )
    for record in reading.records:
        try:
            if record.header.get("kind") == "drops":
                at = datetime.fromtimestamp(record.header["at"], tz=clock.now().tzinfo)
                drops += [(int(owner), at, int(count)) for owner, count in record.header["drops"].items()]
            elif record.header.get("kind") == "shadow":
                compared.append(shadow_records.parse(record, schemas.get))
            else:
                calls.append(records.parse(record, schemas.get))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            log.warning("prediction_log_unreadable", error=repr(error)[:300])
            damaged += len(record.request) + len(record.response)
    owners = dict(
        Deployment.objects.filter(
            pk__in={call.deployment_id for call in (*calls, *compared)} | {owner for owner, _, _ in drops}
        ).values_list("pk", "organization_id")
    )
    kept = [
        call
        for call in calls
        if owners.get(call.deployment_id) == call.organization_id
        and (call.version_id is None or call.version_id in schemas)
    ]
    followed = [
        each
        for each in compared
        if owners.get(each.deployment_id) == each.organization_id
        and each.version_id in schemas
        and (each.champion_id is None or each.champion_id in schemas)
    ]
    return kept, [drop for drop in drops if drop[0] in owners], followed, damaged


def _count(calls: Iterable[records.Call], drops: list[tuple[int, datetime, int]]) -> None:
    counts: dict[tuple[int, int | None, datetime], traffic.Counts] = {}

    def slot(deployment_id: int, version_id: int | None, at: datetime) -> traffic.Counts:
        return counts.setdefault((deployment_id, version_id, clock.floor(at, traffic.BUCKET)), traffic.Counts())

    for call in calls:
        slot(call.deployment_id, call.version_id, call.at).add(call.status, call.answered_rows, call.latency_ms)
    for deployment_id, at, count in drops:
        slot(deployment_id, None, at).dropped += count
    owners = dict(Deployment.objects.filter(pk__in={key[0] for key in counts}).values_list("pk", "organization_id"))
    for (deployment_id, version_id, at), added in counts.items():
        bucket, _ = TrafficBucket.objects.select_for_update().get_or_create(
            deployment_id=deployment_id,
            version_id=version_id,
            at=at,
            defaults={"organization_id": owners[deployment_id]},
        )
        added.include(bucket)
        TrafficBucket.objects.filter(pk=bucket.pk).update(
            requests=added.requests,
            rows=added.rows,
            client_errors=added.client_errors,
            server_errors=added.server_errors,
            dropped=added.dropped,
            latency=added.latency,
        )


def _mark_first_calls(calls: list[records.Call]) -> None:
    """The page says "first call received" once somebody has used the API itself, not the form."""
    first: dict[int, datetime] = {}
    for call in calls:
        if call.via == "api" and call.status < 400:
            first[call.deployment_id] = min(call.at, first.get(call.deployment_id, call.at))
    for deployment_id, at in first.items():
        Deployment.objects.filter(pk=deployment_id, first_call_at=None).update(first_call_at=at)


def _forget_deleted(folder: Path) -> None:
    """Rows of this machine's segments whose file is gone: the shipper died between deleting the file and the row."""
    there = {path.stem for path in spool.segments(folder)}
    mine = Segment.objects.filter(
        name__startswith=f"{spool.spool_id(folder)}-", updated_at__lt=clock.now() - timedelta(seconds=KEEP_S)
    )
    gone = [name for name in mine.values_list("name", flat=True) if name not in there]
    if gone:
        Segment.objects.filter(name__in=gone).delete()


# --- Upkeep -------------------------------------------------------------------------------------------------------------


def forget(older_than: timedelta) -> int:
    """Delete predictions older than that, in short transactions. Returns how many."""
    cutoff, deleted = clock.now() - older_than, 0
    while True:
        last = PredictionLog.objects.before(cutoff).order_by("pk").values_list("pk", flat=True)[4_999:5_000]
        chunk = PredictionLog.objects.before(cutoff)
        if bound := next(iter(last), None):
            chunk = chunk.filter(pk__lte=bound)
        count, _ = chunk.delete()
        deleted += count
        if bound is None:
            break
    ShippedBatch.objects.filter(at__lt=cutoff - timedelta(days=1)).delete()
    return deleted


def status() -> dict[str, int | float | bool]:
    """The spool of this machine, for pages and health: sizes in bytes, and whether predictions are being logged."""
    folder = Path(settings.SPOOL_DIR)
    used = spool.used_bytes(folder)
    shipped = dict(Segment.objects.values_list("name", "offset"))
    waiting = sum(max(0, path.stat().st_size - shipped.get(path.stem, 0)) for path in spool.segments(folder))
    free = shutil.disk_usage(folder if folder.exists() else folder.parent).free
    return {
        "used_bytes": used,
        "limit_bytes": settings.SPOOL_LIMIT_BYTES,
        "waiting_bytes": waiting,
        "disk_free_bytes": free,
        "full": used >= settings.SPOOL_LIMIT_BYTES or free < (1 << 20),
    }
