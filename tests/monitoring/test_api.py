"""The shapes scripts rely on (CONTRACTS.md, section 7), and who may."""

from __future__ import annotations

import pytest

from mlops.core import clock
from monitoring import checks, incidents, rules
from monitoring.models import AlertRule, Incident
from monitoring.rules import Finding, State
from tests.monitoring.scene import HOUR

BASE = "/api/v1/acme"


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


def test_check_answers_202_with_a_job_and_drift_the_verdict(scene, world, jobs_now, monkeypatch):
    from monitoring import reports

    monkeypatch.setattr(reports, "_draw", lambda source, target: target.write_text("<html></html>"))
    scene.log(scene.rows(300), clock.now() - 3 * HOUR)
    scene.log(scene.rows(900, amount=lambda value: value * 3))
    api = world.api("dan")
    with jobs_now():
        answer = api.post(f"{BASE}/deployments/fraud/drift/check")
    assert answer.status_code == 202
    job = answer.json()
    assert job["kind"] == "check_drift"
    assert job["url"].endswith(f"{BASE}/jobs/{job['id']}")
    assert api.get(f"{BASE}/jobs/{job['id']}").json()["status"] == "done"

    found = api.get(f"{BASE}/deployments/fraud/drift").json()
    assert (found["verdict"], found["rows"], found["version"], found["baseline"]) == ("drift", 1200, 1, "reference")
    amount = next(column for column in found["columns"] if column["name"] == "amount")
    assert {"name", "kind", "psi", "kl", "p_value", "severity", "since"} <= set(amount)
    assert amount["severity"] == "drift"
    assert found["report_url"].startswith("http://testserver/acme/deployments/fraud/drift/checks/")
    history = api.get(f"{BASE}/deployments/fraud/drift/checks").json()
    assert [check["verdict"] for check in history["results"]] == ["drift"]


def test_drift_before_the_first_check_is_learning(scene, world):
    found = world.api("vic").get(f"{BASE}/deployments/fraud/drift").json()
    assert (found["verdict"], found["columns"]) == ("learning", [])


def test_nothing_live_cannot_be_checked(scene, world):
    scene.deployment.routes.all().delete()
    answer = world.api("dan").post(f"{BASE}/deployments/fraud/drift/check")
    assert answer.status_code == 409
    assert answer.json()["code"] == "not_live"


def test_a_viewer_reads_drift_and_may_not_start_a_check(scene, world):
    assert world.api("vic").get(f"{BASE}/deployments/fraud/drift").status_code == 200
    assert world.api("vic").post(f"{BASE}/deployments/fraud/drift/check").status_code == 403


def test_incidents_say_state_what_since_why_and_actions(incident, world):
    listed = world.api("vic").get(f"{BASE}/incidents").json()
    assert listed["next"] is None
    found = listed["results"][0]
    assert (found["state"], found["what"], found["why"], found["deployment"]) == (
        "open",
        "p95 is slow",
        "Busy.",
        "fraud",
    )
    assert found["since"]
    assert set(found["actions"]) == {"acknowledge", "snooze", "mute", "resolve"}
    assert found["signals"][0]["todo"] == ["Wait."]
    assert world.api("vic").get(f"{BASE}/incidents?state=resolved").json()["results"] == []
    assert world.api("vic").get(f"{BASE}/incidents?state=odd").status_code == 422


def test_a_developer_acts_on_an_incident(incident, world):
    api = world.api("dan")
    base = f"{BASE}/incidents/{incident.pk}"
    assert api.post(f"{base}/acknowledge").json()["state"] == "acknowledged"
    snoozed = api.post(f"{base}/snooze", {"hours": 2}, format="json").json()
    assert snoozed["state"] == "snoozed"
    assert snoozed["snoozed_until"]
    assert api.post(f"{base}/snooze", {"hours": 9000}, format="json").status_code == 422
    assert api.post(f"{base}/resolve").json()["state"] == "resolved"
    assert api.post(f"{base}/resolve").json()["code"] == "incident_moved_on"


@pytest.mark.parametrize("verb", ["acknowledge", "snooze", "resolve"])
def test_low_roles_403_strangers_404_nobody_401(incident, world, client, verb):
    url = f"{BASE}/incidents/{incident.pk}/{verb}"
    assert world.api("vic").post(url).status_code == 403
    assert world.api("mallory").post(url).status_code == 404
    assert client.post(url).status_code == 401
    assert world.api("dan", scopes=["read"]).post(url).json()["code"] == "scope_missing"


def test_rules_are_listed_and_patched(bare, world):
    api = world.api("dan")
    listed = api.get(f"{BASE}/deployments/fraud/rules").json()["results"]
    assert {"drift", "error_rate", "latency", "no_traffic"} <= {rule["kind"] for rule in listed}
    assert listed[0]["threshold"] == 0.2
    changed = api.patch(f"{BASE}/deployments/fraud/rules/drift", {"threshold": 0.25}, format="json")
    assert changed.json()["threshold"] == 0.25
    assert AlertRule.objects.get(kind="drift").threshold == 0.25
    refused = api.patch(f"{BASE}/deployments/fraud/rules/drift", {"threshold": -1}, format="json")
    assert refused.status_code == 422
    assert "threshold" in refused.json()["errors"]
    assert api.patch(f"{BASE}/deployments/fraud/rules/drift", {}, format="json").status_code == 422
    assert api.patch(f"{BASE}/deployments/fraud/rules/odd", {"threshold": 1}, format="json").status_code == 404
    assert (
        world.api("vic").patch(f"{BASE}/deployments/fraud/rules/drift", {"threshold": 1}, format="json").status_code
        == 403
    )


def test_a_past_window_is_named(scene, world):
    scene.log(scene.rows(400))
    checks.run(scene.deployment)
    found = world.api("vic").get(f"{BASE}/deployments/fraud/drift").json()
    assert found["window_start"] < found["window_end"]
