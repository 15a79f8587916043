"""Mails through real SMTP servers on loopback: encrypted and signed in, refused, broken off and slow ones."""

from __future__ import annotations

import contextlib
import socket
import socketserver
import ssl
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from mlops.core import clock
from monitoring import delivery, incidents, rules
from monitoring.channels import email as email_channel
from monitoring.models import Notification
from monitoring.rules import Finding, State
from tests.monitoring.receiver import certificate
from tests.monitoring.test_mail import _free_port, _Mailbox

SLOW = Finding(rules.LATENCY, State.FIRING, title="slow", what="Slow.", todo=("Look",))
Status = Notification.Status


@pytest.fixture
def one_mail(bare, settings):
    """One mail waits, to dan."""
    settings.ALERT_GROUP_S = 0
    incidents.observe(bare.deployment, bare.version, SLOW)
    Notification.objects.exclude(recipient="dan@acme.test").delete()
    return Notification.objects.get()


def by_smtp(settings: Any, port: int, **more: Any) -> None:
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    values = {
        "HOST": "127.0.0.1",
        "PORT": port,
        "USE_TLS": False,
        "USE_SSL": False,
        "HOST_USER": "",
        "HOST_PASSWORD": "",
        "TIMEOUT": 10,
    }
    for name, value in {**values, **more}.items():
        setattr(settings, f"EMAIL_{name}", value)


class Sent(_Mailbox):
    """Also who signed in, and whether the line was encrypted."""

    def __init__(self) -> None:
        super().__init__()
        self.encrypted: list[bool] = []

    def authenticate(self, server, session, envelope, mechanism, data):
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"slipway", b"s3cret")
        return AuthResult(success=good, handled=False)

    async def handle_DATA(self, server, session, envelope):  # noqa: N802  aiosmtpd's name
        self.encrypted.append(session.ssl is not None)
        return await super().handle_DATA(server, session, envelope)


@pytest.fixture
def encrypted(settings, tmp_path, monkeypatch) -> Iterator[Sent]:
    """It takes mail only after STARTTLS and a good password; its certificate is one that we trust."""
    cert, key = certificate(tmp_path, ("mail.example.test",))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    mailbox, port = Sent(), _free_port()
    controller = Controller(
        mailbox, hostname="127.0.0.1", port=port, tls_context=context, require_starttls=True, authenticator=mailbox.authenticate,
        auth_required=True,
    )  # fmt: skip
    controller.start()
    by_smtp(settings, port, USE_TLS=True, HOST_USER="slipway", HOST_PASSWORD="s3cret")
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    yield mailbox
    controller.stop()


def test_a_mail_goes_encrypted_and_signed_in(one_mail, encrypted):
    assert delivery.deliver_due()["sent"] == 1
    assert (encrypted.recipients, encrypted.encrypted) == (["dan@acme.test"], [True])
    message = encrypted.messages[0]
    assert {part.get_content_type() for part in message.walk()} >= {"text/plain", "text/html"}
    assert message["List-Unsubscribe"].strip().startswith("<http://testserver/acme/unsubscribe/")
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert message["Auto-Submitted"] == "auto-generated"


def test_a_wrong_password_puts_the_mail_off(one_mail, encrypted, settings):
    settings.EMAIL_HOST_PASSWORD = "wrong"
    assert delivery.deliver_due()["put_off"] == 1
    assert "SMTPAuthenticationError" in Notification.objects.get().error
    assert encrypted.messages == []


