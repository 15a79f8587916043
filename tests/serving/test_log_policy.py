"""What of the log is kept: redaction before the database, the sample, retention."""

from __future__ import annotations

import hashlib
import hmac
from datetime import timedelta
from typing import Any

import orjson
import pytest
from django.db.models import Q

from accounts.models import AuditEvent
from mlops.core import clock, errors, ids
from serving import log_uses, prediction_log, redaction, retention
from serving.models import Deployment, LogPolicy, PredictionLog, RedactionKey, ShippedBatch
from serving.services import deployments, log_policies


@pytest.fixture
def flowers(world, ready_version) -> Deployment:
    return deployments.create_deployment(
        organization=world.acme, name="flowers", version=ready_version(world.acme), caller=world.caller("dan")
    )


@pytest.fixture
def columns(flowers) -> list[str]:
    return log_policies.columns_of(flowers)


def _ask(deployment: Deployment, rows: list[list[Any]], **changes: Any) -> None:
    values = {
        "base_id": ids.prediction_base(), "organization_id": deployment.organization_id, "deployment_id": deployment.pk,
        "version_id": deployment.live_version.pk, "at": clock.now().timestamp(), "latency_ms": 2.0, "status": 200, "code": "", "detail": "",
        "key_prefix": "", "request_id": "request-1", "via": "api", "request": orjson.dumps({"inputs": rows}),
        "response": orjson.dumps({"predictions": [0] * len(rows)}),
    }  # fmt: skip
    assert prediction_log.append(**{**values, **changes})


def _logged() -> list[dict[str, Any]]:
    return list(PredictionLog.objects.order_by("pk").values_list("features", flat=True))


def test_columns_are_removed_and_hashed_before_the_database(flowers, columns, world) -> None:
    first, second, third, fourth = columns
    log_policies.change(flowers, world.caller("dan"), redactions={first: "remove", second: "hash"})
    _ask(flowers, [[1.5, 7, 3.0, 4.0], [2.5, 7.0, 3.0, 4.0], [1.5, 8, 3.0, 4.0], [None, None, 3.0, 4.0]])
    prediction_log.ship_once()
    rows = _logged()
    assert [row[first] for row in rows] == ["(removed)"] * 4
    marks = [row[second] for row in rows]
    assert marks[0] == marks[1] != marks[2], "7 and 7.0 are one category, 8 another"
    assert marks[0].startswith("(hashed) ")
    assert marks[3] is None, "missing values are still counted"
    assert [row[third] for row in rows] == [3.0] * 4


def test_a_hash_is_hmac_sha256_under_a_sealed_key_of_the_organisation(flowers, columns, world) -> None:
    log_policies.change(flowers, world.caller("dan"), redactions={columns[0]: "hash"})
    key = RedactionKey.objects.get(organization=world.acme)
    secret = bytes.fromhex(redaction.sealing.unseal(key.sealed, "redaction"))
    assert secret.hex() not in key.sealed
    said = hmac.new(secret, columns[0].encode() + b"\0" + b'"Zo\xc3\xab"', hashlib.sha256).hexdigest()[:16]
    assert redaction.hasher(world.acme).mark(columns[0], "Zoë") == f"(hashed) {said}"
    assert redaction.hasher(world.globex).mark(columns[0], "Zoë") != f"(hashed) {said}"


def test_a_key_that_cannot_be_read_removes_instead_of_keeping(flowers, columns, world) -> None:
    log_policies.change(flowers, world.caller("dan"), redactions={columns[0]: "hash"})
    RedactionKey.objects.update(sealed="sealed under a key that is gone")
    _ask(flowers, [[1.5, 2.0, 3.0, 4.0]])
    prediction_log.ship_once()
    assert _logged()[0][columns[0]] == "(removed)"


