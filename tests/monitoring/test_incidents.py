"""One story per deployment: opened once, told once, reminded rarely, closed when it is over."""

from __future__ import annotations

from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress

from mlops.core import clock, errors
from monitoring import alert_rules, checks, incidents, people, rules
from monitoring.models import DigestSubscription, Incident, IncidentStatus, Notification
from monitoring.rules import Finding, State
from serving.models import Release
from serving.signals import deployment_changed

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def firing(kind: str = rules.ERROR_RATE, **fields) -> Finding:
    words = {
        "title": f"{kind} is high",
        "what": f"{kind} is high.",
        "why": "Because.",
        "effect": "Bad.",
        "todo": ("Mend it.",),
    }
    return Finding(kind, State.FIRING, **{**words, **fields})


def calm(kind: str = rules.ERROR_RATE) -> Finding:
    return Finding(kind, State.CALM)


@pytest.fixture
def tell(bare):
    return lambda finding: incidents.observe(bare.deployment, bare.version, finding)


def test_repeated_findings_are_one_incident_and_one_mail_each(tell):
    for _ in range(5):
        tell(firing())
    incident = Incident.objects.get()
    assert incident.status == IncidentStatus.OPEN
    assert incident.mails == 1
    # developers and above: Olga, Alice and Dan, not Vic, not Mallory of globex
    assert sorted(Notification.objects.values_list("recipient", flat=True)) == [
        "alice@acme.test",
        "dan@acme.test",
        "olga@acme.test",
    ]


def test_another_signal_joins_the_open_incident_and_is_told_at_once(tell):
    tell(firing())
    tell(firing(rules.DRIFT, title="amount drifted"))
    incident = Incident.objects.get()
    assert set(incident.signals) == {rules.ERROR_RATE, rules.DRIFT}
    assert "amount drifted" in incident.title
    assert incident.mails == 2
    assert not Notification.objects.filter(subject__contains="Still open").exists()


def test_reminders_come_after_four_hours_and_then_less_often(tell, at):
    start = at(clock.now())
    tell(firing())
    at(start + 3 * HOUR)
    tell(firing())
    assert Incident.objects.get().mails == 1
    at(start + 4 * HOUR)
    tell(firing())
    assert Incident.objects.get().mails == 2
    at(start + 9 * HOUR)
    tell(firing())
    assert Incident.objects.get().mails == 2
    at(start + 12 * HOUR)
    tell(firing())
    assert Incident.objects.get().mails == 3
    subjects = [row.subject for row in Notification.objects.filter(recipient="dan@acme.test").order_by("pk")]
    assert ["Still open" in subject for subject in subjects] == [False, True, True]


def test_it_resolves_after_calm_checks_and_a_value_between_the_limits_changes_nothing(tell):
    tell(firing())
    for _ in range(rules.CALM_CHECKS[rules.ERROR_RATE] - 1):
        tell(calm())
    tell(Finding(rules.ERROR_RATE, State.HOLD))
    assert Incident.objects.get().status == IncidentStatus.OPEN
    tell(calm())
    incident = Incident.objects.get()
    assert incident.status == IncidentStatus.RESOLVED
    assert incident.resolved_at is not None


def test_a_firing_check_starts_the_calm_count_anew(tell):
    tell(firing())
    for _ in range(4):
        tell(calm())
    tell(firing())
    for _ in range(4):
        tell(calm())
    assert Incident.objects.get().status == IncidentStatus.OPEN


def test_it_stays_open_until_every_signal_is_calm(tell):
    tell(firing())
    tell(firing(rules.NO_TRAFFIC))
    tell(calm(rules.NO_TRAFFIC))
    assert Incident.objects.get().status == IncidentStatus.OPEN
    for _ in range(5):
        tell(calm())
    assert Incident.objects.get().status == IncidentStatus.RESOLVED


def test_what_comes_back_within_four_hours_is_the_same_incident_without_a_new_mail(tell, at):
    start = at(clock.now())
    tell(firing())
    for _ in range(5):
        tell(calm())
    at(start + HOUR)
    tell(firing())
    incident = Incident.objects.get()
    assert incident.status == IncidentStatus.OPEN
    assert incident.mails == 1
    assert [event.kind for event in incident.events.all()] == ["opened", "calm", "resolved", "reopened", "signal"]


def test_what_comes_back_later_is_a_new_incident(tell, at):
    start = at(clock.now())
    tell(firing())
    for _ in range(5):
        tell(calm())
    at(start + 5 * HOUR)
    tell(firing())
    assert Incident.objects.count() == 2


def test_acknowledging_ends_the_reminders(tell, world, at):
    start = at(clock.now())
    incident = incidents.acknowledge(tell(firing()), world.caller("dan"))
    assert incident.status == IncidentStatus.ACKNOWLEDGED
    at(start + 30 * HOUR)
    tell(firing())
    assert Incident.objects.get().mails == 1
    assert incident.events.last().actor == "Dan"


def test_a_snooze_is_quiet_and_then_tells_again(tell, world, at):
    start = at(clock.now())
    incidents.snooze(tell(firing()), world.caller("dan"), hours=2)
    at(start + HOUR)
    tell(firing(rules.LATENCY))
    assert Incident.objects.get().mails == 1
    at(start + 2 * HOUR + MINUTE)
    tell(firing())
    incident = Incident.objects.get()
    assert (incident.status, incident.mails) == (IncidentStatus.OPEN, 2)


