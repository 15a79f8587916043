"""Limits are exact over all workers, slide, and tell the caller when to come back."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import DatabaseError, connections
from rest_framework.test import APIClient

from accounts import buckets, throttling
from accounts.caller import Caller
from accounts.models import RateBucket, User
from mlops.core import errors

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
def outcome(caller):
    try:
        throttling.predict_allowed(caller)
    except errors.RateLimited:
        return False
    return True


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
def test_processes_share_the_prediction_limit(at, settings, caller, monkeypatch):
    settings.PREDICT_RATE = 1000
    mine, theirs, total = {}, {}, 0
    for number in range(3000):
        monkeypatch.setattr(throttling, "_leases", mine if number % 2 else theirs)
        total += outcome(caller)
    assert 980 <= total <= 1000


@pytest.mark.django_db
def test_an_unused_lease_lapses(at, settings, caller, django_assert_num_queries):
    settings.PREDICT_RATE = 1000
    throttling.predict_allowed(caller)
    with django_assert_num_queries(0):
        throttling.predict_allowed(caller)
    at.now_s += 60
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
def test_predictions_go_on_while_the_database_is_away(caller, monkeypatch):
    def away(*args):
        raise DatabaseError("gone")

    monkeypatch.setattr(throttling.buckets, "take_all", away)
    assert throttling.predict_allowed(caller) == {}


@pytest.mark.django_db
def test_a_refused_prediction_tells_when_to_come_back(at, settings, caller):
    settings.PREDICT_RATE = 1
    assert throttling.predict_allowed(caller)["RateLimit-Limit"] == "1"
    with pytest.raises(errors.RateLimited) as refused:
        throttling.predict_allowed(caller)
    assert refused.value.retry_after_s >= 1
    assert refused.value.headers["RateLimit-Remaining"] == "0"
