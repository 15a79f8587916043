"""Webhooks: what arrives, signed as promised; what is tried again, what is switched off; and which channel hears what."""

from __future__ import annotations

import json
import socket
import threading
from datetime import UTC, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from django.core import mail
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import AuditEvent
from mlops.core import clock
from monitoring import channel_services, delivery, incidents, notices, rules, services
from monitoring.announcing import News, announce
from monitoring.models import Attempt, Channel, Incident, Notification
from monitoring.rules import Finding, State
from tests.core.test_outbound import say
from tests.monitoring.receiver import receiving
from tests.monitoring.scene import Scene

Status = Notification.Status
SLOW = Finding(
    rules.LATENCY, State.FIRING, title="slow", what="Slow.", why="Busy.", effect="Callers wait.", todo=("Look",)
)
FAILING = Finding(rules.ERROR_RATE, State.FIRING, title="40 % fail", what="40 % of requests fail.", todo=("Look",))
PLACES = {
    "slack": "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "discord": "https://discord.com/api/webhooks/123456789012/abcdefghij_-KLMN",
    "teams": "https://prod-7.westeurope.logic.azure.com:443/workflows/643e69f83c8944438d68119179a10a64/triggers/manual/paths/invoke?api-version=2016-06-01&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig=KODuebWbDGYFr0z0eu-_",
    "ntfy": "https://ntfy.sh/acme_alerts",
    "pagerduty": "0123456789abcdef0123456789abcdef",
}


@pytest.fixture
def loopback(settings: Any) -> None:
    settings.OUTBOUND_ALLOW = ["127.0.0.0/8"]


def made(scene: Scene, world: Any, url: str, kind: str = "webhook", **more: Any) -> tuple[Channel, str]:
    fields = {"name": f"to {kind}", "address": url, "kind": kind, **more}
    return channel_services.create(scene.organization, world.caller("alice"), **fields)


def opens(scene: Scene, found: Finding = SLOW) -> Incident:
    incident = incidents.observe(scene.deployment, scene.version, found)
    assert incident is not None
    return incident


def mails_aside() -> None:
    Notification.objects.filter(channel="email").delete()


# -- webhooks -------------------------------------------------------------------------------------------------------------


def test_a_webhook_carries_the_incident_signed_as_standard_webhooks_say(bare, world, loopback):
    with receiving() as (url, asked):
        _, secret = made(bare, world, f"{url}/hooks?a=1")
        incident = opens(bare)
        delivery.deliver_due()
    what, headers, body = asked[0]
    assert (what, len(asked)) == ("POST /hooks?a=1", 1)
    message = Webhook(secret).verify(body, headers)
    assert message["type"] == "incident.opened"
    data = message["data"]
    assert (data["organization"], data["deployment"], data["version"]) == ("acme", "fraud", 1)
    assert (data["incident"]["id"], data["incident"]["severity"], data["incident"]["title"]) == (
        incident.pk,
        "warning",
        "slow",
    )
    assert data["signals"][0] | {"since": "", "value": 0, "limit": 0} == {
        "kind": "latency", "state": "firing", "title": "slow", "what": "Slow.", "why": "Busy.", "effect": "Callers wait.", "todo": ["Look"],
        "since": "", "value": 0, "limit": 0,
    }  # fmt: skip
    assert data["links"]["incident"] == f"http://testserver/acme/incidents/{incident.pk}/"
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(body.replace(b"Slow.", b"Fast."), headers)
    row = Notification.objects.get(channel="webhook")
    (attempt,) = row.tries.all()
    assert (row.status, attempt.outcome, attempt.status, attempt.reply) == ("sent", "sent", 200, "{}")


def test_while_a_secret_is_rotated_either_opens_the_message_and_then_the_new_one_alone(bare, world, loopback, at):
    start = at(clock.now())
    with receiving() as (url, asked):
        channel, old = made(bare, world, url)
        new = channel_services.rotate(channel, world.caller("alice"))
        assert old != new
        channel_services.send_test(channel, world.caller("alice"))
        delivery.deliver_due()
        at(start + channel_services.OVERLAP + timedelta(seconds=1))
        channel_services.send_test(channel, world.caller("alice"))
        delivery.deliver_due()
    both, alone = asked
    for secret in (old, new):
        assert signed_by(secret, both)
    assert signed_by(new, alone)
    assert not signed_by(old, alone)
    assert old not in json.dumps([channel.secret_sealed, channel.previous_secret_sealed])


