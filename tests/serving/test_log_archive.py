"""Rows past their retention as Parquet, and deletion on request from rows and archives."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import pyarrow.parquet
import pytest
from django.db.models import Q

from accounts.models import AuditEvent
from mlops.core import clock, errors, storage
from mlops.jobs import runner
from mlops.jobs.models import Job
from registry.models import Blob
from registry.services import blobs, quotas, sweeping
from serving import archiving, erasing, jobs, log_uses, redaction, retention
from serving.models import Deployment, LogArchive, LogDeletion, LogPolicy, PredictionLog, ShippedBatch
from serving.services import deployments, log_deletions, log_policies


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


@pytest.fixture
def policy(flowers, world) -> LogPolicy:
    return log_policies.change(flowers, world.caller("dan"), retention_days=7, archive=True)


@pytest.fixture
def put(flowers) -> Callable[..., list[UUID]]:
    """``put(10, days=9)``: rows of nine days ago, noon, of customers 0, 1, ..."""
    batch = ShippedBatch.objects.create(rows=1)
    noon = retention.day_of(clock.now()) + timedelta(hours=12)
    made = 0

    def log(count: int, *, days: int, **features: Any) -> list[UUID]:
        nonlocal made
        at = noon - timedelta(days=days)
        rows = [
            PredictionLog(
                id=UUID(int=(int(at.timestamp() * 1000) << 80) + made + place), organization_id=flowers.organization_id, deployment=flowers,
                version=flowers.live_version, batch=batch, at=at, request_id=f"r{place}", latency_ms=1.5,
                features={"customer": place, "city": "Zürich", **features}, prediction="yes", probabilities=[0.25, 0.75],
            )
            for place in range(count)
        ]  # fmt: skip
        made += count
        PredictionLog.objects.bulk_create(rows)
        return [row.pk for row in rows]

    return log


def _run(kind: str) -> Job:
    """Run the newest job of a kind to its end."""
    job = Job.objects.filter(kind=kind).latest("pk")
    runner.run(job.pk)
    job.refresh_from_db()
    return job


def _content(archive: LogArchive) -> list[dict[str, Any]]:
    content = b"".join(storage.open_stream(archive.key))
    assert len(content) == archive.size_bytes
    return pyarrow.parquet.read_table(io.BytesIO(content)).to_pylist()


def test_rows_past_their_retention_are_archived_by_day_and_leave_the_log(flowers, policy, put) -> None:
    kept = put(3, days=6)
    old = put(5, days=9) + put(4, days=8)
    archiving.request_all()
    job = _run("archive_log")
    assert job.status == "done"
    archives = list(LogArchive.objects.order_by("day"))
    assert [(each.rows, each.part) for each in archives] == [(5, 1), (4, 1)]
    rows = [row for each in archives for row in _content(each)]
    assert sorted(row["id"] for row in rows) == sorted(pk.hex for pk in old)
    assert json.loads(rows[0]["features"]) == {"customer": 0, "city": "Zürich"}
    assert (json.loads(rows[0]["probabilities"]), rows[0]["version"]) == ([0.25, 0.75], 1)
    assert set(PredictionLog.objects.values_list("pk", flat=True)) == set(kept)
    assert archiving.request_all() == 0, "nothing is due any more"


def test_daily_upkeep_leaves_rows_that_wait_for_their_archive_alone(policy, put) -> None:
    put(5, days=9)
    jobs.forget_predictions()
    assert PredictionLog.objects.count() == 5
    _run("archive_log")
    assert (PredictionLog.objects.count(), LogArchive.objects.get().rows) == (0, 5)


def test_a_busy_day_has_several_files_and_each_row_is_in_one(monkeypatch, policy, put) -> None:
    monkeypatch.setattr(archiving, "PART_ROWS", 4)
    ids = put(10, days=9)
    archiving.request(policy)
    _run("archive_log")
    archives = list(LogArchive.objects.order_by("part"))
    assert [(each.part, each.rows) for each in archives] == [(1, 4), (2, 4), (3, 2)]
    assert [row["id"] for each in archives for row in _content(each)] == [pk.hex for pk in ids]


@pytest.mark.parametrize("step", ["_switch", "blobs.keep"])
def test_a_worker_that_dies_neither_loses_nor_doubles_rows(monkeypatch, policy, put, step: str) -> None:
    ids = put(6, days=9)

    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(f"serving.archiving.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            archiving.archive_next(policy)
    assert (PredictionLog.objects.count(), LogArchive.objects.count()) == (6, 0)
    assert archiving.archive_next(policy).rows == 6
    assert archiving.archive_next(policy) is None
    assert [row["id"] for row in _content(LogArchive.objects.get())] == [pk.hex for pk in ids]
    assert PredictionLog.objects.count() == 0


def test_rows_that_changed_while_the_file_was_written_are_written_anew(monkeypatch, policy, put) -> None:
    ids = put(3, days=9)
    keep = blobs.keep

    def meanwhile(*args: Any, **options: Any) -> Any:
        PredictionLog.objects.filter(pk=ids[1]).delete()
        return keep(*args, **options)

    with monkeypatch.context() as moved:
        moved.setattr("serving.archiving.blobs.keep", meanwhile)
        with pytest.raises(errors.Conflict):
            archiving.archive_next(policy)
    assert (PredictionLog.objects.count(), LogArchive.objects.count()) == (2, 0)
    assert [row["id"] for row in _content(archiving.archive_next(policy))] == [ids[0].hex, ids[2].hex]


def test_archives_count_in_the_quota_and_rows_stay_when_there_is_no_room(world, policy, put) -> None:
    put(5, days=9)
    world.acme.storage_limit_bytes = 100
    world.acme.save()
    archiving.request(policy)
    job = _run("archive_log")
    policy.refresh_from_db()
    assert (job.status, job.error["code"], PredictionLog.objects.count()) == ("failed", "storage_quota", 5)
    assert "do not fit" in policy.archive_problem
    world.acme.storage_limit_bytes = None
    world.acme.save()
    archiving.request(policy)
    _run("archive_log")
    policy.refresh_from_db()
    assert (policy.archive_problem, PredictionLog.objects.count()) == ("", 0)
    assert quotas.usage(world.acme).stored_bytes >= LogArchive.objects.get().size_bytes


def test_the_sweeper_leaves_archives_alone_and_archives_have_a_retention_of_their_own(
    flowers, world, policy, put, monkeypatch
) -> None:
    put(2, days=30)
    put(2, days=9)
    archiving.request(policy)
    _run("archive_log")
    Blob.objects.update(kept_at=clock.now() - timedelta(days=3))
    sweeping.sweep()
    assert sum(len(_content(each)) for each in LogArchive.objects.all()) == 4
    log_policies.change(flowers, world.caller("dan"), archive_days=20)
    gone = LogArchive.objects.earliest("day")
    assert archiving.forget() == 1
    with pytest.raises(errors.NotFound):
        next(storage.open_stream(gone.key))
    assert LogArchive.objects.get().rows == 2


# -- deletion -------------------------------------------------------------------------------------------------------------


def _counted(flowers: Deployment, world: Any, **criteria: Any) -> LogDeletion:
    row = log_deletions.request(flowers, world.caller("alice"), **criteria)
    assert _run("delete_logged").status == "done"
    row.refresh_from_db()
    assert row.stage == "confirm"
    return row


def _deleted(row: LogDeletion, world: Any) -> LogDeletion:
    log_deletions.confirm(row, world.caller("alice"))
    assert _run("delete_logged").status == "done"
    row.refresh_from_db()
    assert row.stage == "done"
    return row


@pytest.fixture
def archived(policy, put) -> None:
    """Ten rows archived, ten in the log; customers 0 to 9 in each."""
    put(10, days=9)
    archiving.request(policy)
    _run("archive_log")
    put(10, days=1)


def test_a_value_is_deleted_from_rows_and_archives_after_it_was_counted(archived, flowers, world) -> None:
    row = _counted(flowers, world, column="customer", values=["4", 4])
    assert (row.found["rows"], row.found["archived_rows"]) == (1, 1)
    assert (PredictionLog.objects.count(), LogArchive.objects.get().rows) == (10, 10), "counting deletes nothing"
    old = LogArchive.objects.get()
    row = _deleted(row, world)
    assert (row.deleted["rows"], row.deleted["archived_rows"], row.deleted["archives"]) == (1, 1, 1)
    left = LogArchive.objects.get()
    assert {json.loads(row["features"])["customer"] for row in _content(left)} == set(range(10)) - {4}
    assert (left.rows, left.rewritten_at is not None) == (9, True)
    with pytest.raises(errors.NotFound):
        next(storage.open_stream(old.key))
    assert not PredictionLog.objects.filter(features__customer=4).exists()


def test_the_value_is_nowhere_afterwards_but_in_a_keyed_hash(archived, flowers, world) -> None:
    PredictionLog.objects.filter(features__customer=3).update(features={"customer": "4711-secret"})
    row = _deleted(_counted(flowers, world, column="customer", values=["4711-secret"]), world)
    assert row.sealed == ""
    assert "4711-secret" not in f"{row.told} {row.found} {row.deleted} {row.certificate}"
    events = [str(event.detail) for event in AuditEvent.objects.filter(action__startswith="log.deletion")]
    assert len(events) == 2
    mark = redaction.hasher(world.acme).mark("customer", "4711-secret").removeprefix("(hashed) ")
    assert all("4711-secret" not in each and mark in each for each in events)
    assert "1 rows of the prediction log" in row.certificate
    assert mark in row.certificate


def test_ids_and_time_narrow_what_is_meant(put, flowers, world) -> None:
    first, second = put(3, days=3), put(3, days=1)
    cut = clock.now() - timedelta(days=2)
    row = _deleted(_counted(flowers, world, ids=[first[0], second[0]], until=cut), world)
    assert row.deleted["rows"] == 1
    assert set(PredictionLog.objects.values_list("pk", flat=True)) == {*first[1:], *second}
    row = _deleted(_counted(flowers, world, since=cut), world)
    assert row.deleted["rows"] == 3


def test_hashed_values_are_found_and_removed_ones_are_said_to_be_hidden(put, flowers, world) -> None:
    hasher = redaction.hasher(world.acme)
    put(2, days=1, customer=hasher.mark("customer", 42))
    put(3, days=1, customer="(removed)")
    row = _counted(flowers, world, column="customer", values=["42", 42])
    assert (row.found["rows"], row.found["hidden"]) == (2, 3)


def test_an_archive_of_nothing_but_meant_rows_goes_whole(archived, flowers, world) -> None:
    _deleted(_counted(flowers, world, column="city", values=["Zürich"]), world)
    assert (LogArchive.objects.count(), PredictionLog.objects.count()) == (0, 0)


def test_a_deletion_goes_on_where_its_worker_died(archived, flowers, world, monkeypatch) -> None:
    monkeypatch.setattr(erasing, "CHUNK_ROWS", 3)
    row = _counted(flowers, world, column="city", values=["Zürich"])
    log_deletions.confirm(row, world.caller("alice"))
    chunk, seen = erasing._Work._row_chunk, []

    def dying(self: Any, *args: Any) -> None:
        seen.append(1)
        if len(seen) == 3:
            raise RuntimeError("the machine is gone")
        chunk(self, *args)

    with monkeypatch.context() as broken:
        broken.setattr(erasing._Work, "_row_chunk", dying)
        assert _run("delete_logged").status == "queued"
    assert PredictionLog.objects.count() == 4
    assert _run("delete_logged").status == "done"
    row.refresh_from_db()
    assert (row.deleted["rows"], row.deleted["archived_rows"]) == (10, 10), "no row is counted twice"


def test_what_others_keep_of_these_predictions_goes_with_them(archived, flowers, world, monkeypatch) -> None:
    told: list[UUID] = []
    use = log_uses.Use(counted=Q, erase=lambda _, ids: told.extend(ids) or {"feedback": len(ids)})
    monkeypatch.setattr(log_uses, "_USES", {"test": use})
    row = _deleted(_counted(flowers, world, column="customer", values=[7]), world)
    assert (row.deleted["feedback"], len(set(told))) == (2, 2)


def test_one_deletion_at_a_time_and_a_cancelled_one_deletes_nothing(put, flowers, world) -> None:
    put(3, days=1)
    row = _counted(flowers, world, column="customer", values=[1])
    with pytest.raises(errors.Conflict):
        log_deletions.request(flowers, world.caller("alice"), column="customer", values=[2])
    log_deletions.cancel(row, world.caller("alice"))
    with pytest.raises(errors.Conflict):
        log_deletions.confirm(row, world.caller("alice"))
    row.refresh_from_db()
    assert (row.stage, row.sealed, PredictionLog.objects.count()) == ("cancelled", "", 3)


@pytest.mark.parametrize(
    ("criteria", "field"),
    [
        ({}, "ids"),
        ({"column": "a"}, "value"),
        ({"values": [1], "since": clock.now()}, "column"),
        ({"column": "a", "values": ["x" * 3000]}, "value"),
    ],
)
def test_a_wish_that_means_nothing_is_refused(flowers, world, criteria: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        log_deletions.request(flowers, world.caller("alice"), **criteria)
    assert list(refused.value.fields) == [field]