def test_a_certificate_nobody_vouches_for_gets_neither_mail_nor_password(one_mail, encrypted, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    assert delivery.deliver_due()["put_off"] == 1
    assert "certificate" in Notification.objects.get().error.lower()
    assert encrypted.messages == []


def test_a_server_without_starttls_gets_nothing_where_it_is_asked_for(one_mail, settings):
    mailbox, port = _Mailbox(), _free_port()
    controller = Controller(mailbox, hostname="127.0.0.1", port=port)
    controller.start()
    by_smtp(settings, port, USE_TLS=True)
    try:
        assert delivery.deliver_due()["put_off"] == 1
    finally:
        controller.stop()
    assert "STARTTLS" in Notification.objects.get().error
    assert mailbox.messages == []


class _Script(socketserver.StreamRequestHandler):
    """A server that speaks SMTP and does, at one command, what it was told."""

    def handle(self) -> None:
        script, self.server.visits = self.server.script, self.server.visits + 1  # type: ignore[attr-defined]
        if not self._say("220 here", script):
            return
        while line := self.rfile.readline():
            word = line.strip().upper().split(b" ")[0].split(b":")[0].decode()
            if not self._say({"DATA": "354 go on", "QUIT": "221 bye"}.get(word, "250 ok"), script, word):
                return
            if word == "DATA" and not self._message(script):
                return

    def _say(self, usual: str, script: dict[str, list[str]], word: str = "greeting") -> bool:
        """False: nothing more is said on this connection."""
        answers = script.get(word, [])
        said = answers.pop(0) if answers else usual
        if said == "silence":
            self.server.stop.wait(20)  # type: ignore[attr-defined]
        elif said == "drip":
            while not self.server.stop.wait(0.02):  # type: ignore[attr-defined]
                try:
                    self.wfile.write(b"250-x\r\n")
                except OSError:
                    return False
        elif said != "hang up":
            self.wfile.write(said.encode() + b"\r\n")
            return True
        return False

    def _message(self, script: dict[str, list[str]]) -> bool:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
            if script.get("body"):
                script["body"].pop()
                return False
        self.server.messages.append(b"".join(lines))  # type: ignore[attr-defined]
        return self._say("250 taken", script, "end")


@contextlib.contextmanager
def server(settings: Any, **script: list[str]) -> Iterator[Any]:
    made = socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Script)
    made.daemon_threads, made.block_on_close = True, False
    made.script, made.messages, made.visits, made.stop = script, [], 0, threading.Event()  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    by_smtp(settings, made.server_address[1])
    try:
        yield made
    finally:
        made.stop.set()  # type: ignore[attr-defined]
        made.shutdown()
        made.server_close()
        thread.join()


@pytest.mark.parametrize(
    "script",
    [
        {"RCPT": ["450 4.2.0 greylisted, try again in a minute"]},
        {"MAIL": ["451 4.3.0 busy"]},
        {"end": ["452 4.3.1 disk full"]},
        {"greeting": ["421 4.3.2 come back later"]},
        {"body": ["hang up"]},
        {"end": ["hang up"]},
        {"greeting": ["hang up"]},
    ],
    ids=lambda script: "-".join([*script][:1]) + "-" + next(iter(script.values()))[0][:8].replace(" ", ""),
)
def test_what_passes_is_tried_again_and_the_mail_arrives_once(one_mail, settings, at, script):
    now = at(clock.now())
    with server(settings, **script) as smtp:
        assert delivery.deliver_due() == {"sent": 0, "failed": 0, "put_off": 1}
        first = len(smtp.messages)
        assert delivery.deliver_due() == {"sent": 0, "failed": 0, "put_off": 0}
        at(now + delivery.RETRY_AFTER[0])
        assert delivery.deliver_due() == {"sent": 1, "failed": 0, "put_off": 0}
    assert len(smtp.messages) == first + 1
    ids = {
        line for message in smtp.messages for line in message.split(b"\r\n") if line.lower().startswith(b"message-id")
    }
    assert len(ids) == 1  # a mailbox that has had it drops the second


@pytest.mark.parametrize(
    "script", [{"RCPT": ["550 5.1.1 no such user"]}, {"MAIL": ["553 5.1.8 who are you"]}, {"end": ["554 5.7.1 spam"]}]
)
def test_what_is_refused_for_good_is_not_tried_again(one_mail, settings, at, script):
    (said,) = next(iter(script.values()))
    now = at(clock.now())
    with server(settings, **script) as smtp:
        assert delivery.deliver_due() == {"sent": 0, "failed": 1, "put_off": 0}
        at(now + timedelta(days=1))
        delivery.deliver_due()
    assert smtp.visits == 1
    row = Notification.objects.get()
    assert (row.status, said[4:] in row.error) == (Status.FAILED, True)


@pytest.mark.parametrize("where", ["greeting", "EHLO", "DATA"])
def test_a_server_that_says_nothing_is_left(one_mail, settings, where):
    with server(settings, **{where: ["silence"]}) as smtp:
        settings.EMAIL_TIMEOUT = 0.2
        assert delivery.deliver_due()["put_off"] == 1
    assert smtp.messages == []


def test_a_server_that_says_a_line_now_and_then_is_left_too(one_mail, settings, monkeypatch):
    monkeypatch.setattr(email_channel, "MOST_S", 0.5)
    with server(settings, EHLO=["drip"]) as smtp:
        assert delivery.deliver_due()["put_off"] == 1
    assert smtp.messages == []


def test_a_mail_server_that_is_down_costs_one_try_a_look(bare, settings):
    incidents.observe(bare.deployment, bare.version, SLOW)
    Notification.objects.update(next_at=clock.now())
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        by_smtp(settings, closed.getsockname()[1])
        assert delivery.deliver_due() == {"sent": 0, "failed": 0, "put_off": 1}
    assert sorted(Notification.objects.values_list("attempts", flat=True)) == [0, 0, 1]
