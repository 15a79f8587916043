"""The pages: who sees what, what they say, and the report's sandbox."""

from __future__ import annotations

import gzip
import io

import pytest
from django.urls import reverse

from mlops.core import clock, storage
from mlops.jobs.models import Job
from monitoring import alert_rules, checks, incidents, rules, services
from monitoring.models import AlertRule, DriftCheck, Incident, IncidentStatus
from monitoring.rules import Finding, State
from tests.monitoring.scene import HOUR


@pytest.fixture
def drifted(scene) -> DriftCheck:
    scene.log(scene.rows(300), clock.now() - 3 * HOUR)
    scene.log(scene.rows(900, amount=lambda value: value * 3))
    return checks.run(scene.deployment)


@pytest.fixture
def incident(bare) -> Incident:
    found = Finding(
        rules.LATENCY,
        State.FIRING,
        title="p95 is slow",
        what="Very slow.",
        why="Busy.",
        effect="None.",
        todo=("Wait.",),
    )
    return incidents.observe(bare.deployment, bare.version, found)


def page(view: str, /, **kwargs) -> str:
    return reverse(view, kwargs={"org": "acme", **kwargs})


# -- drift --------------------------------------------------------------------------------------------------------


def test_the_drift_page_begins_with_a_sentence_and_shows_columns_and_history(drifted, world):
    text = world.client("vic").get(page("deployment_drift", name="fraud")).content.decode()
    verdict = text.index("<code>amount</code> moved: PSI")
    assert verdict < text.index('<th scope="col">Column</th>')
    assert "of them changed class" in text
    assert "Reference rows given at push".lower() in text.lower()
    assert "drift-history" in text
    assert "style=" not in text
    assert "Check now" not in text  # a viewer may look, not start work


def test_the_page_before_the_first_check_offers_one(scene, world):
    text = world.client("dan").get(page("deployment_drift", name="fraud")).content.decode()
    assert "Not checked yet" in text
    assert "Check now" in text


def test_check_now_starts_a_job_once_and_the_page_follows_it(scene, world):
    scene.log(scene.rows(400))
    client = world.client("dan")
    for _ in range(2):
        answer = client.post(page("deployment_drift_check", name="fraud"))
        assert answer.status_code == 302
    assert Job.objects.filter(kind="check_drift").count() == 1
    part = client.get(page("deployment_drift", name="fraud"), headers={"HX-Request": "true"}).content.decode()
    assert "data-poll" in part
    assert "<html" not in part


def test_check_now_runs_the_check_and_draws_the_report(scene, world, jobs_now, monkeypatch):
    from monitoring import reports

    monkeypatch.setattr(reports, "_draw", lambda source, target: target.write_text("<html>drawn</html>"))
    scene.log(scene.rows(400))
    with jobs_now():
        world.client("dan").post(page("deployment_drift_check", name="fraud"))
    check = DriftCheck.objects.get()
    assert check.verdict == "ok"
    assert check.requested_by == "Dan"
    text = world.client("vic").get(page("deployment_drift", name="fraud")).content.decode()
    assert f'src="{page("drift_report", name="fraud", check_id=check.pk)}"' in text
    assert 'sandbox="allow-scripts"' in text


def test_a_report_that_cannot_be_drawn_costs_only_the_report(scene, world, jobs_now, monkeypatch):
    from monitoring import reports

    monkeypatch.setattr(reports.sys, "executable", "/bin/false")
    scene.log(scene.rows(400))
    with jobs_now():
        world.client("dan").post(page("deployment_drift_check", name="fraud"))
    check = DriftCheck.objects.get()
    assert (check.verdict, check.report_key) == ("ok", "")
    assert "could not draw the report" in check.report_error
    assert "could not be drawn" in world.client("vic").get(page("deployment_drift", name="fraud")).content.decode()


def test_the_report_is_served_in_a_sandbox_of_its_own(drifted, world):
    packed = io.BytesIO(gzip.compress(b"<html><script>1</script></html>"))
    key = storage.store(packed, folder="reports", filename="r.html.gz", limit_bytes=1 << 20).key
    DriftCheck.objects.filter(pk=drifted.pk).update(report_key=key)
    url = page("drift_report", name="fraud", check_id=drifted.pk)
    answer = world.client("vic").get(url)
    assert answer.getvalue() == b"<html><script>1</script></html>"
    policy = answer["Content-Security-Policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none';")
    assert "allow-same-origin" not in policy
    assert "frame-ancestors 'self'" in policy
    assert "connect-src" not in policy  # default-src 'none' holds: it can send nothing anywhere
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    zipped = world.client("vic").get(url, headers={"Accept-Encoding": "gzip"})
    assert zipped["Content-Encoding"] == "gzip"
    assert gzip.decompress(zipped.getvalue()) == b"<html><script>1</script></html>"

    frame = world.client("vic").get(page("deployment_drift", name="fraud"))
    assert frame["X-Frame-Options"] == "DENY"
    assert world.client("mallory").get(url).status_code == 404


def test_a_check_without_a_report_says_so(drifted, world):
    assert world.client("vic").get(page("drift_report", name="fraud", check_id=drifted.pk)).status_code == 404


def test_an_old_check_has_a_page_of_its_own(drifted, world):
    answer = world.client("vic").get(page("drift_check", name="fraud", check_id=drifted.pk))
    assert answer.status_code == 200
    assert b"by schedule" in answer.content


# -- incidents ----------------------------------------------------------------------------------------------------


