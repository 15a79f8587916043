"""Channels, deliveries and the bell through the doors people and scripts have."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from standardwebhooks import Webhook

from accounts.models import AuditEvent, Membership
from accounts.roles import Role
from mlops.core import clock
from monitoring import bell, channel_services, delivery, digest_news, incidents, jobs
from monitoring.announcing import News, announce
from monitoring.models import Attempt, BellNotice, Channel, Incident, Notification
from tests.core.test_outbound import say
from tests.monitoring.receiver import receiving
from tests.monitoring.test_channels import FAILING, SLOW, loopback, over  # noqa: F401  a fixture

PATH = "/acme/settings/channels/"
API = "/api/v1/acme/channels"


def new(world: Any, url: str, **more: Any) -> Any:
    fields = {"kind": "webhook", "name": "Ops", "address": url, "events": ["incident.opened"], "least_severity": "info"}
    return world.client("alice").post(PATH, {**fields, **more})


# -- pages ------------------------------------------------------------------------------------------------------------------


def test_a_webhook_is_made_tried_and_read_on_pages(bare, world, loopback, jobs_now):  # noqa: F811
    alice = world.client("alice")
    with receiving(say(200, b"thanks <script>")) as (url, asked):
        answer = new(world, f"{url}/secret-path")
        assert answer.status_code == 201
        secret = re.search(r"whsec_[A-Za-z0-9+/=]+", answer.content.decode())[0]
        channel = Channel.objects.get()
        page = f"{PATH}{channel.pk}/"
        with jobs_now():
            assert alice.post(f"{page}test/")["Location"] == page
    assert Webhook(secret).verify(asked[0][2], asked[0][1])["type"] == "test"
    detail = alice.get(page).content.decode()
    for secret_text in (secret, "secret-path"):
        assert secret_text not in detail
        assert secret_text not in alice.get(PATH).content.decode()
    assert "a test of the channel Ops" in detail
    row = Notification.objects.get(target=channel)
    shown = alice.get(f"/acme/settings/deliveries/{row.pk}/").content.decode()
    assert "thanks &lt;script&gt;" in shown
    assert "&quot;sent_by&quot;: &quot;Alice&quot;" in shown
    assert "Send again" in shown
    assert not Incident.objects.exists()
    assert list(
        AuditEvent.objects.filter(action__startswith="channel.").values_list("action", flat=True).order_by("number")
    ) == [
        "channel.made",
        "channel.tested",
    ]


def test_a_test_that_fails_says_so_is_not_tried_again_and_leaves_the_channel_on(bare, world, loopback, jobs_now, at):  # noqa: F811
    now = at(clock.now())
    with receiving(say(410, b"nobody here")) as (url, asked):
        new(world, url)
        channel = Channel.objects.get()
        with jobs_now():
            world.client("alice").post(f"{PATH}{channel.pk}/test/")
        at(now + timedelta(days=1))
        delivery.deliver_due()
    assert len(asked) == 1
    channel.refresh_from_db()
    assert channel.enabled
    part = world.client("dan").get(f"{PATH}{channel.pk}/", headers={"HX-Request": "true"}).content.decode()
    assert "410" in part
    assert "data-poll" not in part


def test_the_part_is_live_while_a_test_is_under_way(bare, world, loopback):  # noqa: F811
    with receiving() as (url, _):
        new(world, url)
        channel = Channel.objects.get()
        world.client("alice").post(f"{PATH}{channel.pk}/test/")
        part = world.client("dan").get(f"{PATH}{channel.pk}/", headers={"HX-Request": "true"}).content.decode()
    assert 'data-poll="3"' in part
    assert "<h1" not in part


@pytest.mark.parametrize(
    ("given", "field", "words"),
    [
        ({"address": "http://example.com/x"}, "address", "only https is used"),
        ({"address": "https://127.0.0.1/x"}, "address", "not on the public internet"),
        ({"kind": "slack"}, "address", "hooks.slack.com/services"),
        ({"name": ""}, "name", "This field is required"),
        ({"events": []}, "events", "This field is required"),
    ],
)
def test_what_is_wrong_is_said_beside_its_field(world, given, field, words):
    fields = {"address": "https://93.184.216.34/hook", **given}
    answer = new(world, fields.pop("address"), **fields)
    assert answer.status_code == 422
    text = answer.content.decode()
    assert words in text
    assert not Channel.objects.exists()


def test_a_channel_is_changed_switched_off_rotated_and_removed_on_pages(bare, world):
    alice = world.client("alice")
    new(world, "https://93.184.216.34/hook")
    channel = Channel.objects.get()
    page = f"{PATH}{channel.pk}/"
    changes = {"name": "Night", "events": ["incident.resolved"], "least_severity": "critical", "deployments": ["fraud"]}
    assert alice.post(f"{page}settings/", changes)["Location"] == page
    channel.refresh_from_db()
    assert (channel.name, channel.events, channel.least_severity, channel.all_deployments) == (
        "Night",
        ["incident.resolved"],
        "critical",
        False,
    )
    assert channel.address == "https://93.184.216.34/hook"  # not typed: it stays
    alice.post(f"{page}enable/", {"on": "0"})
    assert "Switched off by Alice" in alice.get(page).content.decode()
    alice.post(f"{page}enable/", {"on": "1"})
    first = channel.secrets()
    answer = alice.post(f"{page}rotate/")
    channel.refresh_from_db()
    assert answer.status_code == 201
    assert channel.secrets()[1:] == first
    assert channel.secrets()[0] in answer.content.decode()
    assert world.client("dan").post(f"{page}remove/").status_code == 403
    alice.post(f"{page}remove/")
    assert not Channel.objects.exists()


def test_two_channels_have_two_names_and_a_stranger_sees_none(bare, world):
    new(world, "https://93.184.216.34/hook")
    again = new(world, "https://93.184.216.34/other")
    assert again.status_code == 422
    assert "There is a channel" in again.content.decode()
    page = f"{PATH}{Channel.objects.get().pk}/"
    assert world.client("mallory").get(page).status_code == 404
    assert world.client("vic").get(page).status_code == 403
    assert world.client("dan").get(page).status_code == 200
    assert world.client("dan").post(f"{page}test/").status_code == 403


def test_deliveries_are_filtered_by_the_address_and_exported_try_by_try(bare, world, loopback, at):  # noqa: F811
    now = at(clock.now())
    dan = world.client("dan")
    with receiving(say(500, b"=cmd|calc"), say(200)) as (url, _):
        new(world, url)
        incidents.observe(bare.deployment, bare.version, SLOW)
        at(now + timedelta(minutes=1))
        delivery.deliver_due()
        at(now + timedelta(minutes=2))
        delivery.deliver_due()
    channel = Channel.objects.get()
    for query, shown in (
        ("", True),
        (f"?channel={channel.pk}", True),
        ("?state=sent", True),
        ("?state=failed", False),
        ("?type=test", False),
        ("?range=1d", True),
    ):
        assert ("acme/fraud: slow" in dan.get(f"/acme/settings/deliveries/{query}").content.decode()) is shown, query
    assert dan.get("/acme/settings/deliveries/?state=odd").status_code == 422
    assert dan.get("/acme/settings/deliveries/?channel=1").status_code == 422
    answer = dan.get("/acme/settings/deliveries/export/?state=sent")
    lines = list(csv.DictReader(io.StringIO(b"".join(answer.streaming_content).decode())))
    assert [(each["attempt"], each["outcome"], each["http_status"]) for each in lines] == [
        ("1", "put_off", "500"),
        ("2", "sent", "200"),
    ]
    assert lines[0]["reply"] == "'=cmd|calc"
    assert lines[0]["message_id"] == lines[1]["message_id"]


def test_a_message_is_sent_again_with_the_same_id_once_it_has_ended(bare, world, loopback, jobs_now):  # noqa: F811
    alice = world.client("alice")
    with receiving(say(200), say(503)) as (url, asked):
        new(world, url)
        with jobs_now():
            incidents.observe(bare.deployment, bare.version, SLOW)
        row = Notification.objects.get(target__isnull=False)
        again = f"/acme/settings/deliveries/{row.pk}/again/"
        with jobs_now():
            assert alice.post(again)["Location"] == f"/acme/settings/deliveries/{row.pk}/"
        assert alice.post(again).status_code == 409  # it will be tried again by itself
    assert len(asked) == 2
    assert len({headers["webhook-id"] for _, headers, _ in asked}) == 1
    row.refresh_from_db()
    assert (row.status, row.attempts, row.tries.count()) == ("waiting", 1, 2)
    assert "Tried again later" in alice.get(f"/acme/settings/deliveries/{row.pk}/").content.decode()


def test_old_deliveries_are_forgotten_but_not_those_of_an_open_incident(bare, world, at, loopback):  # noqa: F811
    with receiving() as (url, _):
        new(world, url)
        incident = incidents.observe(bare.deployment, bare.version, SLOW)
        Notification.objects.update(next_at=clock.now())
        delivery.deliver_due()
    now = clock.now()
    at(now + channel_services.KEPT + timedelta(days=1))
    jobs.forget_notices()
    assert Notification.objects.filter(target__isnull=False).count() == 1
    over(incident)
    Notification.objects.filter(type="incident.resolved").delete()
    jobs.forget_notices()
    assert not Notification.objects.filter(target__isnull=False).exists()
    assert not Attempt.objects.exists()


# -- API --------------------------------------------------------------------------------------------------------------------


def test_scripts_make_change_test_and_remove_channels(bare, world, loopback, jobs_now):  # noqa: F811
    alice, dan = world.api("alice"), world.api("dan")
    with receiving() as (url, asked):
        body = {
            "kind": "webhook",
            "name": "Ops",
            "address": f"{url}/x",
            "events": ["incident.opened"],
            "deployments": ["fraud"],
        }
        assert dan.post(API, body, format="json").status_code == 403
        made = alice.post(API, body, format="json")
        assert made.status_code == 201, made.content
        secret, one = made.json()["secret"], f"{API}/{made.json()['id']}"
        assert made.json()["deployments"] == ["fraud"]
        listed = dan.get(API).json()["results"]
        assert (len(listed), "secret" in listed[0], "address" in listed[0]) == (1, False, False)
        with jobs_now():
            sent = alice.post(f"{one}/test")
        assert (sent.status_code, sent.json()["state"]) == (202, "waiting")
        found = dan.get(f"/api/v1/acme/deliveries/{sent.json()['id']}").json()
    assert (found["state"], found["tries"][0]["status"], found["message_id"]) == (
        "sent",
        200,
        asked[0][1]["webhook-id"],
    )
    assert found["body"] == asked[0][2].decode()
    assert Webhook(secret).verify(asked[0][2], asked[0][1])
    rotated = alice.post(f"{one}/rotate", {"overlap_hours": 0}, format="json").json()
    assert rotated["secret"] != secret
    assert Channel.objects.get().secrets() == [rotated["secret"]]
    patched = alice.patch(one, {"enabled": False, "deployments": None, "events": ["digest"]}, format="json").json()
    assert (patched["state"], patched["deployments"], patched["events"]) == ("disabled", None, ["digest"])
    again = alice.post(f"/api/v1/acme/deliveries/{found['id']}/redeliver")
    assert (again.status_code, again.json()["state"]) == (202, "waiting")
    assert [each["id"] for each in dan.get("/api/v1/acme/deliveries?state=waiting&type=test").json()["results"]] == [
        found["id"]
    ]
    assert dan.get("/api/v1/acme/deliveries?range=9y").status_code == 422
    assert alice.delete(one).status_code == 204
    assert world.api("mallory").get(API).status_code == 404


@pytest.mark.parametrize(
    "change",
    [
        {"address": "https://10.0.0.1/"},
        {"kind": "mail"},
        {"events": []},
        {"events": ["odd"]},
        {"least_severity": "bad"},
        {"deployments": ["nothing"]},
        {"name": "a\nb" * 50},
    ],
)
def test_a_script_is_told_which_field_is_wrong(world, change):
    body = {"kind": "webhook", "name": "Ops", "address": "https://93.184.216.34/", **change}
    answer = world.api("alice").post(API, body, format="json")
    assert answer.status_code == 422, answer.content
    assert [*change][0] in json.dumps(answer.json()["errors"])


def test_only_webhooks_have_a_secret_to_rotate(world, monkeypatch):
    import socket

    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [(0, 0, 0, "", ("93.184.216.34", 443))])
    body = {"kind": "ntfy", "name": "Phone", "address": "https://ntfy.sh/topic"}
    made = world.api("alice").post(API, body, format="json").json()
    assert (made["secret"], made["place"]) == ("", "ntfy.sh/to…")
    answer = world.api("alice").post(f"{API}/{made['id']}/rotate")
    assert (answer.status_code, answer.json()["code"]) == (409, "no_secret")


# -- the bell -----------------------------------------------------------------------------------------------------------------


def count_of(world: Any, name: str) -> int:
    text = world.client(name).get("/acme/notifications/count/").content.decode()
    found = re.search(r"(\d+) unread", text)
    assert 'data-poll="60"' in text
    return int(found[1]) if found else 0


def test_an_incident_rings_for_every_member_and_reading_is_each_ones_own(bare, world):
    incident = incidents.observe(bare.deployment, bare.version, SLOW)
    assert [count_of(world, name) for name in ("vic", "dan", "alice")] == [1, 1, 1]
    assert BellNotice.objects.filter(user=world.mallory).count() == 0
    vic = world.client("vic")
    assert "fraud: slow" in vic.get("/acme/notifications/", headers={"HX-Request": "true"}).content.decode()
    notice = BellNotice.objects.get(user=world.vic)
    assert vic.post(f"/acme/notifications/{notice.pk}/")["Location"] == f"/acme/incidents/{incident.pk}/"
    assert [count_of(world, name) for name in ("vic", "dan")] == [0, 1]
    assert world.client("dan").post(f"/acme/notifications/{notice.pk}/")["Location"] == "/acme/notifications/"  # vic's
    world.client("dan").post("/acme/notifications/read/")
    assert [count_of(world, name) for name in ("dan", "alice")] == [0, 1]


def test_one_incident_is_one_line_that_comes_back_with_news_and_with_the_end(bare, world, settings):
    incident = incidents.observe(bare.deployment, bare.version, SLOW)
    world.client("dan").post("/acme/notifications/read/")
    incidents.observe(bare.deployment, bare.version, FAILING)
    assert count_of(world, "dan") == 1
    line = BellNotice.objects.get(user=world.dan)
    assert "40 % fail" in line.title
    assert line.severity == "critical"
    Notification.objects.update(status="sent")
    incident.refresh_from_db()
    world.client("dan").post("/acme/notifications/read/")
    incidents.resolve(incident, world.caller("alice"))
    assert BellNotice.objects.get(user=world.dan).title.startswith("fraud: Over: ")
    assert count_of(world, "dan") == 1


def test_reminders_do_not_ring(bare, world, at):
    now = at(clock.now())
    incidents.observe(bare.deployment, bare.version, SLOW)
    world.client("dan").post("/acme/notifications/read/")
    at(now + incidents.REMIND_AFTER)
    incidents.observe(bare.deployment, bare.version, SLOW)
    assert Incident.objects.get().mails == 2
    assert count_of(world, "dan") == 0


def test_a_line_needs_the_role_its_reader_has_today(bare, world):
    bell.ring(world.acme, "x", title="For developers", needs="channel.view")
    assert [count_of(world, name) for name in ("vic", "dan")] == [0, 1]
    Membership.objects.filter(user=world.dan).update(role=Role.VIEWER)
    assert count_of(world, "dan") == 0
    Membership.objects.filter(user=world.dan).delete()
    assert world.client("dan").get("/acme/notifications/").status_code == 404


def test_lines_are_kept_within_bounds(world, at):
    now = at(clock.now())
    for number in range(bell.KEPT + 3):
        at(now + timedelta(seconds=number))
        bell.ring(world.acme, f"k{number}", title=f"line {number}")
    jobs.forget_notices()
    mine = BellNotice.objects.filter(user=world.vic)
    assert (mine.count(), mine.first().title, mine.last().title) == (bell.KEPT, f"line {bell.KEPT + 2}", "line 3")
    assert count_of(world, "vic") == bell.KEPT
    at(now + bell.KEPT_FOR + timedelta(days=1))
    jobs.forget_notices()
    assert not BellNotice.objects.exists()


def test_other_news_reaches_channels_and_the_bell_once(bare, world):
    channel_services.create(
        world.acme,
        world.caller("alice"),
        kind="webhook",
        name="Ops",
        address="https://93.184.216.34/",
        events=["retraining"],
    )
    news = News(
        type="retraining.proposed", key="retraining:1:proposed", title="fraud: v2 is proposed", text="Look.", data={"version": 2}, path="/acme/", deployment=bare.deployment
    )  # fmt: skip
    for _ in range(2):
        announce(world.acme, news, needs="deployment.write")
    assert Notification.objects.filter(type="retraining.proposed").count() == 1
    assert [count_of(world, name) for name in ("vic", "dan")] == [0, 1]


def test_every_page_carries_the_number_for_one_query(bare, world, django_assert_max_num_queries):
    bell.ring(world.acme, "x", title="News")
    vic = world.caller("vic")
    vic.roles  # noqa: B018  read once
    with django_assert_max_num_queries(1):
        assert bell.unread(vic, world.acme) == 1
    assert ">1</span>" in world.client("vic").get("/acme/").content.decode()


def test_a_deploy_is_news_for_the_channels_that_want_it(bare, world):
    from monitoring import deploy_news

    create = channel_services.create
    create(
        world.acme,
        world.caller("alice"),
        kind="webhook",
        name="Deploys",
        address="https://93.184.216.34/",
        events=["deployment"],
    )
    create(world.acme, world.caller("alice"), kind="webhook", name="Incidents", address="https://93.184.216.34/")
    deploy_news.tell(bare.deployment, bare.version, "deploy")
    row = Notification.objects.get()
    assert (row.recipient, row.type, row.subject) == ("Deploys", "deployment.deploy", "acme/fraud: v1 is live")
    assert (row.payload["by"], row.payload["version"]) == ("test", 1)


def test_the_week_is_told_to_channels_once_whoever_looks(bare, world, at):
    monday = datetime(2026, 11, 23, 7, 0, tzinfo=UTC)
    at(monday - timedelta(days=6))
    made = {"kind": "webhook", "address": "https://93.184.216.34/", "events": ["digest"]}
    channel, _ = channel_services.create(world.acme, world.caller("alice"), name="Weekly", **made)
    bare.requests(120, at=monday - timedelta(days=2))
    at(monday - timedelta(minutes=1))
    assert digest_news.send_due() == 0
    at(monday)
    assert [digest_news.send_due() for _ in range(3)] == [1, 0, 0]
    row = Notification.objects.get(target=channel)
    assert (row.type, row.payload["since"], row.payload["requests"]) == (
        "digest.weekly",
        "2026-11-16T00:00:00+00:00",
        120,
    )
    assert row.subject == "acme: the week to 2026-11-23: All quiet"
    assert "fraud: 120 requests (new)" in row.text
    at(monday + timedelta(days=4))
    channel_services.create(world.acme, world.caller("alice"), name="Late", **made)
    assert digest_news.send_due() == 0


def test_a_channel_of_some_deployments_has_no_digest(bare, world):
    body = {
        "kind": "webhook",
        "name": "x",
        "address": "https://93.184.216.34/",
        "events": ["digest"],
        "deployments": ["fraud"],
    }
    answer = world.api("alice").post(API, body, format="json")
    assert (answer.status_code, [*answer.json()["errors"]]) == (422, ["events"])