def signed_by(secret: str, asked: tuple[str, dict[str, str], bytes]) -> bool:
    from datetime import datetime

    _, headers, body = asked
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=UTC)
    return Webhook(secret).sign(headers["webhook-id"], at, body.decode()) in headers["webhook-signature"].split(" ")


def test_what_fails_is_tried_again_with_the_same_id_and_the_same_words(bare, world, loopback, at):
    now = at(clock.now())
    with receiving(say(500, b"oops\x00 <b>"), say(503), say(204, b"")) as (url, asked):
        made(bare, world, url)
        opens(bare)
        mails_aside()
        for wait in (timedelta(0), *delivery.RETRY_AFTER[:2]):
            now = at(now + wait)
            delivery.deliver_due()
    assert len({headers["webhook-id"] for _, headers, _ in asked}) == 1
    assert len({body for _, _, body in asked}) == 1
    assert len({headers["webhook-timestamp"] for _, headers, _ in asked}) == 3
    row = Notification.objects.get()
    assert (row.status, [each.status for each in row.tries.all()]) == ("sent", [500, 503, 204])
    assert row.tries.all()[0].reply == "oops\ufffd <b>"
    assert [each.outcome for each in row.tries.all()] == ["put_off", "put_off", "sent"]


@pytest.mark.parametrize(
    ("header", "waits"),
    [("90", 90), ("1", 5), ("999999", 3600), ("in a while", 5), ("", 5)],
)
def test_retry_after_is_honoured_within_bounds(bare, world, loopback, at, header, waits):
    now = at(clock.now())
    with receiving(say(429, **({"Retry-After": header} if header else {}))) as (url, _):
        made(bare, world, url)
        opens(bare)
        mails_aside()
        delivery.deliver_due()
    assert Notification.objects.get().next_at - now == timedelta(seconds=waits)


def test_retry_after_may_be_a_date(bare, world, loopback, at):
    now = at(clock.now().replace(microsecond=0))
    until = format_datetime(now + timedelta(minutes=10), usegmt=True)
    with receiving(say(503, **{"Retry-After": until})) as (url, _):
        made(bare, world, url)
        opens(bare)
        mails_aside()
        delivery.deliver_due()
    assert Notification.objects.get().next_at - now == timedelta(minutes=10)


def test_gone_switches_the_channel_off_at_once_and_says_so_everywhere(bare, world, loopback):
    with receiving(say(410, b"removed")) as (url, asked):
        channel, _ = made(bare, world, url)
        opens(bare)
        mails_aside()
        assert delivery.deliver_due() == {"sent": 0, "failed": 1, "put_off": 0}
        channel.refresh_from_db()
        assert (channel.enabled, channel.state) == (False, "disabled")
        assert "410: removed" in channel.disabled_reason
        assert sorted(Notification.objects.filter(type="channel.disabled").values_list("recipient", flat=True)) == [
            "alice@acme.test",
            "olga@acme.test",
        ]
        delivery.deliver_due()
        assert "is switched off" in mail.outbox[0].subject
        assert f"/acme/settings/channels/{channel.pk}/" in mail.outbox[0].body
        page = world.client("alice").get("/acme/notifications/").content.decode()
        assert f"The channel {channel.name} is switched off" in page
        assert "The channel" not in world.client("vic").get("/acme/notifications/").content.decode()
        assert [each.title for each in services.attention(world.acme) if "channel" in each.title.lower()]
        assert AuditEvent.objects.filter(action="channel.disabled").count() == 1
        incidents.observe(bare.deployment, bare.version, FAILING)
        assert not Notification.objects.filter(target=channel, status=Status.WAITING).exists()
        assert len(asked) == 1


