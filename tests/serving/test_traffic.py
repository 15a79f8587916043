"""Counting: percentiles of merged histograms, buckets to charts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mlops.core import clock, errors
from serving import periods, traffic


def _counts(*latencies_ms: float, status: int = 200) -> traffic.Counts:
    counts = traffic.Counts()
    for latency_ms in latencies_ms:
        counts.add(status, 1, latency_ms)
    return counts


def test_percentiles_are_right_within_a_bin() -> None:
    counts = _counts(*[float(value) for value in range(1, 1001)])
    for share, true in ((0.5, 500), (0.95, 950), (0.99, 990)):
        assert counts.latency_ms(share) == pytest.approx(true, rel=0.1)


def test_histograms_add_up() -> None:
    left, right = _counts(1.0, 2.0), _counts(3.0, 400.0)
    assert traffic.merged([left.latency, right.latency, []]) == _counts(1.0, 2.0, 3.0, 400.0).latency


def test_nothing_counted_has_no_percentile() -> None:
    assert traffic.percentile([], 0.5) is None
    assert _counts(1.0, status=422).p95_ms is None


def test_the_slowest_and_the_quickest_find_a_bin() -> None:
    counts = _counts(0.0, 10_000_000.0)
    assert sum(counts.latency) == 2
    assert counts.p99_ms is not None


def test_errors_are_told_apart_and_do_not_flatter_the_latency() -> None:
    counts = _counts(100.0)
    for status in (404, 422, 500, 504):
        counts.add(status, 0, 0.1)
    assert (counts.requests, counts.client_errors, counts.server_errors, counts.rows) == (5, 2, 2, 1)
    assert counts.p50_ms == pytest.approx(100, rel=0.2)


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("90s", timedelta(seconds=90)),
        ("30m", timedelta(minutes=30)),
        ("24h", timedelta(hours=24)),
        ("7d", timedelta(days=7)),
    ],
)
def test_since_as_people_write_it(text: str, span: timedelta) -> None:
    assert periods.parse_since(text) == pytest.approx(clock.now() - span, abs=timedelta(seconds=5))


def test_since_as_a_time_and_never_longer_than_a_year() -> None:
    assert periods.parse_since("2026-11-21T09:30:00+00:00").isoformat() == "2026-11-21T09:30:00+00:00"
    assert periods.parse_since("2026-11-21T09:30:00Z").isoformat() == "2026-11-21T09:30:00+00:00"
    assert periods.parse_since("99999d") >= clock.now() - periods.LONGEST - timedelta(seconds=5)


@pytest.mark.parametrize("text", ["", "yesterday", "24", "h", "-3h", "2026-13-45T00:00:00Z"])
def test_since_that_is_not_understood_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(errors.Invalid) as refused:
        periods.parse_since(text)
    assert "24h" in refused.value.hint


def test_a_chart_has_at_most_its_points() -> None:
    step_s = traffic.step_for(clock.now() - timedelta(days=7), points=120)
    assert step_s % 300 == 0
    assert 7 * 86400 / step_s <= 120
