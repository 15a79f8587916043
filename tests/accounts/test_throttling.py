"""Limits are exact over all processes, slide, and tell the caller which one refused and when to come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.db import DatabaseError, connection, connections
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from accounts import buckets, throttling
from accounts.caller import Caller
from accounts.models import ApiKey, Organization, RateBucket, User
from mlops.core import errors
from tests.runner_host import wait_until

ME = "/api/v1/auth/me"


class Clock:
    """Both clocks of ``accounts.throttling``, moved by hand."""

    def __init__(self, monkeypatch):
        self.now_s = 1_800_000_000.0
        monkeypatch.setattr(buckets.time, "time_ns", lambda: int(self.now_s * 1e9))
        monkeypatch.setattr(throttling.time, "monotonic", lambda: self.now_s)


@pytest.fixture
def at(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture(autouse=True)
def _no_thread(monkeypatch):
    """Leases are topped up where a test says so."""
    monkeypatch.setattr(throttling, "_top_up_later", lambda lease: None)


def admitted(times, limit=20, key="k"):
    return sum(throttling.take(key, limit).allowed for _ in range(times))


# --- Exact over workers ------------------------------------------------------------------------------------------------------
def test_two_hundred_calls_at_once_against_a_limit_of_twenty_admit_exactly_twenty(file_db):
    start = threading.Barrier(16)

    def call(number):
        if number < 16:
            start.wait()
        try:
            return throttling.take("parallel", 20).allowed
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(call, range(200)))
    assert sum(results) == 20
    assert RateBucket.objects.get(pk="parallel").used == 20


# --- The window ----------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_limit_comes_back_slowly_not_at_a_stroke(at):
    assert admitted(30) == 20
    at.now_s += 59
    assert admitted(30) == 0
    at.now_s += 1 + 30  # half of the full minute still lies in the last sixty seconds
    assert admitted(30) == 10
    at.now_s += 120
    assert admitted(30) == 20


@pytest.mark.django_db
def test_no_minute_admits_more_than_the_limit(at):
    taken_at = []
    for _ in range(1200):  # a call every 0.25 s for five minutes
        if throttling.take("steady", 20).allowed:
            taken_at.append(at.now_s)
        at.now_s += 0.25
    worst = max(sum(start <= each < start + 60 for each in taken_at) for start in taken_at)
    assert worst <= 20 * 1.25  # the weighted window takes the calls of the minute before as evenly spread
    assert 80 <= len(taken_at) <= 120


@pytest.mark.django_db
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(pauses=st.lists(st.sampled_from([0.0, 0.01, 0.5, 3, 7, 20, 45, 59, 61, 118, 200]), min_size=30, max_size=90))
def test_what_it_admits_a_token_bucket_of_the_same_size_admits_too(at, pauses):
    limit, tokens, last = 10, 10.0, at.now_s
    RateBucket.objects.all().delete()
    for pause_s in pauses:
        at.now_s += pause_s
        tokens = min(limit, tokens + (at.now_s - last) * limit / 60)
        last = at.now_s
        if throttling.take("k", limit).allowed:
            tokens -= 1
            assert tokens > -0.01  # the clock of the bucket counts whole milliseconds


@pytest.mark.django_db
def test_coming_back_when_told_is_coming_back_in_time(at):
    admitted(20)
    at.now_s += 10
    refused = throttling.take("k", 20)
    assert not refused.allowed
    at.now_s += refused.reset_s
    assert throttling.take("k", 20).allowed


@pytest.mark.django_db
def test_what_is_left_is_told(at):
    assert throttling.take("k", 20).headers == {
        "RateLimit-Limit": "20",
        "RateLimit-Remaining": "19",
        "RateLimit-Reset": "60",
    }
    at.now_s += 15
    assert throttling.take("k", 20, cost=9).headers == {
        "RateLimit-Limit": "20",
        "RateLimit-Remaining": "10",
        "RateLimit-Reset": "45",
    }


@pytest.mark.django_db
def test_taking_is_one_statement(django_assert_num_queries):
    with django_assert_num_queries(1):
        throttling.take("k", 20)
    with django_assert_num_queries(1):
        throttling.take("k", 20)


# --- Several at once ---------------------------------------------------------------------------------------------------------
def wanted(**limits):
    return [buckets.Want(key, limit) for key, limit in limits.items()]


@pytest.mark.django_db
def test_what_one_bucket_refuses_is_taken_from_none():
    buckets.take_all(wanted(a=5, b=1))
    taken = buckets.take_all(wanted(a=5, b=1, c=5))
    assert [each.allowed for each in taken] == [True, False, True]
    assert dict(RateBucket.objects.filter(key__in="abc").values_list("key", "used")) == {"a": 1, "b": 1}


@pytest.mark.django_db
def test_each_bucket_of_several_tells_its_own(at):
    taken = buckets.take_all([buckets.Want("a", 100, 10), buckets.Want("b", 20, 2)])
    assert [(each.limit, each.remaining, each.left_ms) for each in taken] == [(100, 90, 60_000), (20, 18, 60_000)]


def test_buckets_shared_by_many_callers_never_wait_for_each_other_in_a_circle(file_db):
    def call(number):
        try:
            return all(
                each.allowed for each in buckets.take_all(wanted(**{f"key{number % 4}": 50, "all": 30, "one": 40}))
            )
        finally:
            connections["default"].close()

    with ThreadPoolExecutor(12) as pool:
        assert sum(pool.map(call, range(120))) == 30
    used = dict(RateBucket.objects.values_list("key", "used"))
    assert (used["all"], used["one"]) == (30, 30)
    assert sum(used[f"key{number}"] for number in range(4)) == 30


# --- The API ---------------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_too_many_calls_are_refused_with_the_time_to_wait(world, settings):
    settings.API_RATE = 3
    client, other = world.api("dan"), world.api("dan")
    answers = [client.get(ME) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert [each["RateLimit-Remaining"] for each in answers] == ["2", "1", "0", "0"]
    refused = answers[3]
    assert refused.json()["code"] == "rate_limited"
    assert refused.json()["hint"]
    assert 1 <= int(refused["Retry-After"]) <= 120
    assert other.get(ME).status_code == 200  # each key has its own


@pytest.mark.django_db
def test_the_address_behind_our_proxy_counts_and_a_made_up_one_does_not(settings):
    settings.AUTH_RATE = 1
    client = APIClient()

    def knock(forwarded):
        return client.post("/api/v1/auth/login", {}, format="json", HTTP_X_FORWARDED_FOR=forwarded).status_code

    assert [knock("198.51.100.1"), knock("198.51.100.2")] == [422, 429]
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "NUM_PROXIES": 1}
    assert [knock("10.9.9.9, 198.51.100.1"), knock("10.8.8.8, 198.51.100.1"), knock("198.51.100.2")] == [422, 429, 422]


# --- Predictions -----------------------------------------------------------------------------------------------------------------
@dataclass
class Deployment:
    """What the limits see of a route table."""

    organization_id: int = 7
    deployment_id: int = 9
    calls_per_minute: int | None = None


def outcome(caller, table=None):
    try:
        throttling.predict_allowed(caller, table)
    except errors.RateLimited:
        return False
    return True


def key_caller(prefix="abcdefgh", key=None, organization=None):
    row = Organization(pk=7, slug="acme", calls_per_minute=organization)
    return Caller(key=ApiKey(prefix=prefix, organization=row, calls_per_minute=key))


@pytest.fixture
def caller():
    return Caller(user=User(pk=7))


@pytest.mark.django_db
def test_predictions_are_admitted_from_memory_and_the_limit_still_holds(
    at, settings, caller, django_assert_max_num_queries
):
    settings.PREDICT_RATE = 1000
    with django_assert_max_num_queries(110):  # 100 leases of 10, then refusals
        assert sum(outcome(caller) for _ in range(1500)) == 1000


@pytest.mark.django_db
def test_a_small_prediction_limit_is_exact(at, settings, caller):
    settings.PREDICT_RATE = 20
    assert sum(outcome(caller) for _ in range(50)) == 20


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("whose", "limits"),
    [
        ("API key", {"key": 20}),
        ("organisation", {"organization": 20}),
        ("deployment", {"deployment": 20}),
        ("API key", {"key": 20, "organization": 30, "deployment": 40}),
        ("organisation", {"key": 40, "organization": 20, "deployment": 30}),
        ("deployment", {"key": 30, "organization": 40, "deployment": 20}),
    ],
)
def test_the_tightest_limit_refuses_and_is_named(at, whose, limits):
    table = Deployment(calls_per_minute=limits.pop("deployment", None))
    caller = key_caller(**limits)
    headers = [throttling.predict_allowed(caller, table) for _ in range(20)]
    assert [each["RateLimit-Remaining"] for each in headers] == [str(left) for left in range(19, -1, -1)]
    assert {each["RateLimit-Limit"] for each in headers} == {"20"}
    with pytest.raises(errors.RateLimited) as refused:
        throttling.predict_allowed(caller, table)
    assert refused.value.detail == f"More than 20 predictions a minute for this {whose}."
    assert refused.value.headers["RateLimit-Limit"] == "20"
    assert refused.value.headers["RateLimit-Policy"].startswith("20;w=60;comment=")
    assert set(RateBucket.objects.filter(key__contains=" key:").values_list("used", flat=True)) <= {20, 600}


@pytest.mark.django_db
def test_a_refusal_costs_the_other_limits_nothing(at):
    table = Deployment(calls_per_minute=5)
    for _ in range(50):
        outcome(key_caller(key=100, organization=100), table)
        at.now_s += 0.5
    mine = RateBucket.objects.exclude(key__contains="60000/min")  # a thread may have topped up another test's lease
    assert dict(mine.values_list("key", "used")) == {
        "predict key:abcdefgh 100/min": 5,
        "predict organization:7 100/min": 5,
        "predict deployment:9 5/min": 5,
    }
    other = Deployment(deployment_id=10)
    assert sum(outcome(key_caller(key=100, organization=100), other) for _ in range(200)) == 95


@pytest.mark.django_db
def test_an_organisations_limit_counts_all_its_keys_and_people(at, world):
    Organization.objects.filter(pk=world.acme.pk).update(calls_per_minute=20)
    world.acme.refresh_from_db()
    keys = [Caller(key=ApiKey(prefix=f"prefix0{n}", organization=world.acme)) for n in range(3)]
    callers = [*keys, world.caller("dan")]
    table = Deployment(organization_id=world.acme.pk)
    assert sum(outcome(callers[number % 4], table) for number in range(60)) == 20
    assert outcome(world.caller("mallory"), Deployment(organization_id=world.globex.pk, deployment_id=10))


@pytest.mark.django_db
def test_a_deployments_limit_is_its_own(at):
    caller = key_caller()
    assert sum(outcome(caller, Deployment(calls_per_minute=20)) for _ in range(30)) == 20
    assert sum(outcome(caller, Deployment(deployment_id=10)) for _ in range(30)) == 30


@pytest.mark.django_db
def test_a_changed_limit_holds_at_once_whatever_leases_of_the_old_one_still_have(at):
    caller = key_caller()
    assert outcome(caller, Deployment(calls_per_minute=60_000))
    assert sum(outcome(caller, Deployment(calls_per_minute=20)) for _ in range(50)) == 20
    assert outcome(caller, Deployment(calls_per_minute=50_000))


@pytest.mark.django_db
def test_processes_share_the_prediction_limit(at, settings, caller, monkeypatch):
    settings.PREDICT_RATE = 1000
    mine, theirs, total = {}, {}, 0
    for number in range(3000):
        monkeypatch.setattr(throttling, "_leases", mine if number % 2 else theirs)
        total += outcome(caller)
    assert 980 <= total <= 1000


@pytest.mark.django_db
def test_a_lease_ends_with_the_window_it_was_taken_from(at, settings, caller, django_assert_num_queries):
    settings.PREDICT_RATE = 1000
    throttling.predict_allowed(caller)
    at.now_s += 59
    with django_assert_num_queries(0):
        throttling.predict_allowed(caller)
    at.now_s += 1
    with django_assert_num_queries(1):
        throttling.predict_allowed(caller)


@pytest.mark.django_db
def test_a_refused_caller_does_not_keep_the_database_busy(at, settings, caller, django_assert_num_queries):
    settings.PREDICT_RATE = 1
    assert [outcome(caller), outcome(caller)] == [True, False]
    with django_assert_num_queries(0):
        assert not outcome(caller)
    at.now_s += 200
    assert outcome(caller)


@pytest.mark.django_db
def test_predictions_go_on_while_the_database_is_away_and_it_is_asked_once_a_second(at, caller, monkeypatch):
    asked = []

    def away(*args):
        asked.append(args)
        raise DatabaseError("gone")

    monkeypatch.setattr(throttling.buckets, "take_all", away)
    assert [throttling.predict_allowed(caller) for _ in range(5)] == [{}] * 5
    assert len(asked) == 1
    at.now_s += 1.1
    assert throttling.predict_allowed(caller) == {}
    assert len(asked) == 2


@pytest.mark.django_db
def test_a_refused_prediction_tells_when_to_come_back(at, settings, caller):
    settings.PREDICT_RATE = 1
    assert throttling.predict_allowed(caller)["RateLimit-Limit"] == "1"
    with pytest.raises(errors.RateLimited) as refused:
        throttling.predict_allowed(caller)
    assert refused.value.retry_after_s >= 1
    assert refused.value.headers["RateLimit-Remaining"] == "0"


# --- Without waiting -------------------------------------------------------------------------------------------------------------
@pytest.mark.django_db
def test_the_peek_admits_from_memory_only(at, django_assert_num_queries):
    caller, table = key_caller(key=1000), Deployment(calls_per_minute=2000)
    with django_assert_num_queries(0):
        assert throttling.predict_lease(caller, table) is None
    throttling.predict_allowed(
        caller, table
    )  # ten of the key's, six thousand of the organisation's, twenty of the deployment's
    with django_assert_num_queries(0):
        admitted = [throttling.predict_lease(caller, table) for _ in range(12)]
    assert [each is not None for each in admitted] == [True] * 9 + [False] * 3
    assert admitted[8]["RateLimit-Remaining"] == "990"


@pytest.mark.django_db
def test_the_peek_refuses_what_was_just_refused_and_knows_no_people(at, caller):
    one = key_caller(key=1)
    table = Deployment()
    assert throttling.predict_lease(caller, table) is None
    assert [outcome(one, table), outcome(one, table)] == [True, False]
    with pytest.raises(errors.RateLimited):
        throttling.predict_lease(one, table)
    at.now_s += 1.1
    assert throttling.predict_lease(one, table) is None


@pytest.mark.django_db
def test_a_half_used_lease_is_topped_up_and_the_limit_still_holds(at, monkeypatch):
    monkeypatch.setattr(throttling, "_top_up_later", lambda lease: due.append(lease))
    caller, table, due, total = key_caller(key=1000), Deployment(), [], 0
    throttling.predict_allowed(caller, table)
    total += 1
    for _ in range(2000):
        total += throttling.predict_lease(caller, table) is not None
        if due:
            throttling._top_up(due.pop())
    assert total == 1000


def test_a_thread_tops_leases_up(file_db, monkeypatch):
    monkeypatch.undo()
    caller, table = key_caller(key=10_000), Deployment()
    throttling.predict_allowed(caller, table)
    for _ in range(60):
        throttling.predict_lease(caller, table)
    wait_until(lambda: RateBucket.objects.get(pk="predict key:abcdefgh 10000/min").used == 200, 10)
    wait_until(lambda: throttling._leases["key", "key:abcdefgh"].left == 200 - 61, 10)


# --- Two hundred calls, two processes, twenty allowed ------------------------------------------------------------------------------
PROCESS = """
import django, json, sys
django.setup()
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from django.db import connection
from accounts import throttling
from accounts.caller import Caller
from accounts.models import ApiKey
from mlops.core import errors