@pytest.mark.parametrize(("status", "stays_on"), [(404, False), (401, False), (403, False), (500, True), (429, True)])
def test_a_refusal_to_the_last_try_switches_the_channel_off_and_trouble_does_not(
    bare, world, loopback, at, status, stays_on
):
    now = at(clock.now())
    with receiving(say(status)) as (url, asked):
        channel, _ = made(bare, world, url)
        opens(bare)
        mails_aside()
        for wait in (timedelta(0), *delivery.RETRY_AFTER):
            assert Channel.objects.get().enabled
            now = at(now + wait)
            delivery.deliver_due()
    assert len(asked) == 7
    assert Notification.objects.get(target=channel).status == "failed"
    channel.refresh_from_db()
    assert channel.enabled is stays_on


def test_a_channel_that_works_again_gets_at_once_what_waited(bare, world, loopback, at):
    now = at(clock.now())
    with receiving(say(500), say(500), say(200)) as (url, asked):
        channel, _ = made(bare, world, url)
        opens(bare)
        mails_aside()
        for wait in (timedelta(0), delivery.RETRY_AFTER[0]):
            now = at(now + wait)
            delivery.deliver_due()
        assert Channel.objects.get().state == "failing"
        channel_services.send_test(channel, world.caller("alice"))
        delivery.deliver_due()
        delivery.deliver_due()
    assert [json.loads(body)["type"] for _, _, body in asked][-2:] == ["test", "incident.opened"]
    assert Channel.objects.get().state == "ok"


def test_the_end_is_not_told_before_the_beginning(bare, world, loopback, at):
    now = at(clock.now())
    with receiving(say(500), say(200)) as (url, asked):
        made(bare, world, url)
        incident = opens(bare)
        mails_aside()
        delivery.deliver_due()
        now = at(now + timedelta(seconds=1))
        over(incident)
        delivery.deliver_due()
    assert [json.loads(body)["type"] for _, _, body in asked] == [
        "incident.opened",
        "incident.opened",
        "incident.resolved",
    ]


def over(incident: Incident) -> int:
    incident.refresh_from_db()
    incident.status, incident.resolved_at = "resolved", clock.now()
    incident.save()
    return notices.tell_over(incident, "All signals are back to normal.")


def test_a_receiver_that_cannot_be_reached_gets_one_try_a_look_and_others_get_theirs(bare, world, loopback):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        made(bare, world, f"http://127.0.0.1:{closed.getsockname()[1]}", name="down")
    with receiving() as (url, asked):
        made(bare, world, url, name="up")
        opens(bare)
        other = Scene(world.acme, name="churn")
        opens(other)
        counts = delivery.deliver_due()
    assert len(asked) == 2
    assert counts == {"sent": len(mail.outbox) + 2, "failed": 0, "put_off": 1}
    down = Notification.objects.filter(target__name="down")
    assert sorted(down.values_list("attempts", flat=True)) == [0, 1]
    assert "cannot be reached" in Attempt.objects.get(notification__in=down).error


def test_an_answer_is_kept_in_part_and_a_huge_or_endless_one_does_no_harm(bare, world, loopback):
    with receiving(say(200, b"<b>" + b"x" * 300_000)) as (url, _):
        made(bare, world, url)
        opens(bare)
        delivery.deliver_due()
    reply = Attempt.objects.get().reply
    assert (len(reply), reply[:5]) == (500, "<b>xx")


def test_a_message_has_a_largest_size(bare, world, loopback):
    with receiving() as (url, asked):
        made(bare, world, url, events=["retraining"])
        news = News(type="retraining.proposed", key="k", title="t", text="x", data={"a": "y" * 200_000, "b": 1})
        assert announce(world.acme, news) == 1
        delivery.deliver_due()
    assert json.loads(asked[0][2])["data"] == {"a": None, "b": 1, "cut": True}


# -- who gets what ----------------------------------------------------------------------------------------------------------


