"""Chats through apprise: what each service gets; and where no channel, chat or webhook, ever leads."""

from __future__ import annotations

import json
import socket
from datetime import timedelta
from typing import Any

import pytest

from mlops.core import clock, errors
from monitoring import channel_services, delivery, rules
from monitoring.channels import addresses
from monitoring.models import Attempt, Channel, Incident, Notification
from monitoring.rules import Finding, State
from tests.core.test_outbound import say
from tests.monitoring.receiver import Internet, internet, receiving  # noqa: F401  a fixture
from tests.monitoring.test_channels import FAILING, PLACES, loopback, made, mails_aside, opens, over  # noqa: F401  a fixture

# -- chats ----------------------------------------------------------------------------------------------------------------

CALLS_EVERYBODY = Finding(
    rules.LATENCY, State.FIRING, title="`@everyone <!channel>` is slow", what="<at>bob</at> & @here: a < b, <@U1> waits.", todo=("x",)
)  # fmt: skip


@pytest.mark.parametrize("kind", PLACES)
def test_a_chat_gets_the_incident_in_its_own_form_and_nobody_is_called(bare, world, internet: Internet, kind):  # noqa: F811
    channel, secret = made(bare, world, PLACES[kind], kind)
    assert secret == ""
    opens(bare, CALLS_EVERYBODY)
    mails_aside()
    internet.answers[:] = [say({"discord": 204, "pagerduty": 202, "teams": 202}.get(kind, 200), b"ok")]
    assert delivery.deliver_due() == {"sent": 1, "failed": 0, "put_off": 0}
    ((what, headers, body),) = internet.asked
    told = json.loads(body)
    place = addresses.read(kind, PLACES[kind])
    assert headers["Host"] == place.host
    assert internet.looked_up[-1] == place.host
    title, text = _TEXTS[kind](what, headers, told)
    assert title.startswith("acme/fraud:")
    assert "Acknowledge or snooze: http://testserver/acme/incidents/" in text.replace("\\", "")
    for each in ("@everyone", "<!", "<at>", "@here", "<@U1"):
        assert each not in title + text
    assert "Cookie" not in headers
    assert PLACES[kind] not in f"{channel.address_sealed}{channel.place}"


def _slack(what: str, headers: dict[str, str], told: dict[str, Any]) -> tuple[str, str]:
    assert what == "POST /services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    (only,) = told["attachments"]
    return only["title"], only["text"]


def _discord(what: str, headers: dict[str, str], told: dict[str, Any]) -> tuple[str, str]:
    assert what == "POST /api/webhooks/123456789012/abcdefghij_-KLMN"
    assert "avatar_url" not in told
    title, _, text = told["content"].partition("\r\n")
    return title, text


def _teams(what: str, headers: dict[str, str], told: dict[str, Any]) -> tuple[str, str]:
    assert what.startswith("POST /workflows/643e69f83c8944438d68119179a10a64/triggers/manual/paths/invoke?")
    assert "sig=KODuebWbDGYFr0z0eu-_" in what
    title, text = told["attachments"][0]["content"]["body"]
    return title["text"], text["text"]


def _ntfy(what: str, headers: dict[str, str], told: dict[str, Any]) -> tuple[str, str]:
    assert (what, told["topic"]) == ("POST /", "acme_alerts")
    assert "Authorization" not in headers
    return told["title"], told["message"]


def _pagerduty(what: str, headers: dict[str, str], told: dict[str, Any]) -> tuple[str, str]:
    assert what == "POST /v2/enqueue"
    assert (told["routing_key"], told["event_action"]) == (PLACES["pagerduty"], "trigger")
    assert told["dedup_key"] == f"slipway-incident-{Incident.objects.get().pk}"
    assert told["payload"]["severity"] == "warning"
    assert "Authorization" not in headers
    title, _, text = told["payload"]["summary"].partition("\r\n")
    return title, text


_TEXTS = {"slack": _slack, "discord": _discord, "teams": _teams, "ntfy": _ntfy, "pagerduty": _pagerduty}


