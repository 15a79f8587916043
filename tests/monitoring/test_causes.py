"""Why a check drifted: one client, since which release, in which slice, for whose eyes, and what it does to the predictions."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.urls import reverse

from mlops.core import clock
from monitoring import alert_rules, checks, findings, rules
from monitoring.causes import requests, words
from monitoring.models import DriftCheck, Incident
from serving.models import LogPolicy, PredictionLog, Release
from serving.redaction import REMOVED
from tests.monitoring.scene import HOUR

MINUTE = timedelta(minutes=1)


def times(factor):
    return lambda value: value * factor


def test_one_client_is_named_and_its_fault_is_seen_whole(scene):
    scene.log(scene.rows(500), key="aaaa1111")
    scene.log(scene.rows(240, amount=times(1000)), key="7fa30000")
    check = checks.run(scene.deployment)
    kept = check.facts["causes"]
    assert kept["source"]["kind"] == "key"
    assert kept["source"]["value"] == "7fa30000"
    assert kept["source"]["of_moved"] > 0.95
    assert kept["columns"][0]["name"] == "amount"
    assert kept["columns"][0]["causes"][0]["code"] == "unit_change"
    told = findings.finding(check, 0.2)
    assert "of the moved rows came with key 7fa30000…, which brought 32.4 % of all rows" in told.why
    assert any("owner of key 7fa30000" in each for each in told.todo)
    assert told.detail["causes"]["code"] == "unit_change"


def test_a_fault_of_all_clients_is_nobodys(scene):
    for key in ("aaaa1111", "7fa30000"):
        scene.log(scene.rows(300, amount=times(1000)), key=key)
    assert checks.run(scene.deployment).facts["causes"]["source"] is None


def test_it_began_minutes_after_a_release(scene, at):
    now = at(clock.now().replace(hour=15, minute=40, second=0, microsecond=0))
    for hours in (5, 4, 3, 2):
        scene.log(scene.rows(150), now - hours * HOUR)
    deployed = now - 60 * MINUTE
    Release.objects.update(at=now - timedelta(days=3))
    Release.objects.create(
        organization=scene.organization, deployment=scene.deployment, number=9, kind="deploy", version=scene.version, actor="t", at=deployed
    )  # fmt: skip
    for minute in range(-30, 0):
        scene.log(scene.rows(5), deployed + minute * MINUTE)
    for minute in range(3, 57):
        scene.log(scene.rows(8, amount=times(100)), deployed + minute * MINUTE)
    check = checks.run(scene.deployment)
    began = check.facts["causes"]["since"]
    assert began["exact"]
    assert began["at"].startswith((deployed + 3 * MINUTE).isoformat()[:16])
    assert "3 minutes after v1 was deployed" in began["sentence"]
    told = findings.finding(check, 0.2)
    assert "It began 14:43 UTC" in told.why
    assert told.since.replace(microsecond=0) == deployed + 3 * MINUTE
    assert any("before v1" in each for each in told.todo)
    Release.objects.exclude(number=9).delete()
    Release.objects.update(number=1)
    told = findings.finding(checks.run(scene.deployment), 0.2)
    assert not any("before v1" in each or "oll back" in each for each in told.todo), "there is nothing to go back to"
    assert any("first release" in each for each in told.todo)


def test_the_slice_where_it_is_worst(scene):
    rows = scene.rows(900)
    for row in rows:
        if row["colour"] == "blue" and row["member"]:
            row["amount"] *= 1000
    scene.log(rows)
    worst = checks.run(scene.deployment).facts["causes"]["segment"]
    assert set(worst["conditions"]) == {"colour = blue", "member = true"}
    assert worst["inside"] > 0.95
    assert worst["outside"] < 0.2
    assert worst["sentence"].startswith("Worst where ")


def test_without_asking_the_order_is_by_psi_and_says_so(scene):
    scene.log(scene.rows(500, amount=times(1000)))
    kept = checks.run(scene.deployment).facts["causes"]
    assert kept["order"] == "psi"
    assert kept["columns"][0]["effect"] is None


def test_a_model_that_cannot_be_asked_costs_the_effect_only(scene):
    from monitoring.causes.effects import Asking

    scene.log(scene.rows(500, amount=times(1000)))
    check = checks.run(scene.deployment, ask=Asking(lambda: None, 5))
    assert check.facts["causes"]["effect"]["state"] == "unasked"
    assert "could not be asked" in check.facts["causes"]["effect"]["why"]
    assert check.facts["causes"]["columns"][0]["causes"][0]["code"] == "unit_change"


def test_causes_that_fail_never_cost_the_alarm(scene, monkeypatch):
    from monitoring.causes import explaining

    def broken(check):
        raise RuntimeError("no rows")

    monkeypatch.setattr(explaining, "gather", broken)
    scene.log(scene.rows(500, amount=times(1000)))
    check = checks.run(scene.deployment)
    assert check.verdict == "drift"
    assert "causes" not in check.facts
    assert Incident.objects.get().signals[rules.DRIFT]["why"]


def test_counts_alone_tell_the_cause_when_the_rows_are_gone(scene):
    from monitoring import counting

    scene.log(scene.rows(500, amount=times(1000)))
    checks.baselines.make(scene.deployment, scene.version)
    counting.count_new()
    PredictionLog.objects.all().delete()
    kept = checks.run(scene.deployment).facts["causes"]
    assert not kept["from_rows"]
    assert kept["examples"] == []
    assert kept["columns"][0]["causes"][0]["code"] == "unit_change"


def test_a_redacted_column_is_told_from_counts_and_its_values_are_nowhere(scene, world):
    LogPolicy.objects.create(
        organization=scene.organization, deployment=scene.deployment, redactions={"colour": "remove"}
    )
    rows = scene.rows(600, amount=times(1000))
    for row in rows:
        row["colour"] = REMOVED
    scene.log(rows)
    kept = checks.run(scene.deployment).facts["causes"]
    assert kept["redacted"] == ["colour"]
    assert "colour =" not in str(kept)


# -- pages ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def drifted(scene) -> DriftCheck:
    scene.log(scene.rows(500), key="aaaa1111")
    scene.log(scene.rows(240, amount=lambda value: value * 1000 + 0.25), key="7fa30000")
    return checks.run(scene.deployment)


def _page(world, who: str, view: str, /, **kwargs: object) -> str:
    return world.client(who).get(reverse(view, kwargs={"org": "acme", **kwargs})).content.decode()


def test_the_drift_page_and_the_incident_show_causes_and_rows_to_a_developer(drifted, world):
    incident = Incident.objects.get()
    example = PredictionLog.objects.get(pk=drifted.facts["causes"]["examples"][0])
    for page in (
        _page(world, "dan", "deployment_drift", name="fraud"),
        _page(world, "dan", "incident_detail", incident_id=incident.pk),
    ):
        assert "Likely why" in page
        assert "key 7fa30000…" in page
        assert "1,000 times larger" in page
        assert str(example.features["amount"]) in page


def test_a_viewer_sees_the_causes_without_rows(drifted, world):
    rows = PredictionLog.objects.filter(pk__in=drifted.facts["causes"]["examples"])
    for page in (
        _page(world, "vic", "deployment_drift", name="fraud"),
        _page(world, "vic", "incident_detail", incident_id=Incident.objects.get().pk),
    ):
        assert "1,000 times larger" in page
        assert "Example rows are shown to developers and above" in page
        assert not any(str(row.features["amount"]) in page for row in rows)


# -- refused requests -----------------------------------------------------------------------------------------------


def _refused(scene, body: str, count: int = 30, key: str = "7fa30000") -> None:
    batch = scene.log([])
    PredictionLog.objects.bulk_create(
        PredictionLog(
            organization=scene.organization,
            deployment=scene.deployment,
            version=scene.version,
            batch=batch,
            at=clock.now(),
            request_id=f"f{number}",
            status=422,
            error_code="invalid_input",
            key_prefix=key,
            latency_ms=1.0,
            request_excerpt=body,
        )
        for number in range(count)
    )


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ('{"inputs": [{"Amount": 3.5, "age": 4, "colour": "red", "member": true}]}', "renamed_column", "`amount` is sent as `Amount`"),
        ('{"inputs": [{"age": 4, "colour": "red", "member": true}]}', "absent_column", "`amount` is not sent any more"),
        ('{"inputs": [{"amount": "a", "age": 4, "colour": "red", "member": true}, {"amo', "wrong_type", "`amount` is sent as text"),
        ('{"inputs": [{"amount": 1, "age": 4, "colour": "red", "member": true, "x": 1}]}', "new_column", "`x` is new"),
    ],
)  # fmt: skip
def test_refused_requests_say_which_column_changed(scene, body, code, words):
    _refused(scene, body)
    found = requests.why_refused(scene.deployment, scene.version, clock.now() - HOUR, clock.now() + HOUR)
    assert found["causes"][0]["code"] == code
    assert words in found["sentence"]
    assert "key 7fa30000…" in found["sentence"]


def test_refusals_that_are_no_change_of_columns_say_nothing(scene):
    _refused(scene, '{"inputs": [{"amount": 1, "age": 4, "colour": "red", "member": true}]}')
    assert requests.why_refused(scene.deployment, scene.version, clock.now() - HOUR, clock.now() + HOUR) is None
    assert requests.why_refused(scene.deployment, None, clock.now() - HOUR, clock.now()) is None


def test_an_error_rate_says_which_column_callers_renamed(scene):
    from monitoring.evaluation import judge
    from monitoring.models import AlertRule
    from serving.models import TrafficBucket

    _refused(scene, '{"inputs": [{"Amount": 3.5, "age": 4, "colour": "red", "member": true}]}', 200)
    scene.requests(200, refused=200)
    alert_rules.ensure_rules(scene.deployment)
    rule = AlertRule.objects.get(deployment=scene.deployment, kind="error_rate")
    found = judge(rule, list(TrafficBucket.objects.all()), clock.now() + timedelta(seconds=1))
    assert found.state == rules.State.FIRING
    assert "`amount` is sent as `Amount` in 100 % of the rows" in found.why
    assert found.detail["columns"][0]["code"] == "renamed_column"


def test_where_labels_have_come_the_slice_with_most_wrong_answers_is_told(scene):
    from monitoring.models import Feedback

    scene.log(scene.rows(700, amount=times(1000)))
    for logged in PredictionLog.objects.all():
        is_wrong = logged.features["colour"] == "green"
        actual = ("no" if logged.prediction == "yes" else "yes") if is_wrong else logged.prediction
        Feedback.objects.create(
            organization=scene.organization, deployment=scene.deployment, prediction_id=logged.pk, actual=actual,
            version=scene.version, predicted_at=logged.at, prediction=logged.prediction,
        )  # fmt: skip
    errors = checks.run(scene.deployment).facts["causes"]["errors"]
    assert errors["conditions"] == ["colour = green"]
    assert errors["inside"] == 1
    assert errors["outside"] == 0
    assert "are answered wrongly" in errors["sentence"]


@pytest.mark.parametrize(
    ("severities", "said"),
    [
        (["drift"], ""),
        (["drift", "drift"], " 1 more of 8 columns moved too."),
        (["drift", "drift", "drift", "warning"], " 2 more of 8 columns drifted too, 1 moved less."),
        (["drift", "warning"], " 1 more of 8 columns moved less."),
    ],
)
def test_what_else_moved_is_counted_as_the_title_counts_it(severities, said):
    assert checks._more(severities, 8) == said


def test_a_column_that_does_more_alone_than_all_together_explains_no_share_of_it():
    together = {"effect": 0.2, "low": 0.15, "high": 0.25}
    measured = {"state": "measured", "kind": "classes", "together": together, "columns": {"a": {}, "b": {}}}
    told = words.effect({"effect": measured, "columns": [{"name": "a", "effect": {"effect": 0.37}}]})
    assert told.endswith(": `a` alone put back would change 37 %.")
