"""The prediction log: ``append`` writes to the spool before the answer leaves, ``ship_once`` moves the spool into the database.

Nothing is lost and nothing doubled: the offset up to which a segment was read moves in the same transaction as its rows, by
compare-and-set, so a shipper that dies, or a second one, changes nothing.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.db.models import F

from mlops.core import clock, logs
from registry.models import ModelVersion
from serving import log_table, records, redaction, rollout_counts, shadow_records, spool, traffic_counts
from serving.models import Deployment, Segment, ShippedBatch
from serving.pace import Pace
from serving.records import Columns

log = logs.get(__name__)

READ_BYTES = 128 << 10
# One transaction takes about 50 ms: nobody else can write to SQLite meanwhile, and requests must not wait for the log.
BATCH_RECORDS = BATCH_ROWS = 5_000
BATCH_BYTES = 4 << 20  # records may be large, and parsed they take many times as much memory
# A finished segment is kept this long after its last write and the last transaction that took from it: by then the database's own
# files have reached the disk, so a power cut that rolls the last transactions back finds their source still there.
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
    return Shipper().ship()


class Seen(NamedTuple):
    """Up to where a segment was in the database, and since when, in Unix seconds."""

    offset: int
    at: float


NOT_SEEN = Seen(-1, -math.inf)


class Shipper:
    """Ships again and again: it asks the database nothing about a segment that has not grown since it was shipped.

    With a ``pace`` it rests between transactions while the processor is wanted by others.
    """

    def __init__(self, pace: Pace | None = None) -> None:
        self._pace = pace
        self._seen: dict[str, Seen] = {}  # by segment
        self._tidied_at = -math.inf

    def ship(self) -> Shipped:
        done, folder = Shipped(), Path(settings.SPOOL_DIR)
        seen: dict[str, Seen] = {}
        if self._pace is not None:
            self._pace.begin()
        for path in spool.segments(folder):
            with contextlib.suppress(FileNotFoundError):  # another shipper has finished it
                seen[path.stem] = _ship_segment(path, done, self._seen.get(path.stem, NOT_SEEN), self._pace)
        self._seen = seen
        if time.monotonic() - self._tidied_at > KEEP_S:
            self._tidied_at = time.monotonic()
            _forget_deleted(folder)
        return done


def _ship_segment(path: Path, done: Shipped, before: Seen, pace: Pace | None) -> Seen:
    """What is seen of it now. Where it has not grown there is nothing to do, but to delete it in time."""
    with spool.opened(path) as (fd, writer_gone):
        found = os.fstat(fd)
        long_ago = clock.now().timestamp() - KEEP_S
        finished = writer_gone and max(found.st_mtime, before.at) < long_ago
        if found.st_size == before.offset and not finished:
            return before
        segment, created = Segment.objects.get_or_create(name=path.stem)
        at = segment.updated_at.timestamp()
        if os.fstat(fd).st_nlink == 0:  # finished by another shipper since we opened it: a new row would ship all again
            if created:
                segment.delete()
            return Seen(found.st_size, at)
        if finished and segment.offset >= found.st_size and at < long_ago:
            path.unlink()
            Segment.objects.filter(pk=segment.pk).delete()
            return Seen(segment.offset, at)
        offset = _ship_bytes(fd, segment, found.st_size, done, pace, writer_gone=writer_gone)
        return Seen(offset, clock.now().timestamp() if offset > segment.offset else at)


def _ship_bytes(fd: int, segment: Segment, size: int, done: Shipped, pace: Pace | None, *, writer_gone: bool) -> int:
    """Up to where it has come. A record that the database refuses is stepped over alone, never with its neighbours, and counted as damaged."""
    offset, most = segment.offset, BATCH_RECORDS
    while offset < size:
        batch = _gather(fd, offset, size, most, writer_gone=writer_gone)
        if batch.offset == offset:
            break  # the last frame is still being written
        try:
            stored = _store(segment.name, offset, batch)
        except (DataError, IntegrityError, ValueError, OverflowError) as error:
            if batch.records > 1:
                most = batch.records // 2  # until it is found
                continue
            log.warning("prediction_log_refused", segment=segment.name, offset=offset, error=str(error)[:300])
            batch = Batch(batch.offset, damaged_bytes=batch.damaged_bytes + batch.offset - offset)
            stored = _store(segment.name, offset, batch)
        if not stored:
            break  # another shipper works on it
        done.requests += len(batch.calls)
        done.rows += batch.rows
        done.damaged_bytes += batch.damaged_bytes
        offset, most = batch.offset, min(2 * most, BATCH_RECORDS)
        if pace is not None:
            pace.rest((clock.now() - batch.calls[-1].at).total_seconds() if batch.calls else 0.0)
    return offset


@dataclass
class Batch:
    """What one transaction is to store: the records of a segment up to ``offset``, parsed."""

    offset: int
    records: int = 0
    rows: int = 0
    calls: list[records.Call] = field(default_factory=list)
    compared: list[shadow_records.Compared] = field(default_factory=list)
    drops: list[traffic_counts.Drop] = field(default_factory=list)
    damaged_bytes: int = 0
    owners: dict[int, int] = field(default_factory=dict)  # deployment id -> organization id
    never_called: set[int] = field(default_factory=set)  # deployment ids


def _gather(fd: int, offset: int, size: int, most: int, *, writer_gone: bool) -> Batch:
    """The next records, ``most`` of them, and not many more rows than BATCH_ROWS or bytes than BATCH_BYTES."""
    batch, versions, redactors = Batch(offset), dict[int, Columns](), redaction.load()
    end = min(size, offset + BATCH_BYTES)
    while batch.offset < end and batch.records < most and batch.rows < BATCH_ROWS:
        reading = _look(fd, batch.offset, size, writer_gone=writer_gone, max_records=most - batch.records)
        if reading.offset == batch.offset:
            break
        _learn_versions(versions, reading.records)
        for record in reading.records:
            _parse(record, batch, versions, redactors)
        batch.offset = reading.offset
        batch.records += len(reading.records)
        batch.damaged_bytes += reading.damaged_bytes
    _leave_out_deleted(batch, versions)
    return batch


def _look(fd: int, offset: int, size: int, *, writer_gone: bool, max_records: int) -> spool.Reading:
    """The next records; a frame larger than the usual look is read whole, alone."""
    length = READ_BYTES
    while True:
        data = os.pread(fd, min(length, size - offset), offset)
        final = writer_gone and offset + len(data) >= size
        reading = spool.read(data, offset, final=final, max_records=max_records)
        if reading.offset > offset or len(data) < length:
            return reading
        length, max_records = length * 4, 1


def _learn_versions(versions: dict[int, Columns], found: list[spool.Record]) -> None:
    asked = {record.header.get(name) for record in found for name in ("version", "champion")}
    unknown = [pk for pk in asked if isinstance(pk, int) and pk not in versions]
    if unknown:
        there = ModelVersion.objects.filter(pk__in=unknown).values_list("pk", "schema")
        versions.update((pk, records.columns_of(schema)) for pk, schema in there)


def _parse(
    record: spool.Record, batch: Batch, versions: dict[int, Columns], redactors: dict[int, redaction.Redactor]
) -> None:
    try:
        match record.header.get("kind"):
            case "drops":
                at = datetime.fromtimestamp(record.header["at"], tz=UTC)
                batch.drops += [(int(owner), at, int(count)) for owner, count in record.header["drops"].items()]
            case "shadow":
                batch.compared.append(shadow_records.parse(record, versions.get, _redactor(record, redactors)))
            case _:
                call = records.parse(record, versions.get, _redactor(record, redactors))
                batch.calls.append(call)
                batch.rows += len(call.rows)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        log.warning("prediction_log_unreadable", error=repr(error)[:300])
        batch.damaged_bytes += len(record.request) + len(record.response)


def _redactor(record: spool.Record, redactors: dict[int, redaction.Redactor]) -> redaction.Redactor | None:
    return redactors.get(record.header["deployment"]) if redactors else None


def _leave_out_deleted(batch: Batch, versions: dict[int, Columns]) -> None:
    """What belongs to deployments and versions that are no more. One that goes from now on makes the transaction fail."""
    wanted = {each.deployment_id for each in (*batch.calls, *batch.compared)} | {owner for owner, _, _ in batch.drops}
    there = Deployment.objects.filter(pk__in=wanted).values_list("pk", "organization_id", "first_call_at")
    for deployment, organization, first_call_at in there:
        batch.owners[deployment] = organization
        if first_call_at is None:
            batch.never_called.add(deployment)
    allowed, known = set(batch.owners.items()), {None, *versions}
    batch.calls = [
        call
        for call in batch.calls
        if (call.deployment_id, call.organization_id) in allowed and call.version_id in known
    ]
    batch.compared = [
        each
        for each in batch.compared
        if (each.deployment_id, each.organization_id) in allowed
        and each.version_id in versions
        and each.champion_id in known
    ]
    batch.drops = [drop for drop in batch.drops if drop[0] in batch.owners]
    batch.rows = sum(len(call.rows) for call in batch.calls)


def _store(name: str, offset: int, batch: Batch) -> bool:
    """One transaction: offset, rows, counters. False when another shipper has moved the offset."""
    with transaction.atomic():
        _one_at_a_time()
        moved = Segment.objects.filter(name=name, offset=offset).update(
            offset=batch.offset, damaged_bytes=F("damaged_bytes") + batch.damaged_bytes, updated_at=clock.now()
        )
        if moved != 1:
            return False
        if batch.rows:
            log_table.insert(batch.calls, ShippedBatch.objects.create(rows=batch.rows).pk)
        production = [call for call in batch.calls if call.production]
        traffic_counts.count(production, batch.drops, batch.owners)
        rollout_counts.count(production)
        shadow_records.count(batch.compared)
        _mark_first_calls([call for call in production if call.deployment_id in batch.never_called])
    return True


def _one_at_a_time() -> None:
    """SQLite's immediate transactions come one after the other by themselves."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_SHIPPER_LOCK])


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