def test_a_channel_hears_of_its_deployments_its_severity_and_its_events_only(bare, world, loopback):
    other = Scene(world.acme, name="churn")
    with receiving() as (url, _):
        made(bare, world, url, name="all")
        made(bare, world, url, name="churn only", deployments=["churn"])
        made(bare, world, url, name="critical only", least_severity="critical")
        made(bare, world, url, name="ends only", events=["incident.resolved"])
        off, _ = made(bare, world, url, name="off")
        channel_services.change(off, world.caller("alice"), enabled=False)
    opens(bare)
    assert _told() == {"all"}
    opens(other)
    assert _told() == {"all", "churn only"}
    Notification.objects.all().delete()
    incidents.observe(bare.deployment, bare.version, FAILING)
    assert _told() == {"all", "critical only"}
    Scene(world.globex, name="fraud2")
    assert not Channel.objects.filter(organization=world.globex).exists()


def _told() -> set[str]:
    return set(Notification.objects.filter(target__isnull=False).values_list("recipient", flat=True))


def test_the_end_goes_to_those_who_heard_the_beginning(bare, world, loopback):
    with receiving() as (url, asked):
        made(bare, world, url, name="heard")
        incident = opens(bare)
        delivery.deliver_due()
        made(bare, world, url, name="came later")
        mail.outbox.clear()
        over(incident)
        delivery.deliver_due()
    assert [json.loads(body)["type"] for _, _, body in asked] == ["incident.opened", "incident.resolved"]
    assert sorted(each.to[0] for each in mail.outbox) == ["alice@acme.test", "dan@acme.test", "olga@acme.test"]
    assert mail.outbox[0].subject == "[acme] fraud: Over: slow"
    assert "All signals are back to normal." in mail.outbox[0].body
    assert mail.outbox[0].extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_what_was_over_before_anybody_was_told_is_not_told(bare, world, loopback):
    with receiving() as (url, _):
        made(bare, world, url)
    incident = opens(bare)
    assert over(incident) == 0
    assert not Notification.objects.filter(incident=incident).exists()


def test_news_of_the_same_incident_takes_the_place_of_what_waits(bare, world, at):
    now = at(clock.now())
    incident = opens(bare)
    Notification.objects.all().delete()
    later = now + timedelta(seconds=30)
    notices.tell_of(incident, not_before=later)
    first = set(Notification.objects.values_list("pk", flat=True))
    incident.mails += 1
    incident.title = "slow; 40 % fail"
    notices.tell_of(incident, not_before=now + timedelta(seconds=50))
    rows = Notification.objects.filter(recipient="dan@acme.test")
    assert [(row.next_at, row.subject) for row in rows] == [(later, "[acme] fraud: slow; 40 % fail")]
    assert not first & set(Notification.objects.values_list("pk", flat=True))
    assert delivery.deliver_due()["sent"] == 0
    at(later)
    assert delivery.deliver_due()["sent"] == 3


def test_a_rule_is_tested_on_whoever_asks_and_the_channels(bare, world, loopback):
    with receiving() as (url, asked):
        made(bare, world, url, name="all")
        made(bare, world, url, name="critical only", least_severity="critical")
        assert notices.test_of(bare.deployment, SLOW, world.caller("dan")) == 2
        delivery.deliver_due()
    (message,) = mail.outbox
    assert (message.to, message.subject) == (["dan@acme.test"], "[acme] fraud: Test: slow")
    assert "This is a test. Nothing is wrong" in message.body
    (body,) = [json.loads(each) for _, _, each in asked]
    assert (body["type"], body["data"]["test"], body["data"]["signals"][0]["what"]) == ("test", True, "Slow.")
    assert not Incident.objects.exists()


# -- beside each other -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_a_slow_receiver_holds_up_neither_mails_nor_other_channels(bare, world, loopback):
    """The slow one answers only after everybody else was served."""
    served = threading.Event()
    quick: list[str] = []

    def slow(handler: BaseHTTPRequestHandler) -> None:
        assert served.wait(20)
        say(200)(handler)

    def noted(handler: BaseHTTPRequestHandler) -> None:
        say(200)(handler)
        quick.append(handler.path)
        served.set()

    with receiving(slow) as (slow_url, _), receiving(noted) as (url, _):
        made(bare, world, slow_url, name="a slow one")
        made(bare, world, url, name="quick")
        opens(bare)
        assert delivery.deliver_due()["put_off"] == 0
    assert quick == ["/"]
    assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}
    assert len(mail.outbox) == 3