def call(job):
    key, table = job
    try:
        throttling.predict_allowed(Caller(key=key), table)
        return True
    except errors.RateLimited:
        return False
    finally:
        connection.close()

print("ready", flush=True)
for line in sys.stdin:
    asked = json.loads(line)
    keys = list(ApiKey.objects.select_related("organization").filter(prefix__in=asked["prefixes"]))
    table = SimpleNamespace(**asked["table"])
    with ThreadPoolExecutor(8) as pool:
        print(sum(pool.map(call, [(keys[number % len(keys)], table) for number in range(100)])), flush=True)
"""


def database_url():
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:////{str(values['NAME']).lstrip('/')}"
    query = "&".join(f"{name}={value}" for name, value in values["OPTIONS"].items())
    return (
        f"postgresql://{values['USER']}:{values['PASSWORD']}@{values['HOST']}:{values['PORT']}/{values['NAME']}?{query}"
    )


@pytest.fixture
def two_processes(file_db):
    environment = {**os.environ, "DATABASE_URL": database_url(), "DJANGO_SETTINGS_MODULE": "mlops.settings"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS],
            env=environment,
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    assert [each.stdout.readline() for each in processes] == ["ready\n"] * 2

    def admitted(**asked):
        for each in processes:
            each.stdin.write(json.dumps(asked) + "\n")
            each.stdin.flush()
        return [int(each.stdout.readline()) for each in processes]

    yield admitted
    for each in processes:
        each.stdin.close()
        assert each.wait(20) == 0


def test_two_processes_admit_exactly_twenty_for_a_key_an_organisation_or_a_deployment(two_processes):
    from tests.world import World

    world = World()
    free = {"organization_id": world.acme.pk, "deployment_id": 1, "calls_per_minute": None}
    prefixes = [world.key("dan").split("_")[2] for _ in range(6)]
    ApiKey.objects.filter(prefix=prefixes[0]).update(calls_per_minute=20)
    by_key = two_processes(prefixes=prefixes[:1], table=free)
    by_deployment = two_processes(prefixes=prefixes[1:3], table={**free, "deployment_id": 2, "calls_per_minute": 20})
    Organization.objects.filter(pk=world.acme.pk).update(calls_per_minute=20)
    by_organization = two_processes(prefixes=prefixes[3:], table=free)
    assert (sum(by_key), sum(by_deployment), sum(by_organization)) == (20, 20, 20), (by_key, by_deployment)
