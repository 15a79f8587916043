"""From the spool to the database: exactly once, whatever dies in between."""

from __future__ import annotations

import contextlib
import os
import threading
from datetime import timedelta

import orjson
import pytest
from django.db import connection

from mlops.core import clock, ids
from serving import prediction_log, retention, spool
from serving.models import Deployment, PredictionLog, Segment, ShippedBatch, TrafficBucket
from serving.services import deployments


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


def _append(deployment: Deployment, rows: int = 1, **changes) -> bool:
    request = orjson.dumps({"inputs": [[1.0, 2.0, 3.0, 4.0]] * rows})
    response = orjson.dumps({"predictions": [0] * rows})
    values = {
        "base_id": ids.prediction_base(), "organization_id": deployment.organization_id, "deployment_id": deployment.pk,
        "version_id": deployment.live_version.pk, "at": clock.now().timestamp(), "latency_ms": 2.0, "status": 200, "code": "", "detail": "",
        "key_prefix": "abcd2345", "request_id": "request-1", "via": "api", "request": request, "response": response,
    }  # fmt: skip
    return prediction_log.append(**{**values, **changes})


def test_shipping_twice_adds_nothing(flowers) -> None:
    for _ in range(5):
        _append(flowers, rows=3)
    first, second = prediction_log.ship_once(), prediction_log.ship_once()
    assert (first.requests, first.rows, second.requests, second.rows) == (5, 15, 0, 0)
    assert PredictionLog.objects.count() == 15
    assert TrafficBucket.objects.get().requests == 5


def test_each_version_and_each_five_minutes_have_a_bucket_of_their_own(flowers, world, ready_version) -> None:
    other = ready_version(world.acme)
    at = clock.floor(clock.now(), timedelta(minutes=5))
    moments = [at - timedelta(minutes=5), at - timedelta(milliseconds=1), at, at + timedelta(seconds=1)]
    for _ in range(2):  # into new ones, then into those
        for moment in moments:
            _append(flowers, at=moment.timestamp())
        _append(flowers, at=at.timestamp(), version_id=other.pk, rows=3)
        _append(flowers, at=at.timestamp(), version_id=None, status=503, code="not_deployed")
        _append(flowers, at=at.timestamp(), version_id=other.pk, via="preview")
        prediction_log.ship_once()
    first = flowers.live_version.pk
    found = {
        (bucket.version_id, bucket.at): (bucket.requests, bucket.rows, sum(bucket.latency))
        for bucket in TrafficBucket.objects.all()
    }
    assert found == {
        (first, moments[0]): (4, 4, 4), (first, at): (4, 4, 4), (other.pk, at): (2, 6, 2), (None, at): (2, 0, 0)
    }  # fmt: skip


def test_counters_are_added_to_what_is_there(flowers) -> None:
    at = clock.now().timestamp()
    _append(flowers, at=at, latency_ms=1.0)
    prediction_log.ship_once()
    _append(flowers, at=at, latency_ms=100.0)
    _append(flowers, at=at, status=422, code="schema_mismatch")
    _append(flowers, at=at, status=504, code="deadline_exceeded")
    prediction_log.ship_once()
    bucket = TrafficBucket.objects.get()
    assert (bucket.requests, bucket.rows, bucket.client_errors, bucket.server_errors) == (4, 2, 1, 1)
    assert sum(bucket.latency) == 2


def test_batches_rise_and_name_their_rows(flowers) -> None:
    for _ in range(2):
        _append(flowers, rows=2)
        prediction_log.ship_once()
    batches = list(ShippedBatch.objects.order_by("pk"))
    assert [batch.rows for batch in batches] == [2, 2]
    assert [PredictionLog.objects.filter(batch=batch).count() for batch in batches] == [2, 2]


