"""Digests: what they say, to whom, once per period; and leaving."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.core import mail
from django.test import Client

from accounts import time_zones
from accounts.models import User
from mlops.core import clock
from mlops.core.errors import Invalid
from monitoring import checks, digest_sending, digest_times, digests, incidents, jobs, links, people, rules
from monitoring.models import DigestSubscription, Notification
from monitoring.quality import feedback, matching, scoring
from monitoring.quality.reading import Entry
from monitoring.rules import Finding, State
from serving.models import PredictionLog

MONDAY = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
LAST_WEEK = datetime(2026, 11, 18, 12, 0, tzinfo=UTC)


@pytest.fixture
def week(scene, world, at):
    """Everybody joined long ago; on Wednesday there was traffic and drift."""
    for user in (world.olga, world.alice, world.dan, world.vic):
        people.subscription(world.acme, user)
    DigestSubscription.objects.update(changed_at=MONDAY - timedelta(days=90))
    at(LAST_WEEK)
    scene.requests(1000, at=LAST_WEEK, refused=40)
    scene.log(scene.rows(900, amount=lambda value: value * 3), LAST_WEEK)
    checks.run(scene.deployment)
    Notification.objects.all().delete()
    at(MONDAY)
    return scene


def test_the_weekly_digest_says_what_drifted_broke_traffic_and_what_to_do(week):
    assert digest_sending.send_due() == 4
    text = Notification.objects.get(recipient="vic@acme.test").text
    assert "WHAT DRIFTED\n- fraud: `amount` moved" in text or "- fraud:" in text.split("WHAT DRIFTED")[1]
    assert "amount" in text.split("WHAT BROKE")[1]
    assert "1,000 requests (new), 4 % errors" in text
    assert "Look at the open incident of fraud" in text
    assert "2026-11-16 to 2026-11-22 (UTC)" in text


def test_it_says_how_good_the_answers_were_where_that_is_known(week, world, at):
    at(LAST_WEEK + timedelta(hours=2))
    batch = week.log(week.rows(400), at=LAST_WEEK)
    rows = PredictionLog.objects.filter(batch=batch)
    given = [Entry(place, row.pk, row.prediction) for place, row in enumerate(rows, 1)]
    feedback.receive(week.deployment, world.caller("dan"), given)
    scoring.count_new()
    matching.count_due()
    at(MONDAY)
    digest_sending.send_due()
    text = Notification.objects.get(recipient="vic@acme.test").text
    assert "HOW GOOD\n- fraud: Accuracy 1.000" in text
    assert "over 400 labelled of" in text
    assert "predictions in the week" in text


def test_a_period_is_never_sent_twice(week, at):
    assert digest_sending.send_due() == 4
    assert digest_sending.send_due() == 0
    at(MONDAY + timedelta(hours=5))
    assert digest_sending.send_due() == 0
    at(MONDAY - timedelta(days=3))  # the clock jumps back
    assert digest_sending.send_due() == 0
    at(MONDAY + timedelta(days=7))
    assert digest_sending.send_due() == 4


def test_two_schedulers_that_both_saw_it_due_write_one(week, world):
    mine = people.subscription(world.acme, world.dan)
    yours = people.subscription(world.acme, world.dan)
    period = digest_times.latest(digest_sending.times_of(mine), MONDAY)
    digest = digests.compose(world.acme, "weekly", period.since, period.until, time_zones.UTC)
    assert digest_sending._write(mine, world.dan, digest, period) == 1
    assert digest_sending._write(yours, world.dan, digest, period) == 0
    assert Notification.objects.filter(recipient="dan@acme.test").count() == 1


def test_before_seven_it_waits(week, at):
    at(MONDAY.replace(hour=6, minute=59))
    DigestSubscription.objects.update(last_period="2026-11-16")
    assert digest_sending.send_due() == 0
    at(MONDAY.replace(hour=7, minute=0))
    assert digest_sending.send_due() == 4


def test_a_quiet_day_sends_nothing_and_a_quiet_week_says_so(scene, world, at):
    subscription = people.subscription(world.acme, world.dan)
    DigestSubscription.objects.update(changed_at=MONDAY - timedelta(days=90), frequency="daily")
    at(MONDAY)
    assert digest_sending.send_due() == 0
    DigestSubscription.objects.update(
        frequency="weekly", last_period="", changed_at=MONDAY - timedelta(days=90), next_at=None
    )
    assert digest_sending.send_due() == 4
    row = Notification.objects.get(recipient="dan@acme.test")
    assert "All quiet" in row.subject
    assert "Nothing drifted and nothing broke" in row.text
    assert subscription.user == world.dan


def test_only_verified_members_at_send_time(week, world):
    world.vic.emailaddress_set.update(verified=False)
    world.alice.memberships.all().delete()
    assert digest_sending.send_due() == 2
    assert not Notification.objects.filter(
        recipient__in=["vic@acme.test", "alice@acme.test", "mallory@globex.test"]
    ).exists()


def test_a_new_member_gets_the_next_whole_period(scene, world, at):
    at(MONDAY)
    assert digest_sending.send_due() == 0
    assert set(DigestSubscription.objects.values_list("changed_at", flat=True)) == {MONDAY}
    at(MONDAY + timedelta(days=7))
    assert digest_sending.send_due() == 4  # globex runs nothing, so Mallory hears nothing


def test_the_recurring_job_sends_them(week):
    jobs.send_digests()
    assert len(mail.outbox) == 4
    assert mail.outbox[0].extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


# -- at whose time ------------------------------------------------------------------------------------------------


def test_each_reader_gets_it_at_the_local_hour(week, world, at):
    User.objects.filter(pk=world.dan.pk).update(time_zone="Asia/Tokyo")
    User.objects.filter(pk=world.vic.pk).update(time_zone="Pacific/Honolulu")
    DigestSubscription.objects.update(last_period="2026-11-16")
    DigestSubscription.objects.filter(user=world.alice).update(hour=9)
    sent = {}
    for hours in range(-24, 24):
        at(MONDAY.replace(minute=0) + timedelta(hours=hours))
        before = set(Notification.objects.values_list("recipient", flat=True))
        digest_sending.send_due()
        for name in set(Notification.objects.values_list("recipient", flat=True)) - before:
            sent[name] = clock.now()
    assert sent["dan@acme.test"] == datetime(2026, 11, 22, 22, 0, tzinfo=UTC)  # Monday 7:00 in Tokyo
    assert sent["vic@acme.test"] == datetime(2026, 11, 23, 17, 0, tzinfo=UTC)
    assert sent["alice@acme.test"] == datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    assert "2026-11-16 to 2026-11-22 (Asia/Tokyo)" in Notification.objects.get(recipient="dan@acme.test").text


def test_a_clock_that_stood_a_year_ahead_silences_nobody(week, at):
    at(MONDAY + timedelta(days=365))
    digest_sending.send_due()
    Notification.objects.all().delete()
    at(MONDAY)
    assert digest_sending.send_due() == 4
    assert digest_sending.send_due() == 0


def test_the_organisation_that_cannot_be_composed_costs_only_itself(week, monkeypatch, world):
    broken = digests.compose

    def compose(organization, *rest):
        if organization == world.globex:
            raise RuntimeError("its rows are damaged")
        return broken(organization, *rest)

    people.subscription(world.globex, world.mallory)
    DigestSubscription.objects.update(changed_at=MONDAY - timedelta(days=90))
    monkeypatch.setattr(digests, "compose", compose)
    assert digest_sending.send_due() == 4
    assert digest_sending.send_due() == 0  # it is put off, not asked for ever


@pytest.mark.parametrize("wrong", [{"hour": 24}, {"hour": -1}, {"weekday": 7}, {"frequency": "hourly"}])
def test_what_cannot_be_chosen_is_refused(world, wrong):
    with pytest.raises(Invalid) as error:
        digest_sending.change_settings(people.subscription(world.acme, world.dan), **wrong)
    assert list(error.value.fields) == list(wrong)


def test_the_page_says_when_the_next_one_comes(world):
    User.objects.filter(pk=world.dan.pk).update(time_zone="Europe/Berlin")
    client = world.client("dan")
    page = client.get("/acme/settings/digest/").content.decode()
    assert "Your time zone is Europe/Berlin" in page
    assert "07:00" in page.split("The next one is due")[1][:60]
    answer = client.post("/acme/settings/digest/", {"frequency": "daily", "hour": "18", "weekday": "4"})
    assert answer.status_code == 302
    kept = people.subscription(world.acme, world.dan)
    assert (kept.frequency, kept.hour, kept.weekday, kept.alerts) == ("daily", 18, 4, False)
    assert client.post("/acme/settings/digest/", {"frequency": "daily", "hour": "25"}).status_code == 422


# -- leaving ------------------------------------------------------------------------------------------------------


@pytest.fixture
def link(world):
    return lambda what: links.unsubscribe("acme", world.acme.pk, world.dan.pk, what).removeprefix("http://testserver")


def test_looking_at_the_link_changes_nothing_and_the_button_does(world, link):
    stranger = Client(enforce_csrf_checks=True)
    page = stranger.get(link("digest"))
    assert page.status_code == 200
    assert b"Unsubscribe" in page.content
    assert people.subscription(world.acme, world.dan).frequency == "weekly"
    assert stranger.post(link("digest")).status_code == 200
    assert people.subscription(world.acme, world.dan).frequency == "never"
    assert b"gets no more digest mails" in stranger.get(link("digest")).content
    stranger.post(link("digest"), {"again": "1"})
    assert people.subscription(world.acme, world.dan).frequency == "weekly"


def test_one_click_of_a_mail_program_needs_no_session(world, link):
    answer = Client(enforce_csrf_checks=True).post(link("alerts"), {"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    subscription = people.subscription(world.acme, world.dan)
    assert (subscription.alerts, subscription.frequency) == (False, "weekly")


def test_the_link_in_the_mail_is_the_one_that_works(bare, world):
    incidents.observe(
        bare.deployment, bare.version, Finding(rules.LATENCY, State.FIRING, title="slow", what="Slow.", todo=("a",))
    )
    header = Notification.objects.get(recipient="dan@acme.test").headers["List-Unsubscribe"]
    Client().post(header.strip("<>").removeprefix("http://testserver"))
    assert not people.subscription(world.acme, world.dan).alerts


def test_a_damaged_or_foreign_link_is_404(world, link):
    assert Client().get(link("digest")[:-3] + "x/").status_code == 404
    assert Client().get(link("digest").replace("/acme/", "/globex/")).status_code == 404
    world.dan.memberships.all().delete()
    assert Client().post(link("digest")).status_code == 404