def test_a_failed_request_of_a_redacted_deployment_keeps_no_words_of_the_client(flowers, columns, world) -> None:
    failed = {
        "status": 422,
        "code": "schema_mismatch",
        "detail": "'Zoë' is no number",
        "request": b'{"inputs": [["Zo\xc3\xab"]]}',
    }
    _ask(flowers, [], **failed)
    prediction_log.ship_once()
    log_policies.change(flowers, world.caller("dan"), redactions={columns[0]: "remove"})
    _ask(flowers, [], **failed)
    prediction_log.ship_once()
    before, after = PredictionLog.objects.order_by("pk")
    assert ("Zoë" in before.error_detail, "Zoë" in before.request_excerpt) == (True, True)
    assert (after.error_code, after.error_detail, after.request_excerpt) == ("schema_mismatch", redaction.NOT_KEPT, "")


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        ({"retention_days": 0}, "retention_days"),
        ({"retention_days": 366}, "retention_days"),
        ({"retention_days": True}, "retention_days"),
        ({"sample_share": 1.1}, "sample_share"),
        ({"redactions": {"nothing": "hash"}}, "redactions"),
        ({"redactions": {"nothing": "forget"}}, "redactions"),
        ({"archive_days": 0}, "archive_days"),
        ({"colour": 1}, "colour"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_name(flowers, world, wish: dict[str, Any], field: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        log_policies.change(flowers, world.caller("dan"), **wish)
    assert list(refused.value.fields) == [field]
    assert not LogPolicy.objects.exists()


def test_a_change_is_audited_and_no_change_is_not(flowers, world) -> None:
    for _ in range(2):
        log_policies.change(flowers, world.caller("dan"), retention_days=7)
    event = AuditEvent.objects.get(action="log.policy_changed")
    assert event.detail == {"retention_days": [None, 7]}


# -- retention and sample -------------------------------------------------------------------------------------------------


def _rows(
    deployment: Deployment, count: int, *, ago: timedelta, batch: ShippedBatch | None = None, **changes: Any
) -> list[PredictionLog]:
    """Logged rows of that age."""
    at = clock.now() - ago
    batch = batch or ShippedBatch.objects.create(rows=count, at=at)
    base = (int(at.timestamp() * 1000) << 80) + deployment.pk * 1_000_000
    values = {
        "organization_id": deployment.organization_id, "deployment": deployment, "version": deployment.live_version, "batch": batch,
        "at": at, "request_id": "r", "latency_ms": 1.0, "features": {"a": 1}, "prediction": 0,
    }  # fmt: skip
    rows = [PredictionLog(**{**values, **changes}, id=ids.uuid.UUID(int=base + place)) for place in range(count)]
    return PredictionLog.objects.bulk_create(rows)


def test_each_deployment_keeps_its_rows_for_as_long_as_it_says(flowers, world, ready_version, settings) -> None:
    settings.PREDICTION_RETENTION_DAYS = 30
    other = deployments.create_deployment(
        organization=world.acme, name="trees", version=ready_version(world.acme), caller=world.caller("dan")
    )
    long = deployments.create_deployment(
        organization=world.acme, name="long", version=ready_version(world.acme), caller=world.caller("dan")
    )
    log_policies.change(flowers, world.caller("dan"), retention_days=7)
    log_policies.change(long, world.caller("dan"), retention_days=90)
    for days in (1, 8, 31, 91):
        for each in (flowers, other, long):
            _rows(each, 1, ago=timedelta(days=days))
    assert retention.forget() == 6
    left = {each.name: PredictionLog.objects.filter(deployment=each).count() for each in (flowers, other, long)}
    assert left == {"flowers": 1, "trees": 2, "long": 3}
    assert retention.forget() == 0


@pytest.fixture
def uses(monkeypatch):
    """The table of who uses rows, empty for the test."""
    table: dict[str, log_uses.Use] = {}
    monkeypatch.setattr(log_uses, "_USES", table)
    return table


def test_the_sample_leaves_out_by_id_what_is_a_day_old_and_counted(flowers, world, uses) -> None:
    log_policies.change(flowers, world.caller("dan"), sample_share=0.25)
    old = _rows(flowers, 400, ago=timedelta(hours=25))
    _rows(flowers, 5, ago=timedelta(hours=25, minutes=-1), error_code="schema_mismatch", status=422)
    _rows(flowers, 50, ago=timedelta(hours=1))
    assert retention.sample() == 0, "nobody has said what is counted"
    uses["test"] = log_uses.Use(counted=lambda: Q(batch__lte=0))
    assert retention.sample() == 0, "nothing is counted yet"
    uses["test"] = log_uses.Use(counted=Q)
    retention.sample()
    left = set(PredictionLog.objects.values_list("pk", flat=True))
    wanted = {row.pk for row in old if retention.in_sample(row.pk, 0.25)}
    assert 60 < len(wanted) < 140
    assert left & {row.pk for row in old} == wanted
    assert len(left) == len(wanted) + 50 + 5, "new rows and failures stay"
    assert retention.sample() == 0, "a second run leaves out nothing more"


def test_rows_with_ground_truth_stay_and_a_smaller_share_holds_for_what_is_there(flowers, world, uses) -> None:
    rows = _rows(flowers, 100, ago=timedelta(hours=25))
    judged = [row.pk for row in rows[:10]]
    uses["test"] = log_uses.Use(counted=Q, kept=lambda: Q(pk__in=judged))
    log_policies.change(flowers, world.caller("dan"), sample_share=0.5)
    first = retention.sample()
    log_policies.change(flowers, world.caller("dan"), sample_share=0.0)
    assert first + retention.sample() == 90
    assert set(PredictionLog.objects.values_list("pk", flat=True)) == set(judged)


def test_rows_that_are_counted_later_are_left_out_later(flowers, world, uses) -> None:
    log_policies.change(flowers, world.caller("dan"), sample_share=0.0)
    first = _rows(flowers, 10, ago=timedelta(hours=27))
    second = _rows(flowers, 10, ago=timedelta(hours=26))
    waits = first[0].batch_id
    uses["test"] = log_uses.Use(counted=lambda: ~Q(batch=waits))
    assert retention.sample() == 10
    uses["test"] = log_uses.Use(counted=Q)
    assert retention.sample() == 10
    assert not PredictionLog.objects.filter(pk__in=[row.pk for row in (*first, *second)]).exists()