def test_the_incident_page_tells_the_story_and_acts(incident, world):
    client = world.client("dan")
    text = client.get(page("incident_detail", incident_id=incident.pk)).content.decode()
    for part in ("p95 is slow", "Very slow.", "Busy.", "Wait.", "Acknowledge", "Snooze", "Resolve", "dan@acme.test"):
        assert part in text
    client.post(page("incident_acknowledge", incident_id=incident.pk))
    assert Incident.objects.get().status == IncidentStatus.ACKNOWLEDGED
    client.post(page("incident_snooze", incident_id=incident.pk), {"hours_choice": "4"})
    assert Incident.objects.get().status == IncidentStatus.SNOOZED
    client.post(page("incident_resolve", incident_id=incident.pk))
    assert Incident.objects.get().status == IncidentStatus.RESOLVED
    again = client.post(page("incident_resolve", incident_id=incident.pk))
    assert again.status_code == 409


def test_the_list_shows_open_ones_first_and_filters(incident, world):
    client = world.client("vic")
    assert b"p95 is slow" in client.get(page("incident_list")).content
    assert b"p95 is slow" not in client.get(page("incident_list") + "?state=resolved").content
    assert client.get(page("incident_list") + "?state=nonsense").status_code == 422


@pytest.mark.parametrize("verb", ["acknowledge", "snooze", "resolve"])
def test_a_viewer_may_read_and_not_act(incident, world, verb):
    client = world.client("vic")
    assert client.get(page("incident_detail", incident_id=incident.pk)).status_code == 200
    assert client.post(page(f"incident_{verb}", incident_id=incident.pk)).status_code == 403
    assert Incident.objects.get().status == IncidentStatus.OPEN


@pytest.mark.parametrize(
    ("name", "kwargs", "method"),
    [
        ("deployment_drift", {"name": "fraud"}, "get"),
        ("deployment_drift_check", {"name": "fraud"}, "post"),
        ("deployment_rules", {"name": "fraud"}, "get"),
        ("rule_change", {"name": "fraud", "rule": "drift"}, "post"),
        ("incident_list", {}, "get"),
        ("incident_detail", {"incident_id": None}, "get"),
        ("incident_acknowledge", {"incident_id": None}, "post"),
        ("incident_snooze", {"incident_id": None}, "post"),
        ("incident_resolve", {"incident_id": None}, "post"),
        ("digest_settings", {}, "get"),
        ("digest_preview", {}, "get"),
        ("digest_preview_mail", {}, "get"),
    ],
)
def test_strangers_see_404_and_the_unknown_are_sent_to_sign_in(incident, world, client, name, kwargs, method):
    kwargs = {key: value or incident.pk for key, value in kwargs.items()}
    url = page(name, **kwargs)
    assert getattr(world.client("mallory"), method)(url).status_code == 404
    unknown = getattr(client, method)(url)
    assert unknown.status_code == 302
    assert "login" in unknown["Location"]


# -- rules --------------------------------------------------------------------------------------------------------


def test_rules_are_read_by_all_and_changed_by_developers(bare, world):
    assert b"PSI of 0.2 or more" in world.client("vic").get(page("deployment_rules", name="fraud")).content
    url = page("rule_change", name="fraud", rule="drift")
    data = {"threshold": "0.3", "window_minutes": "720", "minimum_rows": "500", "enabled": "on"}
    assert world.client("vic").post(url, data).status_code == 403
    assert world.client("dan").post(url, data).status_code == 302
    rule = AlertRule.objects.get(deployment=bare.deployment, kind="drift")
    assert (rule.threshold, rule.window_minutes, rule.minimum_rows, rule.enabled) == (0.3, 720, 500, True)


def test_a_senseless_limit_is_refused_beside_its_field(bare, world):
    url = page("rule_change", name="fraud", rule="error_rate")
    data = {"threshold": "7", "window_minutes": "15", "minimum_rows": "20"}
    answer = world.client("dan").post(url, data)
    assert answer.status_code == 422
    assert b"is between 0.001 and 1" in answer.content
    assert alert_rules.rule(bare.deployment, "error_rate").threshold == 0.05


# -- digests and the home page ------------------------------------------------------------------------------------


def test_a_person_sets_and_previews_their_digest(drifted, world):
    client = world.client("dan")
    client.post(page("digest_settings"), {"frequency": "daily", "hour": "7", "weekday": "0"})
    from monitoring.models import DigestSubscription

    subscription = DigestSubscription.objects.get(user=world.dan)
    assert (subscription.frequency, subscription.alerts) == ("daily", False)
    assert client.post(page("digest_settings"), {"frequency": "hourly"}).status_code == 422
    text = client.get(page("digest_preview")).content.decode()
    assert "WHAT DRIFTED" in text
    mail = client.get(page("digest_preview_mail"))
    assert mail["Content-Security-Policy"].startswith("sandbox;")
    assert mail["X-Frame-Options"] == "SAMEORIGIN"
    assert b"What drifted" in mail.content


def test_attention_lists_what_waits_cheaply(drifted, world, django_assert_max_num_queries):
    with django_assert_max_num_queries(5):
        found = services.attention(world.acme)
    assert [item.level for item in found] == ["danger"]
    assert found[0].title.startswith("fraud: amount")
    assert services.open_incidents(world.acme) == 1
    assert services.attention(world.globex) == []
    assert services.drift_states([drifted.deployment_id]) == {drifted.deployment_id: "drift"}
