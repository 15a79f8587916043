"""Rules of people's own: about a measure, checked before they are kept, back-tested, evaluated, tested, deleted."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail

from accounts.models import AuditEvent
from mlops.core import clock, errors
from monitoring import alert_rules, backtest, baselines, counting, delivery, evaluation, measures, notices
from monitoring.models import AlertRule, Incident, IncidentStatus, Notification
from serving import traffic
from serving.models import TrafficBucket
from tests.monitoring.scene import HOUR

BASE = "/api/v1/acme/deployments/fraud/rules"
DAY = timedelta(days=1)
ERRORS = {"name": "Many errors", "measure": "error_rate", "threshold": 0.2, "window_minutes": 60, "minimum_rows": 10}


@pytest.fixture
def api(world):
    return world.api("dan")


def made(scene, world, **fields) -> AlertRule:
    given = {"params": {}, "direction": "above", "severity": "warning", "enabled": True, **ERRORS, **fields}
    return alert_rules.create(scene.deployment, world.caller("dan"), **given)


def grown_old(scene, days: float = 40) -> None:
    """As if the deployment had been live for long."""
    long_ago = clock.now() - timedelta(days=days)
    scene.deployment.__class__.objects.filter(pk=scene.deployment.pk).update(created_at=long_ago, live_since=long_ago)
    scene.deployment.releases.update(at=long_ago)
    scene.deployment.refresh_from_db()


# -- made, changed, deleted ---------------------------------------------------------------------------------------


def test_a_rule_begins_with_what_its_measure_usually_asks(bare, api):
    answer = api.post(BASE, {"name": "Slow", "measure": "p95_ms"}, format="json")
    assert answer.status_code == 201
    found = answer.json()
    assert (found["direction"], found["threshold"], found["unit"], found["enabled"]) == ("above", 200.0, "ms", True)
    assert found["sentence"] == "p95 latency over 15 minutes is above 200 ms."
    assert found["rule"] in [each["rule"] for each in api.get(BASE).json()["results"]]
    assert AuditEvent.objects.filter(action="rule.created").count() == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"measure": "luck"}, "measure"),
        ({"threshold": 1.5}, "threshold"),  # no share is above 1
        ({"direction": "below", "threshold": 0}, "threshold"),  # and none below 0
        ({"direction": "beside"}, "direction"),
        ({"window_minutes": 1}, "window_minutes"),
        ({"minimum_rows": 0}, "minimum_rows"),
        ({"name": " "}, "name"),
        ({"severity": "mild"}, "severity"),
        ({"params": {"column": "amount"}}, "column"),  # the error rate has no column
        ({"measure": "psi"}, "column"),  # and a PSI has to have one
        ({"measure": "psi", "params": {"column": "amonut"}}, "column"),
        ({"measure": "unseen_share", "params": {"column": "amount"}}, "column"),  # a number is never a new level
    ],
)
def test_a_senseless_rule_is_refused_and_the_field_named(scene, api, change, field):
    baselines.make(scene.deployment, scene.version)
    answer = api.post(BASE, {**ERRORS, **change}, format="json")
    assert answer.status_code == 422
    assert field in answer.json()["errors"]
    assert not AlertRule.objects.filter(kind="custom").exists()


def test_two_rules_of_one_name_are_refused(bare, world, api):
    made(bare, world)
    answer = api.post(BASE, {**ERRORS, "name": "many ERRORS"}, format="json")
    assert (answer.status_code, answer.json()["code"]) == (409, "name_taken")


def test_a_column_is_known_before_there_is_a_baseline(bare, api):
    asked = {"name": "Moved", "measure": "psi", "params": {"column": "amount"}}
    assert api.post(BASE, asked, format="json").status_code == 201
    wrong = {**asked, "name": "Other", "params": {"column": "nothing"}}
    assert "One of amount, age, colour, member" in api.post(BASE, wrong, format="json").json()["errors"]["column"][0]


def test_an_own_rule_is_changed_and_deleted_and_a_default_is_not_deleted(bare, world, api):
    rule = made(bare, world)
    assert (
        api.patch(f"{BASE}/{rule.key}", {"threshold": 0.4, "name": "Errors"}, format="json").json()["threshold"] == 0.4
    )
    assert api.patch(f"{BASE}/drift", {"measure": "psi"}, format="json").status_code == 422
    assert api.delete(f"{BASE}/drift").json()["code"] == "default_rule"
    bare.requests(100, broken=60)
    evaluation.evaluate_all()
    assert rule.key in Incident.objects.get().signals
    assert api.delete(f"{BASE}/{rule.key}").status_code == 204
    assert api.get(f"{BASE}/{rule.key}").status_code == 404
    assert Incident.objects.get().status == IncidentStatus.RESOLVED  # nothing else held it open


def test_a_viewer_reads_and_back_tests_and_changes_nothing(bare, world):
    rule = made(bare, world)
    vic = world.api("vic")
    assert vic.get(f"{BASE}/{rule.key}").status_code == 200
    assert vic.post(f"{BASE}/backtest", {"rule": rule.key}, format="json").status_code == 200
    for answer in (
        vic.post(BASE, {**ERRORS, "name": "Mine"}, format="json"),
        vic.patch(f"{BASE}/{rule.key}", {"threshold": 0.3}, format="json"),
        vic.delete(f"{BASE}/{rule.key}"),
        vic.post(f"{BASE}/{rule.key}/test"),
    ):
        assert answer.status_code == 403


# -- evaluated ----------------------------------------------------------------------------------------------------


def test_it_opens_an_incident_and_says_its_name_value_and_limit(bare, world):
    rule = made(bare, world)
    bare.requests(100, broken=30)
    evaluation.evaluate_all()
    incident = Incident.objects.get()
    assert incident.title == "Many errors: 30 % (limit 20 %)"
    assert (
        "Error rate was 30 % over the last 1 hour on 100 rows, above the limit of 20 %"
        in incident.signals[rule.key]["what"]
    )
    assert notices.inspect_path(incident) == "/acme/deployments/fraud/traffic/"
    rule.refresh_from_db()
    assert (rule.state, rule.value, rule.bound) == ("firing", 0.3, 0.2)
    shown = world.client("vic").get("/acme/deployments/fraud/rules/").content.decode()
    assert "30 %" in shown
    assert "limit 20 %" in shown


def test_too_little_traffic_fires_a_rule_with_a_lower_limit(bare, world, at):
    start = at(clock.now())
    made(bare, world, name="Quiet", measure="requests", direction="below", threshold=50.0)
    assert evaluation.evaluate_all() == 0  # live for no hour yet: there is nothing to miss
    at(start + 2 * HOUR)
    bare.requests(20)
    assert evaluation.evaluate_all() == 1
    assert Incident.objects.get().title == "Quiet: 20 requests (limit 50 requests)"


def test_missing_values_of_a_column_fire_its_rule(scene, world):
    baselines.make(scene.deployment, scene.version)
    made(scene, world, name="Ages", measure="missing_share", params={"column": "age"})
    scene.log(scene.rows(200, age=lambda value: None if value % 2 else value))
    counting.count_new()
    assert evaluation.evaluate_all() == 1
    assert "Share missing of `age` was" in str(Incident.objects.get().signals)


@pytest.mark.parametrize(("measure", "params"), [("psi", {"column": "amount"}), ("psi_max", {})])
def test_the_psi_of_columns_is_the_drift_checks(scene, measure, params):
    from monitoring import checks

    scene.log(scene.rows(600, amount=lambda value: value * 3))
    check = checks.run(scene.deployment)
    now = clock.now()
    found = measures.known()[measure].read(scene.deployment, None, check.window_start, now, params)
    amount = next(column for column in check.columns if column["name"] == "amount")
    largest = max(column["psi"] for column in check.columns if column["psi"] is not None)
    assert found.value == pytest.approx(amount["psi"] if params else largest, abs=1e-6)
    assert found.rows == 600


def test_a_rule_that_breaks_costs_only_itself(bare, world, monkeypatch):
    made(bare, world)
    broken = made(bare, world, name="Broken")
    AlertRule.objects.filter(pk=broken.pk).update(params={"column": 3}, measure="psi")
    baselines.make(bare.deployment, bare.version)
    bare.requests(100, broken=30)
    assert evaluation.evaluate_all() >= 1


def test_of_two_evaluations_that_come_at_once_one_judges(bare, world):
    rule = made(bare, world)
    bare.requests(100, broken=30)
    pace = timedelta(seconds=30)
    assert evaluation.evaluate_all(pace) >= 1
    assert evaluation.evaluate_all(pace) == 0
    rule.refresh_from_db()
    assert rule.recent == [1]


# -- back-test ----------------------------------------------------------------------------------------------------


def test_it_says_when_it_would_have_fired_and_how_bad_it_was(bare, world, api, at):
    now = at(clock.floor(clock.now(), traffic.BUCKET))
    grown_old(bare)
    for days, broken in ((20, 50), (10, 30), (5, 10), (2, 80)):
        for step in range(12):
            bare.requests(100, broken=broken, at=now - days * DAY + step * traffic.BUCKET)
        bare.requests(100, at=now - days * DAY + 3 * HOUR)
    answer = api.post(f"{BASE}/backtest", ERRORS, format="json").json()
    assert answer["sentence"] == "Would have fired 3 times in the last 30 days."
    assert [each["worst"] for each in answer["fired"]] == pytest.approx([0.5, 0.3, 0.8])
    assert all(each["until"] for each in answer["fired"])
    assert max(point["value"] or 0 for point in answer["points"]) == pytest.approx(0.8)
    assert len(answer["points"]) <= backtest.POINTS_SHOWN
    assert not AlertRule.objects.filter(kind="custom").exists()
    less = api.post(f"{BASE}/backtest", {**ERRORS, "threshold": 0.9}, format="json").json()
    assert less["sentence"] == "Would not have fired in the last 30 days."
    assert api.post(f"{BASE}/backtest", {"rule": "error_rate"}, format="json").json()["times"] == 4


def test_it_fires_then_when_it_fires_now(bare, world, at):
    """The back-test and the evaluation agree, moment for moment."""
    start = at(clock.floor(clock.now(), traffic.BUCKET))
    rule = made(bare, world, window_minutes=15)
    said = []
    for step in range(24):
        bare.requests(50, broken=30 if 6 <= step < 10 or 14 <= step < 16 else 0, at=start + step * traffic.BUCKET)
        at(start + (step + 1) * traffic.BUCKET)
        buckets = list(TrafficBucket.objects.filter(at__lt=clock.now()))
        assert buckets
        said.append(evaluation.judge(rule, [], clock.now()).state)
    past = backtest.past_of(rule, start, clock.now())
    assert [moment.state for moment in past.moments] == said
    assert "firing" in said


def test_what_comes_back_soon_is_one_incident_in_the_past_too(bare, at):
    now = at(clock.floor(clock.now(), traffic.BUCKET))
    grown_old(bare)
    for hours in (30, 28, 12):
        bare.requests(100, broken=90, at=now - hours * HOUR)
        bare.requests(300, at=now - hours * HOUR + 20 * traffic.BUCKET)
    found = backtest.run(
        alert_rules.draft(bare.deployment, params={}, direction="above", severity="warning", enabled=True, **ERRORS)
    )
    assert len(found.fired) == 2


def test_drift_is_judged_again_by_another_limit(scene, world, at):
    from monitoring import checks

    start = at(clock.floor(clock.now(), HOUR))
    grown_old(scene)
    scene.log(scene.rows(900, amount=lambda value: value * 1.4), start)
    assert checks.run(scene.deployment).verdict in ("drift", "warning")
    rule = alert_rules.rule(scene.deployment, "drift")
    low, high = (alert_rules.changed(rule, {"threshold": limit}) for limit in (0.15, 5.0))
    assert len(backtest.run(low).fired) == 1
    assert backtest.run(high).past.moments[0].limit == 5.0


def test_a_quiet_time_is_back_tested(bare, at):
    now = at(clock.floor(clock.now(), traffic.BUCKET))
    grown_old(bare, days=4)
    for hours in (80, 40, 39, 1):
        bare.requests(5, at=now - hours * HOUR)
    rule = alert_rules.changed(alert_rules.rule(bare.deployment, "no_traffic"), {"threshold": 24.0})
    found = backtest.run(rule)
    assert [round(each.worst) for each in found.fired] == [40, 38]


def test_a_month_of_traffic_is_read_in_few_queries(bare, world, at, django_assert_max_num_queries):
    now = at(clock.floor(clock.now(), traffic.BUCKET))
    grown_old(bare)
    rule = made(bare, world, measure="p95_ms", threshold=100.0)
    rows = [
        TrafficBucket(
            organization=bare.organization, deployment=bare.deployment, version=bare.version, requests=10, rows=10,
            at=now - step * 12 * traffic.BUCKET, latency=[0] * 40 + [10],
        )
        for step in range(1, 700)
    ]  # fmt: skip
    TrafficBucket.objects.bulk_create(rows)
    with django_assert_max_num_queries(6):
        found = backtest.run(rule)
    assert found.judged > 0
    wanted = traffic.percentile([0] * 40 + [100], 0.95)
    assert max(moment.value or 0 for moment in found.past.moments) == pytest.approx(wanted, rel=1e-3)


# -- the test button ----------------------------------------------------------------------------------------------


def test_the_test_button_sends_one_marked_mail_to_whoever_asks(bare, world, api):
    rule = made(bare, world)
    for key in (rule.key, "drift", "error_rate", "latency", "no_traffic"):
        mail.outbox.clear()
        assert api.post(f"{BASE}/{key}/test").json() == {"sent": 1}
        delivery.deliver_due()
        assert [message.to for message in mail.outbox] == [["dan@acme.test"]]
        assert "Test: " in mail.outbox[0].subject
    assert not Incident.objects.exists()
    assert AuditEvent.objects.filter(action="rule.tested").count() == 5


def test_a_test_that_would_reach_nobody_says_so(bare, world, api):
    world.dan.emailaddress_set.update(verified=False)
    answer = api.post(f"{BASE}/drift/test")
    assert (answer.status_code, answer.json()["code"]) == (409, "nobody_to_tell")
    assert not Notification.objects.exists()


# -- pages --------------------------------------------------------------------------------------------------------


def test_a_rule_is_made_on_its_page_and_the_back_test_follows_the_threshold(bare, world, at):
    at(clock.floor(clock.now(), traffic.BUCKET) + 2 * traffic.BUCKET)
    grown_old(bare)
    bare.requests(100, broken=30, at=clock.now() - DAY)
    client = world.client("dan")
    new = "/acme/deployments/fraud/rules/new/"
    assert "Error rate" in client.get(new).content.decode()
    assert 'name="threshold"' in client.get(f"{new}?measure=error_rate").content.decode()
    fields = {**ERRORS, "direction": "above", "severity": "warning", "enabled": "on"}
    part = {"headers": {"HX-Request": "true"}}
    live = "/acme/deployments/fraud/rules/backtest/"
    assert "Would have fired once" in client.get(live, fields, **part).content.decode()
    assert "Would not have fired" in client.get(live, {**fields, "threshold": 0.5}, **part).content.decode()
    assert "Threshold is below 1" in client.get(live, {**fields, "threshold": 7}, **part).content.decode()
    assert client.post(new, {**fields, "threshold": 7}).status_code == 422
    assert client.post(new, fields).status_code == 302
    rule = AlertRule.objects.get(kind="custom")
    page = f"/acme/deployments/fraud/rules/{rule.key}/"
    assert client.post(page, {**fields, "threshold": 0.4}).status_code == 302
    assert client.post(f"{page}switch/", {"on": "0"}).status_code == 302
    rule.refresh_from_db()
    assert (rule.threshold, rule.enabled) == (0.4, False)
    assert client.post(f"{page}delete/").status_code == 302
    assert not AlertRule.objects.filter(kind="custom").exists()


def test_the_organisations_rules_stand_on_one_page(bare, world):
    made(bare, world)
    bare.requests(100, broken=30)
    evaluation.evaluate_all()
    text = world.client("vic").get("/acme/alerts/?state=firing").content.decode()
    assert "Many errors" in text
    assert world.client("mallory").get("/acme/alerts/").status_code == 404


def test_rules_of_another_deployment_are_not_found(bare, world):
    rule = made(bare, world)
    with pytest.raises(errors.NotFound):
        alert_rules.find(bare.deployment, f"rule-{rule.pk + 1}")
    for key in ("rule-", "odd", "rule-9999999999999999999999"):
        with pytest.raises(errors.NotFound):
            alert_rules.find(bare.deployment, key)


def test_a_rule_that_is_just_being_filled_in_is_no_mistake(scene, world):
    client, live = world.client("dan"), "/acme/deployments/fraud/rules/backtest/"
    fields = {"measure": "psi", "threshold": 0.2, "direction": "above", "severity": "warning"}
    fields |= {"window_minutes": 1440, "minimum_rows": 300}
    said = client.get(live, fields).content.decode()
    assert "Fill in column, and here stands when the rule would have fired." in said
    assert "This field is required" not in said
