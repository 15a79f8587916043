"""Requests into five-minute buckets as the log is shipped: in the same transaction, so exactly once."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from django.db import connection

from serving import traffic
from serving.models import TrafficBucket
from serving.records import Call
from serving.traffic import Counts

_BUCKET_S = int(traffic.BUCKET.total_seconds())
_NUMBERS = ("requests", "rows", "client_errors", "server_errors", "dropped")
_COUNTED = (*_NUMBERS, "latency")

Slot = tuple[int, int | None, int]  # deployment id, version id, number of the bucket since the epoch
Drop = tuple[int, datetime, int]  # deployment id, when, how many


def count(calls: Iterable[Call], drops: Iterable[Drop], owners: dict[int, int]) -> None:
    """Add to the buckets. ``owners``: the organisation of each deployment. Only the shipper writes them, one at a time."""
    slots = _tallied(calls, drops)
    if not slots:
        return
    there = {_slot(bucket): bucket for bucket in _kept(slots)}
    new = []
    for slot, added in slots.items():
        bucket = there.get(slot)
        if bucket is None:
            deployment, version, number = slot
            bucket = TrafficBucket(
                organization_id=owners[deployment], deployment_id=deployment, version_id=version, at=_moment(number)
            )
            new.append(bucket)
        added.include(bucket)
        for name in _COUNTED:
            setattr(bucket, name, getattr(added, name))
    TrafficBucket.objects.bulk_create(new)
    _update([bucket for slot, bucket in there.items() if slot in slots])


def _tallied(calls: Iterable[Call], drops: Iterable[Drop]) -> dict[Slot, Counts]:
    found: dict[Slot, Counts] = defaultdict(Counts)
    for call in calls:
        slot = found[call.deployment_id, call.version_id, int(call.at.timestamp()) // _BUCKET_S]
        slot.add(call.status, call.answered_rows, call.latency_ms)
    for deployment, at, dropped in drops:
        found[deployment, None, int(at.timestamp()) // _BUCKET_S].dropped += dropped
    return found


def _kept(slots: Iterable[Slot]) -> Iterable[TrafficBucket]:
    """The buckets there are, and perhaps some of the same deployments beside them: one question."""
    return TrafficBucket.objects.select_for_update().filter(
        deployment_id__in={deployment for deployment, _, _ in slots},
        at__in={_moment(number) for _, _, number in slots},
    )


def _update(buckets: Sequence[TrafficBucket]) -> None:
    """Not ``bulk_update``, whose CASE WHEN costs more than the buckets."""
    quoted, columns = connection.ops.quote_name, [TrafficBucket._meta.get_field(name).column for name in _COUNTED]
    sets = ", ".join(f"{quoted(column)} = %s" for column in columns)
    sql = f"UPDATE {quoted(TrafficBucket._meta.db_table)} SET {sets} WHERE id = %s"  # noqa: S608  names of our own model
    with connection.cursor() as cursor:
        cursor.executemany(
            sql,
            [
                (*(getattr(bucket, name) for name in _NUMBERS), json.dumps(bucket.latency), bucket.pk)
                for bucket in buckets
            ],
        )


def _slot(bucket: TrafficBucket) -> Slot:
    return bucket.deployment_id, bucket.version_id, int(bucket.at.timestamp()) // _BUCKET_S


def _moment(number: int) -> datetime:
    return datetime.fromtimestamp(number * _BUCKET_S, tz=UTC)
