"""Rules are numbers in, a finding out: two limits, a minimum, and words."""

from __future__ import annotations

import pytest

from monitoring import rules
from monitoring.rules import Limits, Seen, State

ERRORS = Limits(threshold=0.05, minimum_rows=20, window_minutes=15)
LATENCY = Limits(threshold=2.0, minimum_rows=50, window_minutes=15)


@pytest.mark.parametrize(
    ("requests", "errors", "state"),
    [
        (19, 19, State.UNKNOWN),
        (100, 0, State.CALM),
        (100, 4, State.CALM),
        (1000, 45, State.HOLD),
        (100, 5, State.HOLD),
        (100, 6, State.FIRING),
        (20, 2, State.HOLD),
        (20, 20, State.FIRING),
    ],
)
def test_error_rate_has_two_limits_and_a_minimum(requests, errors, state):
    assert rules.error_rate(Seen(requests, 0, errors, 3.0), ERRORS).state is state


def test_error_rate_says_whose_errors_they_are():
    ours = rules.error_rate(Seen(100, 2, 30, 3.0), ERRORS)
    theirs = rules.error_rate(Seen(100, 30, 2, 3.0), ERRORS)
    assert "inside the model" in ours.why
    assert "a caller may have changed its input" in theirs.why
    assert "32 % of requests failed" in ours.what
    assert ours.value == pytest.approx(0.32)


@pytest.mark.parametrize(
    ("p95_ms", "baseline_ms", "state"),
    [
        (300.0, 100.0, State.FIRING),
        (190.0, 100.0, State.HOLD),
        (150.0, 100.0, State.CALM),
        (8.0, 2.0, State.CALM),  # four times as slow, and nobody would notice
        (60.0, 2.0, State.FIRING),
        (60.0, None, State.UNKNOWN),
        (None, 2.0, State.UNKNOWN),
    ],
)
def test_latency_must_be_worse_by_a_factor_and_by_milliseconds(p95_ms, baseline_ms, state):
    assert rules.latency(Seen(100, 0, 0, p95_ms), baseline_ms, LATENCY).state is state


def test_latency_needs_requests():
    assert rules.latency(Seen(49, 0, 0, 900.0), 10.0, LATENCY).state is State.UNKNOWN


def test_no_traffic_fires_after_its_hours_and_is_calm_with_the_first_request():
    limits = Limits(24.0, 1, 1440)
    assert rules.no_traffic(25.0, limits, None).state is State.FIRING
    assert rules.no_traffic(0.1, limits, None).state is State.CALM