@pytest.mark.parametrize("step", ["log_table.insert", "traffic_counts.count", "_mark_first_calls"])
def test_a_shipper_that_dies_in_its_transaction_changes_nothing_and_the_next_one_ships_all(
    flowers, monkeypatch, step: str
) -> None:
    for _ in range(4):
        _append(flowers)

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(f"serving.prediction_log.{step}", die)
        with pytest.raises(KeyboardInterrupt):
            prediction_log.ship_once()
    assert (PredictionLog.objects.count(), ShippedBatch.objects.count(), TrafficBucket.objects.count()) == (0, 0, 0)
    assert prediction_log.ship_once().rows == 4
    assert TrafficBucket.objects.get().requests == 4


@pytest.mark.django_db(transaction=True)
def test_shippers_at_the_same_time_ship_each_request_once(flowers, monkeypatch) -> None:
    monkeypatch.setattr(prediction_log, "BATCH_RECORDS", 5)
    for _ in range(60):
        _append(flowers)

    def ship() -> None:
        try:
            for _ in range(20):
                prediction_log.ship_once()
        finally:
            connection.close()

    threads = [threading.Thread(target=ship) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    prediction_log.ship_once()
    assert PredictionLog.objects.count() == 60
    assert sum(TrafficBucket.objects.values_list("requests", flat=True)) == 60


def test_a_finished_segment_is_deleted_after_a_while_with_its_row_and_never_before(
    flowers, own_spool, monkeypatch
) -> None:
    _append(flowers)
    prediction_log.writer().close()
    prediction_log.ship_once()
    assert len(spool.segments(own_spool)) == 1
    monkeypatch.setattr(prediction_log, "KEEP_S", -1.0)
    prediction_log.ship_once()
    assert spool.segments(own_spool) == []
    assert not Segment.objects.exists()
    assert PredictionLog.objects.count() == 1


def test_a_backlog_that_is_shipped_late_is_kept_as_long_as_any_other(
    flowers, own_spool, monkeypatch, django_assert_num_queries
) -> None:
    _append(flowers)
    prediction_log.writer().close()
    (path,) = spool.segments(own_spool)
    os.utime(path, (0, 0))
    shipper = prediction_log.Shipper()
    assert shipper.ship().rows == 1
    with django_assert_num_queries(0):
        shipper.ship()
    prediction_log.ship_once()  # also who has not seen it before
    assert path.exists()
    later = clock.now() + timedelta(seconds=prediction_log.KEEP_S + 1)
    monkeypatch.setattr(clock, "now", lambda: later)
    shipper.ship()
    assert (path.exists(), Segment.objects.count()) == (False, 0)


def test_a_segment_that_another_shipper_finishes_while_it_is_opened_is_not_shipped_again(
    flowers, own_spool, monkeypatch
) -> None:
    for _ in range(3):
        _append(flowers, status=429, code="rate_limited")  # counted, without a row whose id could be refused
    prediction_log.writer().close()
    prediction_log.ship_once()
    opened = spool.opened

    @contextlib.contextmanager
    def opened_and_finished(path):
        with opened(path) as found:
            with monkeypatch.context() as other:
                other.setattr(spool, "opened", opened)
                other.setattr(prediction_log, "KEEP_S", -1.0)
                prediction_log.ship_once()
            assert not path.exists()
            yield found

    monkeypatch.setattr(spool, "opened", opened_and_finished)
    assert prediction_log.ship_once().requests == 0
    assert TrafficBucket.objects.get().requests == 3
    assert not Segment.objects.exists()


def test_a_segment_with_a_living_writer_stays(flowers, own_spool, monkeypatch) -> None:
    monkeypatch.setattr(prediction_log, "KEEP_S", -1.0)
    _append(flowers)
    prediction_log.ship_once()
    assert len(spool.segments(own_spool)) == 1
    _append(flowers)
    assert prediction_log.ship_once().rows == 1


def test_a_row_left_over_from_a_deleted_segment_is_forgotten_but_other_machines_rows_are_not(
    flowers, own_spool
) -> None:
    old = clock.now() - timedelta(hours=1)
    mine = Segment.objects.create(name=f"{spool.spool_id(own_spool)}-gone")
    other = Segment.objects.create(name="anothermachine-gone")
    Segment.objects.update(updated_at=old)
    prediction_log.ship_once()
    assert list(Segment.objects.all()) == [other]
    assert mine != other


def test_damage_is_counted_and_costs_only_itself(flowers, own_spool) -> None:
    for _ in range(3):
        _append(flowers)
    prediction_log.writer().close()
    (path,) = spool.segments(own_spool)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(bytes(content))
    done = prediction_log.ship_once()
    assert done.rows == 2
    assert done.damaged_bytes > 0
    assert Segment.objects.get().damaged_bytes == done.damaged_bytes


def test_a_record_the_database_refuses_is_stepped_over_without_its_neighbours(flowers) -> None:
    base = ids.prediction_base()
    _append(flowers, base_id=base)
    _append(flowers, base_id=base)  # the same id again: no database takes it
    _append(flowers)
    done = prediction_log.ship_once()
    assert done.rows == 2
    assert done.damaged_bytes > 0
    assert prediction_log.ship_once().rows == 0


def test_one_bad_record_of_many_is_found_in_a_few_halves(flowers, monkeypatch) -> None:
    tries = []
    store = prediction_log._store
    monkeypatch.setattr(prediction_log, "_store", lambda *args: (tries.append(args), store(*args))[1])
    base = ids.prediction_base()
    for place in range(64):
        _append(flowers, **({"base_id": base} if place in (0, 40) else {}))
    assert prediction_log.ship_once().rows == 63
    assert len(tries) < 20


@pytest.mark.django_db(transaction=True)
def test_what_is_deleted_while_it_is_shipped_is_left_out_and_its_neighbours_are_not(
    flowers, world, ready_version, monkeypatch
) -> None:
    trees = deployments.create_deployment(
        organization=world.acme,
        name="trees",
        version=ready_version(world.acme, model="tree"),
        caller=world.caller("dan"),
    )
    for _ in range(8):
        _append(flowers)
        _append(trees)
    look = prediction_log._leave_out_deleted

    def look_and_lose(*args: object) -> None:
        look(*args)
        Deployment.objects.filter(pk=flowers.pk).delete()

    monkeypatch.setattr(prediction_log, "_leave_out_deleted", look_and_lose)
    assert prediction_log.ship_once().rows == 8
    assert set(PredictionLog.objects.values_list("deployment_id", flat=True)) == {trees.pk}


def test_a_transaction_holds_no_more_rows_than_it_may(flowers, monkeypatch) -> None:
    monkeypatch.setattr(prediction_log, "BATCH_ROWS", 20)
    monkeypatch.setattr(prediction_log, "READ_BYTES", 2_000)
    for _ in range(12):
        _append(flowers, rows=10)
    assert prediction_log.ship_once().rows == 120
    assert max(ShippedBatch.objects.values_list("rows", flat=True)) <= 40


def test_a_transaction_holds_no_more_bytes_than_it_may(flowers, monkeypatch) -> None:
    monkeypatch.setattr(prediction_log, "BATCH_BYTES", 10_000)
    monkeypatch.setattr(prediction_log, "READ_BYTES", 2_000)
    sizes, store = [], prediction_log._store

    def measured(name: str, offset: int, batch: prediction_log.Batch) -> bool:
        sizes.append(batch.offset - offset)
        return store(name, offset, batch)

    monkeypatch.setattr(prediction_log, "_store", measured)
    for _ in range(60):
        _append(flowers, status=429, code="rate_limited", request=b"x" * 700)  # no rows that would bound it
    assert prediction_log.ship_once().requests == 60
    assert len(sizes) > 1
    assert max(sizes) < 12_000


def test_the_database_is_asked_nothing_while_nothing_comes(flowers, django_assert_num_queries) -> None:
    shipper = prediction_log.Shipper()
    _append(flowers)
    assert shipper.ship().rows == 1
    with django_assert_num_queries(0):
        assert shipper.ship().rows == 0
    _append(flowers)
    assert shipper.ship().rows == 1


def test_a_segment_that_a_long_lived_shipper_has_moved_is_deleted_in_time(flowers, own_spool, monkeypatch) -> None:
    shipper = prediction_log.Shipper()
    _append(flowers)
    shipper.ship()
    prediction_log.writer().close()
    shipper.ship()
    assert len(spool.segments(own_spool)) == 1
    monkeypatch.setattr(prediction_log, "KEEP_S", -1.0)
    shipper.ship()
    assert (spool.segments(own_spool), Segment.objects.count()) == ([], 0)


def test_a_frame_larger_than_one_look_is_shipped(flowers, monkeypatch) -> None:
    monkeypatch.setattr(prediction_log, "READ_BYTES", 1_000)
    _append(flowers, rows=500)
    _append(flowers)
    assert prediction_log.ship_once().rows == 501


def test_records_of_a_deleted_deployment_are_left_out(flowers) -> None:
    _append(flowers)
    _append(flowers, deployment_id=flowers.pk + 1)
    _append(flowers, organization_id=flowers.organization_id + 1)
    _append(flowers, version_id=10_000_000)
    assert prediction_log.ship_once().rows == 1


def test_drops_are_counted_for_their_deployment_and_said_in_its_traffic(flowers, world, monkeypatch) -> None:
    monkeypatch.setattr(spool, "_ROOM_CHECK_S", -1.0)
    writer = prediction_log.writer()
    limit, writer.limit_bytes = writer.limit_bytes, 0
    assert not _append(flowers)
    assert not _append(flowers)
    writer.limit_bytes = limit
    assert _append(flowers)
    prediction_log.ship_once()
    found = world.api("vic").get("/api/v1/acme/deployments/flowers/analytics").json()
    assert (found["requests"], found["not_logged"]) == (1, 2)


def test_the_first_api_call_is_marked_and_the_forms_are_not(flowers) -> None:
    _append(flowers, via="page")
    _append(flowers, status=422, code="x")
    prediction_log.ship_once()
    flowers.refresh_from_db()
    assert flowers.first_call_at is None
    _append(flowers)
    prediction_log.ship_once()
    flowers.refresh_from_db()
    first = flowers.first_call_at
    assert first is not None
    _append(flowers)
    prediction_log.ship_once()
    flowers.refresh_from_db()
    assert flowers.first_call_at == first


def test_old_predictions_are_forgotten_and_traffic_stays(flowers) -> None:
    import uuid

    def base(days: int) -> uuid.UUID:
        moment = clock.now() - timedelta(days=days)
        return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)

    for days in (40, 31, 29, 0):
        _append(flowers, base_id=base(days), at=(clock.now() - timedelta(days=days)).timestamp())
    prediction_log.ship_once()
    assert retention.delete_before(PredictionLog.objects.all(), clock.now() - timedelta(days=30)) == 2
    assert PredictionLog.objects.count() == 2
    assert sum(TrafficBucket.objects.values_list("requests", flat=True)) == 4


def test_the_state_of_the_spool_can_be_told(flowers) -> None:
    _append(flowers)
    assert prediction_log.status()["waiting_bytes"] > 0
    prediction_log.ship_once()
    found = prediction_log.status()
    assert (found["waiting_bytes"], found["full"]) == (0, False)


def test_nothing_of_the_spool_is_readable_by_others(flowers, own_spool) -> None:
    _append(flowers)
    (path,) = spool.segments(own_spool)
    assert os.stat(path).st_mode & 0o077 == 0
    assert os.stat(own_spool).st_mode & 0o077 == 0