def test_a_moved_on_incident_cannot_be_moved_twice(tell, world):
    incident = tell(firing())
    incidents.resolve(incident, world.caller("dan"))
    for act in (incidents.acknowledge, incidents.resolve):
        with pytest.raises(errors.Conflict, match="resolved"):
            act(incident, world.caller("alice"))
    with pytest.raises(errors.Invalid):
        incidents.snooze(incident, world.caller("alice"), hours=1000)


def test_two_lookers_who_both_saw_it_open_move_it_once(tell, world):
    incident = tell(firing())
    mine, yours = Incident.objects.get(pk=incident.pk), Incident.objects.get(pk=incident.pk)
    incidents.acknowledge(mine, world.caller("dan"))
    with pytest.raises(errors.Conflict):
        incidents.acknowledge(yours, world.caller("alice"))


def test_switching_mails_off_is_obeyed(tell, world):
    from monitoring import digest_sending, people

    digest_sending.change_settings(people.subscription(world.acme, world.dan), alerts=False)
    tell(firing())
    assert "dan@acme.test" not in Notification.objects.values_list("recipient", flat=True)


def test_unverified_members_are_not_mailed(tell, world):
    world.dan.emailaddress_set.update(verified=False)
    tell(firing())
    assert "dan@acme.test" not in Notification.objects.values_list("recipient", flat=True)


def test_a_stopped_deployment_ends_its_incident(tell, bare):
    tell(firing())
    deployment_changed.send(
        sender=type(bare.deployment), deployment=bare.deployment, version=bare.version, kind=Release.Kind.STOP
    )
    assert Incident.objects.get().status == IncidentStatus.RESOLVED


def test_switching_a_rule_off_lets_go_of_its_signal(tell, bare, world):
    tell(firing())
    rule = alert_rules.rule(bare.deployment, rules.ERROR_RATE)
    alert_rules.change_rule(rule, world.caller("dan"), enabled=False)
    assert Incident.objects.get().status == IncidentStatus.RESOLVED


def test_drift_opens_one_incident_for_repeated_checks_and_two_ok_checks_close_it(scene, at):
    start = at(clock.floor(clock.now(), HOUR))
    scene.log(scene.rows(900, amount=lambda value: value * 3), start)
    for hour in range(3):
        at(start + hour * HOUR)
        assert checks.run(scene.deployment).verdict == "drift"
    incident = Incident.objects.get()
    assert incident.title.startswith("amount")
    assert incident.mails == 1

    later = at(start + 30 * HOUR)
    scene.log(scene.rows(900), later)
    assert checks.run(scene.deployment).verdict == "ok"
    assert Incident.objects.get().status == IncidentStatus.OPEN
    checks.run(scene.deployment)
    assert Incident.objects.get().status == IncidentStatus.RESOLVED


def test_rules_are_made_and_a_baseline_is_asked_for_when_a_deployment_goes_live(scene, jobs_now):
    with jobs_now():
        deployment_changed.send(
            sender=type(scene.deployment), deployment=scene.deployment, version=scene.version, kind=Release.Kind.DEPLOY
        )
    made = {rule.kind: rule for rule in scene.deployment.rules.all()}
    assert made["drift"].threshold == 0.2
    assert made["error_rate"].threshold == 0.05
    assert made["latency"].threshold == 2.0
    assert [made[kind].enabled for kind in ("drift", "error_rate", "latency", "no_traffic")] == [
        True,
        True,
        True,
        False,
    ]
    assert scene.deployment.baselines.get().rows == 3000


def test_an_incident_that_nobody_can_be_mailed_about_says_so_and_why(tell, world):
    EmailAddress.objects.update(verified=False)
    tell(firing())
    incident = Incident.objects.get()
    assert not incident.notifications.exists()
    assert "confirmed mail address" in incident.events.get(kind="untold").text
    page = world.client("vic").get(f"/acme/incidents/{incident.pk}/").content.decode()
    assert "No mail was sent: no developer, admin or owner has a confirmed mail address." in page
    EmailAddress.objects.update(verified=True)
    for user in people.verified_members(world.acme):
        DigestSubscription.objects.update_or_create(organization=world.acme, user=user, defaults={"alerts": False})
    assert "switched incident mails off" in people.why_nobody(world.acme)


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        (rules.DRIFT, "/acme/deployments/fraud/drift/"),
        (rules.ERROR_RATE, "/acme/deployments/fraud/predictions/?status=error"),
        (rules.LATENCY, "/acme/deployments/fraud/traffic/"),
    ],
)
def test_inspect_leads_to_the_page_that_shows_what_is_wrong(tell, world, kind, path):
    incident = tell(firing(kind))
    client = world.client("dan")
    assert f'href="{path}"' in client.get(f"/acme/incidents/{incident.pk}/").content.decode()
    assert path in incident.notifications.first().text
    assert client.get(path).status_code == 200
    viewer = world.client("vic")
    shown = viewer.get(f"/acme/incidents/{incident.pk}/").context["inspect_path"]
    assert viewer.get(shown).status_code == 200
