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


@pytest.mark.parametrize(
    ("value", "below", "greatest", "state"),
    [
        (0.89, True, 1.0, State.FIRING),
        (0.91, True, 1.0, State.HOLD),
        (0.92, True, 1.0, State.CALM),  # a fifth of the way from the limit to the end
        (0.89, True, None, State.FIRING),
        (1.07, True, None, State.HOLD),
        (1.08, True, None, State.CALM),
        (0.9, False, 1.0, State.HOLD),  # at the limit is not beyond it
        (0.95, False, 1.0, State.FIRING),
        (0.87, False, 1.0, State.CALM),
    ],
)
def test_a_limit_from_below_and_near_the_end_has_its_two_marks_too(value, below, greatest, state):
    assert rules.state_of(value, 0.9, below=below, greatest=greatest) is state


def test_flapping_begins_above_one_mark_and_ends_below_another():
    alternating = [0, 1] * 11
    assert rules.flaps(alternating, was=False)
    assert not rules.flaps([0] * 10 + [0, 1] * 5 + [0], was=False)  # ten of twenty: not more than half
    assert rules.flaps([0] * 10 + [0, 1] * 5 + [0], was=True)  # and not less than a quarter
    assert rules.flaps([0] * 15 + [1, 0, 1, 0, 1, 0], was=True)
    assert not rules.flaps([0] * 17 + [1, 0, 1, 0], was=True)  # four of twenty
    assert not rules.flaps([1, 0, 1], was=False)  # a few states say too little


@pytest.mark.parametrize(
    ("value", "than", "below", "greatest", "is_worse"),
    [
        (0.44, 0.3, False, None, False),
        (0.45, 0.3, False, None, True),
        (0.85, 0.8, False, 1.0, False),
        (0.9, 0.8, False, 1.0, True),  # 1.2 it can never be
        (1.0, 1.0, False, 1.0, False),  # as bad as it gets is no worse
        (0.7, 0.9, True, 1.0, False),
        (0.6, 0.9, True, 1.0, True),
        (0.0, 0.0, True, None, False),
    ],
)
def test_worse_is_a_factor_or_half_of_the_way_that_is_left(value, than, below, greatest, is_worse):
    assert rules.worse(value, than, 1.5, below=below, greatest=greatest) is is_worse
