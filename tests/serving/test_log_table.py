"""The quick way into the log's table leaves the rows that Django's own way would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import DataError, IntegrityError, transaction

from mlops.core import ids
from serving import log_table, records
from serving.models import Deployment, PredictionLog, ShippedBatch
from serving.services import deployments
from serving.spool import Record

AWKWARD = "tab\t newline\n backslash\\ \\N quote\" ' é 日本 \U0001f600 %s {} \\u0041"
SCHEMA = {"kind": "table", "inputs": [{"name": "größe\t", "type": "double"}, {"name": 'a "b"\\', "type": "string"}]}
TENSOR = {"kind": "tensor", "inputs": []}


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


def _calls(deployment: Deployment) -> dict[str, records.Call]:
    """One of each kind of record, as ``prediction_log.append`` writes them."""

    def parsed(request: bytes, response: bytes, schema=SCHEMA, **changes) -> records.Call:
        head = {
            "id": ids.prediction_base().hex, "organization": deployment.organization_id, "deployment": deployment.pk,
            "version": deployment.live_version.pk, "at": 1_700_000_000.123457, "latency_ms": 1.5, "status": 200, "code": "", "detail": "",
            "key": "abcd2345", "request_id": "r-1", "via": "api",
        }  # fmt: skip
        return records.parse(Record({**head, **changes}, request, response), lambda _: records.columns_of(schema))

    answer = orjson.dumps(
        {
            "predictions": [AWKWARD, 1.5, None, True],
            "probabilities": [[0.1, 0.9], None, [1e-300, -0.0], {"a": [1]}],
            "timings_ms": {"parse": 0.125, "total": 1e21},
        }
    )
    rows = orjson.dumps({"inputs": [[1e308, AWKWARD], [-0.0, None], [2**53, ""], [True, ["deep", {"x": None}]]]})
    return {
        "rows": parsed(rows, answer),
        "more rows than answers": parsed(rows, b'{"predictions": [1]}'),
        "no timings": parsed(b'{"inputs": [[1, "a"]]}', b'{"predictions": ["x"]}'),
        "no body": parsed(b"", b'{"predictions": ["x", {"y": [1, 2]}]}'),
        "NUL": parsed(b'{"inputs": [[1, "NaN"]]}', b'{"predictions": ["\\u0000"]}'),
        "tensor": parsed(b'{"inputs": [[1, 2.5], [[1], [2]]]}', b'{"predictions": [[1, 2], [3]]}', TENSOR),
        "no schema": parsed(b'{"inputs": [{"x": 1}]}', b'{"predictions": [1]}', None),
        "a whole second": parsed(b'{"inputs": [[1, "a"]]}', b"{}", at=1_700_000_000.0),
        "preview": parsed(b'{"inputs": [[1, "a"]]}', b'{"predictions": [1]}', via="preview", pinned=True),
        "failed": parsed(AWKWARD.encode() + b"\x00\xff", b"", status=422, code="schema_mismatch", detail=AWKWARD),
        "failed before a version was chosen": parsed(b"", b"", status=503, code="not_deployed", version=None),
        "throttled": parsed(b"", b"", status=429, code="rate_limited"),
    }


def _as_objects(calls: list[records.Call], batch: ShippedBatch) -> list[PredictionLog]:
    shared = [name for name in log_table._OF_CALL if name != "timings_ms"]
    return [
        PredictionLog(
            id=UUID(row.id), row=row.row, at=call.at, batch=batch, features=_value(row.features), prediction=_value(row.prediction),
            probabilities=_value(row.probabilities), timings_ms=_value(call.timings_ms), **{name: getattr(call, name) for name in shared},
        )
        for call in calls
        for row in call.rows
    ]  # fmt: skip


def _value(text: str | None):
    return None if text is None else orjson.loads(text)


def test_the_rows_are_those_that_bulk_create_makes(flowers) -> None:
    calls, batch = list(_calls(flowers).values()), ShippedBatch.objects.create(rows=1)
    log_table.insert(calls, batch.pk)
    ours = list(PredictionLog.objects.order_by("pk").values())
    nothing = {
        name: set(PredictionLog.objects.filter(**{f"{name}__isnull": True}).values_list("pk", flat=True))
        for name in ("timings_ms", "features", "prediction", "probabilities", "version")
    }
    PredictionLog.objects.all().delete()
    PredictionLog.objects.bulk_create(_as_objects(calls, batch))
    assert ours == list(PredictionLog.objects.order_by("pk").values())
    for name, keys in nothing.items():  # NULL, and not the JSON "null"
        assert keys == set(PredictionLog.objects.filter(**{f"{name}__isnull": True}).values_list("pk", flat=True))
    assert len(ours) == sum(len(call.rows) for call in calls) > len(calls)


def test_a_row_is_found_by_its_time_and_by_what_stands_in_it(flowers) -> None:
    calls = _calls(flowers)
    log_table.insert([calls["rows"], calls["a whole second"]], ShippedBatch.objects.create(rows=1).pk)
    at = datetime.fromtimestamp(1_700_000_000.0, tz=UTC)
    assert PredictionLog.objects.filter(at__lte=at).count() == 1
    assert PredictionLog.objects.filter(at__gt=at, at__lte=at + timedelta(milliseconds=124)).count() == 4
    assert PredictionLog.objects.get(prediction=1.5).row == 1
    assert PredictionLog.objects.get(timings_ms__parse=0.125, row=0).prediction == AWKWARD


def test_nothing_to_write_is_no_mistake(flowers) -> None:
    log_table.insert([_calls(flowers)["throttled"]], ShippedBatch.objects.create(rows=1).pk)
    assert not PredictionLog.objects.exists()


@pytest.mark.parametrize("twice", [True, False], ids=["the same id twice", "half a line"])
def test_what_the_database_refuses_is_refused_whole(flowers, twice: bool) -> None:
    good, bad = _calls(flowers)["rows"], _calls(flowers)["no body"]
    bad.rows[0] = bad.rows[0]._replace(**({"id": good.rows[0].id} if twice else {"features": '{"a": '}))
    batch = ShippedBatch.objects.create(rows=1)
    with pytest.raises((DataError, IntegrityError)), transaction.atomic():
        log_table.insert([good, bad], batch.pk)
    assert not PredictionLog.objects.exists()


def test_a_column_that_nobody_fills_stops_the_start(monkeypatch) -> None:
    with pytest.raises(ImproperlyConfigured, match="added_later"):
        log_table.check({**log_table._COLUMNS, "added_later": "added_later"})