def test_pagerduty_hears_the_end_of_the_same_incident(bare, world, internet: Internet):  # noqa: F811
    made(bare, world, f"eu:{PLACES['pagerduty']}", "pagerduty")
    internet.answers[:] = [say(202, b"{}")]
    incident = opens(bare, FAILING)
    delivery.deliver_due()
    over(incident)
    delivery.deliver_due()
    begun, ended = (json.loads(body) for _, _, body in internet.asked)
    assert begun["payload"]["severity"] == "critical"
    assert (ended["event_action"], ended["dedup_key"]) == ("resolve", begun["dedup_key"])
    assert internet.hosts() == ["events.eu.pagerduty.com"] * 2


def test_ntfy_on_a_server_of_ones_own_with_a_token(bare, world, loopback):  # noqa: F811
    with receiving() as (url, asked):
        channel, _ = made(bare, world, f"{url}/team", "ntfy", token="tk_secret")
        channel_services.send_test(channel, world.caller("alice"))
        delivery.deliver_due()
    ((what, headers, body),) = asked
    assert (what, json.loads(body)["topic"], headers["Authorization"]) == ("POST /", "team", "Bearer tk_secret")
    assert "tk_secret" not in channel.secret_sealed


@pytest.mark.parametrize(("status", "reply"), [(404, b"no_service"), (410, b"gone"), (429, b"slow down"), (500, b"")])
def test_what_a_chat_answers_is_what_the_attempt_says(bare, world, internet: Internet, status, reply):  # noqa: F811
    made(bare, world, PLACES["slack"], "slack")
    opens(bare)
    mails_aside()
    internet.answers[:] = [say(status, reply, **{"Retry-After": "77"})]
    at = clock.now()
    delivery.deliver_due()
    (attempt,) = Attempt.objects.all()
    assert (attempt.status, attempt.reply) == (status, reply.decode())
    assert Channel.objects.get().enabled is (status != 410)
    if status == 429:
        assert Notification.objects.get().next_at >= at + timedelta(seconds=77)
    assert len(internet.asked) == 1


# -- where nothing is sent ----------------------------------------------------------------------------------------------------

REFUSED = [
    "10.1.2.3", "172.16.0.1", "192.168.1.1", "127.0.0.1", "0.0.0.0", "169.254.169.254", "100.64.0.1", "100.127.255.254", "224.0.0.1",
    "239.255.255.255", "255.255.255.255", "192.0.0.8", "198.18.0.1", "fe80::1", "fc00::1", "ff02::1", "::1", "::", "::ffff:10.0.0.1",
    "::10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::a00:1", "2002:a00:1::", "2001::1", "2001:db8::1",
]  # fmt: skip


@pytest.mark.parametrize("address", REFUSED)
@pytest.mark.parametrize("kind", ["webhook", "slack", "ntfy"])
def test_no_channel_leads_to_an_address_that_is_not_public(bare, world, monkeypatch, address, kind):
    """Neither when it is made, nor when its name leads there afterwards."""
    found = ["93.184.216.34"]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", (each, 443)) for each in found])
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("a connection was made"))
    url = {"webhook": "https://hooks.example.test/x", "ntfy": "https://ntfy.example.test/topic", **PLACES}[kind]
    if kind != "slack":
        host = f"[{address}]" if ":" in address else address
        with pytest.raises(errors.Invalid) as raised:
            made(bare, world, f"https://{host}/topic", kind)
        assert raised.value.fields
    channel, _ = made(bare, world, url, kind)
    found[:] = ["93.184.216.34", address]
    with pytest.raises(errors.Invalid) as raised:
        made(bare, world, url, kind, name="another")
    assert raised.value.code == "address_refused"
    channel_services.send_test(channel, world.caller("alice"))
    assert delivery.deliver_due()["failed"] == 1
    assert "not on the public internet" in Attempt.objects.get().error


@pytest.mark.parametrize("kind", ["webhook", "ntfy", "slack"])
def test_a_name_that_changes_its_mind_between_check_and_connection_changes_nothing(bare, world, monkeypatch, kind):
    """What was checked is what is connected to; the second answer is never asked for."""
    answers = ["93.184.216.34"]
    looked_up: list[str] = []
    connected: list[str] = []

    def look_up(host: str, *_: Any, **__: Any) -> list[Any]:
        looked_up.append(host)
        return [(0, 0, 0, "", (answers[0], 443))]

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> Any:
        answers[0] = "127.0.0.1"
        connected.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(socket, "create_connection", connect)
    url = {"webhook": "https://hooks.example.test/x", "ntfy": "https://ntfy.example.test/topic", **PLACES}[kind]
    channel, _ = made(bare, world, url, kind)
    looked_up.clear()
    channel_services.send_test(channel, world.caller("alice"))
    delivery.deliver_due()
    assert (len(looked_up), connected) == (1, ["93.184.216.34"])


