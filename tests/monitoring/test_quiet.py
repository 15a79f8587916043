"""Who is told how often: mails that wait for company, quiet until worse, flapping told once, an end that has to stay."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.core import mail

from accounts.models import AuditEvent
from mlops.core import clock, errors
from monitoring import alert_rules, delivery, incidents, jobs, rules, services
from monitoring.models import Incident, IncidentStatus, Notification
from monitoring.rules import Finding, State

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def firing(kind: str = rules.ERROR_RATE, value: float = 0.2, **fields) -> Finding:
    words = {
        "title": f"{kind} is high",
        "what": f"{kind} is high.",
        "why": "Because.",
        "effect": "Bad.",
        "todo": ("Look.",),
    }
    return Finding(kind, State.FIRING, value=value, limit=0.05, unit="share", greatest=1.0, **{**words, **fields})


def calm(kind: str = rules.ERROR_RATE) -> Finding:
    return Finding(kind, State.CALM)


@pytest.fixture
def tell(bare):
    return lambda finding: incidents.observe(bare.deployment, bare.version, finding)


@pytest.fixture
def start(at):
    return at(clock.floor(clock.now(), HOUR))


def mails_to_dan() -> list[str]:
    delivery.deliver_due()
    found = [message for message in mail.outbox if message.to == ["dan@acme.test"]]
    mail.outbox.clear()
    return [message.subject for message in found]


# -- together -----------------------------------------------------------------------------------------------------


def test_signals_that_come_together_are_one_mail_after_half_a_minute(tell, at, start, settings):
    settings.ALERT_GROUP_S = 30
    tell(firing())
    at(start + 10 * SECOND)
    tell(firing(rules.LATENCY))
    tell(firing(rules.DRIFT, title="amount drifted"))
    assert mails_to_dan() == []
    at(start + 31 * SECOND)
    (subject,) = mails_to_dan()
    assert "error_rate is high; amount drifted; latency is high" in subject
    at(start + 5 * MINUTE)
    tell(firing())
    assert mails_to_dan() == []
    assert Notification.objects.filter(recipient="dan@acme.test").count() == 1


def test_what_begins_after_the_first_mail_went_is_a_mail_of_its_own(tell, at, start, settings):
    settings.ALERT_GROUP_S = 30
    tell(firing())
    at(start + 31 * SECOND)
    assert len(mails_to_dan()) == 1
    tell(firing(rules.LATENCY))
    at(start + 62 * SECOND)
    assert len(mails_to_dan()) == 1


def test_what_was_over_before_its_mail_went_is_told_to_nobody(tell, at, start, settings):
    settings.ALERT_GROUP_S = 30
    tell(firing(calm_checks=1))
    tell(calm())
    assert Incident.objects.get().status == IncidentStatus.RESOLVED
    at(start + HOUR)
    assert mails_to_dan() == []


def test_the_reminder_comes_four_hours_after_the_last_news(tell, at, start):
    tell(firing())
    tell(firing(rules.LATENCY))
    assert len(mails_to_dan()) == 2
    at(start + 4 * HOUR - MINUTE)
    tell(firing())
    assert mails_to_dan() == []
    at(start + 4 * HOUR)
    tell(firing())
    assert ["Still open" in subject for subject in mails_to_dan()] == [True]


# -- muted --------------------------------------------------------------------------------------------------------


def test_muted_is_quiet_until_it_is_half_as_bad_again(tell, world, at, start):
    incident = incidents.mute(tell(firing(value=0.2)), world.caller("dan"))
    assert incident.status == IncidentStatus.MUTED
    assert len(mails_to_dan()) == 1
    at(start + 30 * HOUR)
    tell(firing(value=0.29))
    assert mails_to_dan() == []
    tell(firing(value=0.31))
    incident.refresh_from_db()
    assert (incident.status, incident.muted) == (IncidentStatus.OPEN, {})
    assert "It is worse: 31 %, 20 % when it was muted." in incident.events.get(kind="woke").text
    assert len(mails_to_dan()) == 1


def test_something_new_ends_the_mute(tell, world, start):
    incident = incidents.mute(tell(firing()), world.caller("dan"), factor=10)
    mails_to_dan()
    tell(firing(rules.DRIFT, title="amount drifted"))
    incident.refresh_from_db()
    assert incident.status == IncidentStatus.OPEN
    assert "Something new: amount drifted." in incident.events.get(kind="woke").text
    assert len(mails_to_dan()) == 1


def test_what_is_muted_still_ends(tell, world):
    incident = incidents.mute(tell(firing(calm_checks=1)), world.caller("dan"))
    tell(calm())
    incident.refresh_from_db()
    assert incident.status == IncidentStatus.RESOLVED


def test_a_senseless_factor_is_refused(tell, world):
    with pytest.raises(errors.Invalid):
        incidents.mute(tell(firing()), world.caller("dan"), factor=1.0)
    resolved = incidents.resolve(Incident.objects.get(), world.caller("dan"))
    with pytest.raises(errors.Conflict):
        incidents.mute(resolved, world.caller("dan"))


# -- snoozed ------------------------------------------------------------------------------------------------------


def test_a_snooze_ends_within_a_minute_even_when_no_rule_is_looked_at(tell, world, at, start):
    incidents.snooze(tell(firing()), world.caller("dan"), hours=1)
    mails_to_dan()
    at(start + HOUR + MINUTE)
    jobs.schedule_rules()
    jobs.schedule_rules()
    assert ["Still open" in subject for subject in mails_to_dan()] == [True]
    assert Incident.objects.get().status == IncidentStatus.OPEN


# -- flapping -----------------------------------------------------------------------------------------------------


def test_what_changes_its_mind_all_the_time_is_told_once_and_then_not_until_it_settles(tell, bare, at, start):
    alert_rules.ensure_rules(bare.deployment)
    told = []
    for minute in range(60 * 5):
        at(start + minute * MINUTE)
        tell(firing() if minute % 2 == 0 else calm())
        told += mails_to_dan()
    assert len(told) == 2  # it began; it flaps
    incident = Incident.objects.get()
    assert incident.status == IncidentStatus.OPEN
    kinds = list(incident.events.values_list("kind", flat=True))
    assert kinds.count("flapping") == 1
    assert "changes between firing and calm all the time" in Notification.objects.latest("pk").text

    for minute in range(25):
        at(start + 5 * HOUR + minute * MINUTE)
        tell(calm())
    incident.refresh_from_db()
    assert incident.status == IncidentStatus.RESOLVED
    assert [event.kind for event in incident.events.all()][-3:] == ["settled", "calm", "resolved"]


# -- over ---------------------------------------------------------------------------------------------------------


def test_an_end_is_told_when_it_has_stayed_half_an_hour(tell, at, start):
    tell(firing(calm_checks=1))
    mails_to_dan()
    tell(calm())
    assert mails_to_dan() == []
    at(start + 31 * MINUTE)
    assert ["Over: " in subject for subject in mails_to_dan()] == [True]


def test_an_end_that_was_none_is_told_to_nobody(tell, at, start):
    tell(firing(calm_checks=1))
    mails_to_dan()
    for minute in range(0, 240, 10):
        at(start + minute * MINUTE)
        tell(calm())
        at(start + (minute + 5) * MINUTE)
        tell(firing(calm_checks=1))
        assert mails_to_dan() == []
    assert Incident.objects.count() == 1


def test_what_comes_back_after_its_end_was_told_is_told_again(tell, at, start):
    tell(firing(calm_checks=1))
    assert len(mails_to_dan()) == 1
    tell(calm())
    at(start + HOUR)
    assert len(mails_to_dan()) == 1
    tell(firing())
    assert len(mails_to_dan()) == 1
    assert [event.kind for event in Incident.objects.get().events.all()][-2:] == ["reopened", "signal"]


# -- people -------------------------------------------------------------------------------------------------------


def test_people_comment_on_the_timeline_and_say_who_has_it(tell, world):
    incident = tell(firing())
    client = world.client("dan")
    base = f"/acme/incidents/{incident.pk}/"
    assert client.post(f"{base}comment/", {"text": "The <b>upstream</b> job\nis late."}).status_code == 302
    assert client.post(f"{base}comment/", {"text": " "}).status_code == 422
    client.post(f"{base}acknowledge/")
    text = client.get(base).content.decode()
    assert "The &lt;b&gt;upstream&lt;/b&gt; job<br>is late." in text
    assert "by Dan" in text
    assert AuditEvent.objects.filter(action="incident.commented").count() == 1
    assert world.client("vic").post(f"{base}comment/", {"text": "x"}).status_code == 403
    api = world.api("dan")
    assert (
        api.post(f"/api/v1/acme/incidents/{incident.pk}/comments", {"text": "By key"}, format="json").status_code == 201
    )
    events = world.api("vic").get(f"/api/v1/acme/incidents/{incident.pk}/events").json()["results"]
    assert [event["kind"] for event in events] == ["comment", "acknowledged", "comment", "opened"]


def test_muting_by_page_and_by_api(tell, world):
    incident = tell(firing())
    client, api = world.client("dan"), world.api("dan")
    client.post(f"/acme/incidents/{incident.pk}/mute/", {"factor": "2.0"})
    incident.refresh_from_db()
    assert incident.muted == {"factor": 2.0, "values": {"error_rate": 0.2}}
    assert "quiet until it is 2 times as bad" in client.get(f"/acme/incidents/{incident.pk}/").content.decode()
    answer = api.post(f"/api/v1/acme/incidents/{incident.pk}/mute", {"factor": 3}, format="json")
    assert answer.json()["state"] == "muted"
    refused = api.post(f"/api/v1/acme/incidents/{incident.pk}/mute", {"factor": 0.5}, format="json")
    assert refused.status_code == 422
    assert services.attention(world.acme)[0].status == "muted"


def test_the_list_is_filtered_and_exported(tell, world, at, start):
    incident = tell(firing(title="=HYPERLINK(1)"))
    client = world.client("vic")
    assert b"=HYPERLINK(1)" in client.get("/acme/incidents/?state=open&deployment=fraud&range=24h").content
    for query in ("state=resolved", "deployment=other", "state=open&deployment=other"):
        assert b"No incident fits" in client.get(f"/acme/incidents/?{query}").content
    lines = b"".join(client.get("/acme/incidents/export/?state=open").streaming_content).decode().splitlines()
    assert lines[1].startswith(f"{incident.pk},fraud,1,open,'=HYPERLINK(1)")
    assert len(b"".join(client.get("/acme/incidents/export/?state=resolved").streaming_content).splitlines()) == 1
    assert world.client("mallory").get("/acme/incidents/export/").status_code == 404


def test_the_incident_page_draws_the_value_with_its_limit_and_the_deploys(bare, world):
    from monitoring import evaluation

    alert_rules.ensure_rules(bare.deployment)
    bare.requests(100, broken=40)
    evaluation.evaluate_all()
    incident = Incident.objects.get()
    shown = world.client("vic").get(f"/acme/incidents/{incident.pk}/?range=24h")
    (chart,) = shown.context["charts"]
    assert chart["data"]["limit"] == 0.05
    assert chart["data"]["unit"] == "share"
    assert {mark["tone"] for mark in chart["data"]["marks"]} == {"deploy", "incident"}
    assert world.client("vic").get(f"/acme/incidents/{incident.pk}/?range=9y").status_code == 422
