"""Incident mails: what they say, who gets them, and that each is sent once, to a real SMTP server too."""

from __future__ import annotations

import email
import email.policy
import smtplib
import socket
from datetime import timedelta

import pytest
from aiosmtpd.controller import Controller
from django.core import mail

from accounts.models import Membership
from mlops.core import clock
from monitoring import checks, delivery, incidents, jobs, rules
from monitoring.models import Incident, Notification
from monitoring.rules import Finding, State
from tests.monitoring.scene import HOUR, Scene

Status = Notification.Status


@pytest.fixture
def drifted(scene: Scene) -> Incident:
    scene.log(scene.rows(300), clock.now() - 3 * HOUR)
    scene.log(scene.rows(900, amount=lambda value: value * 3))
    checks.run(scene.deployment)
    return Incident.objects.get()


class _Mailbox:
    """What the server took; ``refuse`` an address with that answer."""

    def __init__(self) -> None:
        self.messages: list[email.message.EmailMessage] = []
        self.recipients: list[str] = []
        self.refuse: dict[str, str] = {}

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):  # noqa: N802  aiosmtpd's name
        if address in self.refuse:
            return self.refuse[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  aiosmtpd's name
        self.messages.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.recipients += envelope.rcpt_tos
        return "250 OK"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def smtp(settings):
    """A real SMTP server on loopback, and the product set to use it."""
    mailbox = _Mailbox()
    port = _free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", port
    settings.EMAIL_USE_TLS, settings.EMAIL_HOST_USER, settings.EMAIL_TIMEOUT = False, "", 10
    yield mailbox
    controller.stop()


def test_the_mail_says_what_since_when_why_effect_and_what_to_do(drifted):
    row = Notification.objects.get(recipient="dan@acme.test")
    assert row.subject.startswith("[acme] fraud: amount")
    for text in (row.text, row.html):
        assert "PSI" in text
        assert "amount" in text
        assert "higher" in text or "larger" in text
        assert "of predictions changed class" in text
        assert "Inspect" in text
        assert "Roll back" in text
        assert "http://testserver/acme/deployments/fraud/drift/" in text
        assert f"http://testserver/acme/incidents/{drifted.pk}/" in text
    since = drifted.since.strftime("%Y-%m-%d %H:%M")
    assert f"SINCE WHEN\n{since} UTC" in row.text
    assert row.headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert row.headers["List-Unsubscribe"].startswith("<http://testserver/acme/unsubscribe/")


def test_text_from_column_names_is_escaped_in_html(bare):
    found = Finding(rules.DRIFT, State.FIRING, title="<script>alert(1)</script> drifted", what="<b>x</b>", todo=("a",))
    incidents.observe(bare.deployment, bare.version, found)
    row = Notification.objects.first()
    assert "<script>" not in row.html
    assert "&lt;script&gt;" in row.html
    assert "<script>alert(1)</script>" in row.text


def test_a_real_server_gets_text_and_html_with_the_headers_once(drifted, smtp):
    jobs.deliver_notifications()
    jobs.deliver_notifications()
    assert sorted(smtp.recipients) == ["alice@acme.test", "dan@acme.test", "olga@acme.test"]
    message = smtp.messages[0]
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Message-ID"]
    assert len({each["Message-ID"] for each in smtp.messages}) == 3
    assert "amount" in message.get_body(("plain",)).get_content()
    assert "<h3>Likely why</h3>" in message.get_body(("html",)).get_content()
    assert set(Notification.objects.values_list("status", flat=True)) == {"sent"}


def test_an_address_the_server_refuses_for_good_fails_at_once_and_the_others_get_theirs(drifted, smtp):
    smtp.refuse["dan@acme.test"] = "550 no such user"
    assert delivery.deliver_due() == {"sent": 2, "failed": 1, "put_off": 0}
    row = Notification.objects.get(recipient="dan@acme.test")
    assert row.status == Status.FAILED
    assert "no such user" in row.error


def test_a_temporary_refusal_is_tried_again_later(drifted, smtp, at):
    start = at(clock.now())
    smtp.refuse["dan@acme.test"] = "451 try later"
    delivery.deliver_due()
    row = Notification.objects.get(recipient="dan@acme.test")
    assert (row.status, row.attempts) == (Status.WAITING, 1)
    assert delivery.deliver_due() == {"sent": 0, "failed": 0, "put_off": 0}
    smtp.refuse.clear()
    at(start + timedelta(seconds=6))
    assert delivery.deliver_due()["sent"] == 1


def test_a_server_that_is_down_is_tried_seven_times_and_then_shown_as_failed(drifted, smtp, at, settings):
    settings.EMAIL_PORT = _free_port()
    now = at(clock.now())
    Notification.objects.exclude(recipient="dan@acme.test").delete()
    for wait in (timedelta(0), *delivery.RETRY_AFTER):
        now = at(now + wait)
        delivery.deliver_due()
    row = Notification.objects.get()
    assert (row.status, row.attempts) == (Status.FAILED, 7)
    assert "ConnectionRefused" in row.error


def test_a_claim_whose_worker_died_is_taken_up_again(drifted):
    Notification.objects.update(status=Status.SENDING, claimed_at=clock.now() - timedelta(minutes=11), attempts=1)
    assert delivery.deliver_due()["sent"] == 3
    Notification.objects.update(status=Status.SENDING, claimed_at=clock.now())
    assert delivery.deliver_due()["sent"] == 0


def test_who_left_in_the_meantime_gets_nothing(drifted, world):
    Membership.objects.filter(user=world.dan).delete()
    delivery.deliver_due()
    assert sorted(message.to[0] for message in mail.outbox) == ["alice@acme.test", "olga@acme.test"]
    assert "no longer the verified address" in Notification.objects.get(recipient="dan@acme.test").error


def test_opening_an_incident_sends_its_mail_without_waiting_for_the_schedule(bare, jobs_now):
    with jobs_now():
        incidents.observe(
            bare.deployment, bare.version, Finding(rules.LATENCY, State.FIRING, title="slow", what="Slow.", todo=("a",))
        )
    assert len(mail.outbox) == 3


def test_a_broken_row_does_not_stop_the_queue(drifted, monkeypatch):
    from monitoring import channels

    def fragile(notification):
        if notification.recipient.startswith("alice"):
            raise smtplib.SMTPServerDisconnected("gone")

    monkeypatch.setattr(channels, "channels", lambda: {"email": fragile})
    monkeypatch.setattr(delivery, "channels", lambda: {"email": fragile})
    assert delivery.deliver_due() == {"sent": 2, "failed": 0, "put_off": 1}