@pytest.mark.parametrize("kind", ["webhook", "slack", "ntfy", "discord", "teams", "pagerduty"])
def test_no_channel_follows_a_redirect(bare, world, internet: Internet, kind):  # noqa: F811
    with receiving() as (elsewhere, never):
        internet.answers[:] = [say(302, Location=f"{elsewhere}/")]
        url = {**PLACES, "webhook": "https://hooks.slack.com/hook"}[kind]
        channel, _ = made(bare, world, url, kind)
        channel_services.send_test(channel, world.caller("alice"))
        assert delivery.deliver_due()["failed"] == 1
    assert (len(internet.asked), never) == (1, [])
    assert "sends us elsewhere" in Attempt.objects.get().error


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("slack", "file:///etc/passwd"), ("slack", "json://localhost"), ("slack", "slack://T/B/X"), ("slack", "https://hooks.slack.com.evil.test/services/T/B/X"),
        ("slack", "https://hooks.slack.com/services/T1/B1/X1?template=file:///etc/passwd"), ("slack", "https://hooks.slack.com@evil.test/services/T/B/X"),
        ("discord", "https://discord.com/api/webhooks/123456789012/abcdefghij?template=/etc/passwd"), ("discord", "https://evil.test/api/webhooks/123456789012/abcdefghij"),
        ("discord", "discord://123456789012/abcdefghij"), ("teams", "https://evil.test/workflows/a/triggers/manual/paths/invoke?sig=abcdefghijkl"),
        ("teams", "https://logic.azure.com.evil.test/workflows/a/triggers/manual/paths/invoke?sig=abcdefghijkl"), ("teams", "workflows://host/a/b"),
        ("ntfy", "https://ntfy.sh/topic?attach=file:///etc/passwd"), ("ntfy", "ntfys://ntfy.sh/topic"), ("ntfy", "https://ntfy.sh/"), ("ntfy", "https://ntfy.sh/a/b"),
        ("ntfy", "http://ntfy.sh/topic"), ("pagerduty", "pagerduty://key@api"), ("pagerduty", "x" * 31), ("webhook", "exec://ls"), ("webhook", "http://example.com/"),
        ("webhook", "https://user:pass@example.com/"), ("webhook", "config+https://example.com"), ("webhook", "file:///etc/passwd"), ("webhook", ""),
    ],
)  # fmt: skip
def test_only_the_services_own_addresses_are_taken(bare, world, kind, address):
    with pytest.raises(errors.Invalid) as raised:
        made(bare, world, address, kind)
    assert raised.value.hint or raised.value.fields
    assert not Channel.objects.exists()


def test_the_process_that_makes_messages_can_send_nowhere_else(bare, world, internet: Internet, monkeypatch):  # noqa: F811
    """Were apprise (or what it is given) to ask for another host, the request would end here."""
    from dataclasses import replace

    from monitoring.channels import chat

    monkeypatch.setattr(
        chat, "read", lambda kind, address: replace(addresses.read(kind, address), host="hooks.example.test")
    )
    channel, _ = made(bare, world, PLACES["slack"], "slack")
    channel_services.send_test(channel, world.caller("alice"))
    assert delivery.deliver_due()["failed"] == 1
    assert internet.asked == []
    assert "may go nowhere else" in Attempt.objects.get().error


def test_a_message_that_is_not_made_in_time_is_put_off_and_its_process_is_gone(bare, world, loopback, monkeypatch):  # noqa: F811
    from monitoring.channels import chat

    monkeypatch.setattr(chat, "CHILD_S", 0.01)
    with receiving() as (url, asked):
        made(bare, world, f"{url}/topic", "ntfy")
        opens(bare)
        mails_aside()
        assert delivery.deliver_due() == {"sent": 0, "failed": 0, "put_off": 1}
    assert asked == []
    assert "could not be made in time" in Notification.objects.get().error
