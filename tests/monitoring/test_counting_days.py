"""Old hours become days: the same counts in fewer rows, late rows among them; what raw rows are needed no more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from monitoring import baselines, counting, windows
from monitoring.models import Baseline, ColumnCount
from serving.models import PredictionLog
from tests.monitoring.scene import HOUR

NOW = datetime(2026, 11, 21, 15, 30, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def week(scene, at):
    """Eight days of traffic, a row more each day, at 06:00 and at 18:00."""
    at(NOW)
    baselines.make(scene.deployment, scene.version)
    for days_ago in range(8, -1, -1):
        midnight = NOW.replace(hour=0, minute=0) - days_ago * DAY
        for hour in (6, 18):
            if midnight + hour * HOUR < NOW:
                scene.log(scene.rows(10 + days_ago), midnight + hour * HOUR)
    counting.count_new()
    return scene


def _baseline(scene) -> Baseline:
    return baselines.of(scene.deployment, scene.version)


def _stored(scene) -> list[tuple[str, int, int]]:
    rows = ColumnCount.objects.filter(column="amount").order_by("hour").values_list("hour", "span", "rows")
    return [(f"{hour:%d %H}", span, count) for hour, span, count in rows]


def _rows(scene, start, end=NOW) -> int:
    baseline = _baseline(scene)
    return windows.total(baseline, windows.watched(baseline), start, end)["amount"].rows


def test_days_older_than_three_are_one_row_each_and_nothing_is_lost(week):
    before = _rows(week, NOW - 30 * DAY)
    assert counting.merge_days() == 5
    assert _stored(week) == [
        ("13 00", 24, 36), ("14 00", 24, 34), ("15 00", 24, 32), ("16 00", 24, 30), ("17 00", 24, 28),
        ("18 06", 1, 13), ("18 18", 1, 13), ("19 06", 1, 12), ("19 18", 1, 12), ("20 06", 1, 11), ("20 18", 1, 11), ("21 06", 1, 10),
    ]  # fmt: skip
    assert _rows(week, NOW - 30 * DAY) == before
    assert counting.merge_days() == 0


def test_a_week_reads_whole_days_first_and_then_whole_hours(week):
    counting.merge_days()
    baseline = _baseline(week)
    assert windows.start_of(baseline, NOW - 7 * DAY) == datetime(2026, 11, 14, tzinfo=UTC)
    assert windows.start_of(baseline, NOW - 1 * DAY) == datetime(2026, 11, 20, 15, tzinfo=UTC)
    assert _rows(week, NOW - 7 * DAY) == 34 + 32 + 30 + 28 + 26 + 24 + 22 + 10
    assert _rows(week, NOW - 1 * DAY) == 11 + 10


def test_a_row_that_comes_a_week_late_goes_to_its_day(week):
    counting.merge_days()
    week.log(week.rows(5), NOW - 6 * DAY)
    week.log(week.rows(7), NOW - 30 * DAY)  # before the oldest
    counting.count_new()
    stored = _stored(week)
    assert ("15 00", 24, 37) in stored
    assert stored[0] == ("22 00", 24, 7)  # of October
    assert _rows(week, NOW - 60 * DAY) == PredictionLog.objects.count()


def test_the_next_day_is_merged_the_next_day(week, at):
    counting.merge_days()
    at(NOW + DAY)
    assert counting.merge_days() == 1
    assert ("18 00", 24, 26) in _stored(week)


def test_a_baseline_made_later_counts_its_past_into_the_same_places(week, world, monkeypatch):
    from monitoring import new_normal

    monkeypatch.setattr(new_normal, "LEAST_ROWS", 200)
    counting.merge_days()
    fresh = new_normal.make(week.deployment, _baseline(week), 30, world.caller("dan"))
    counting.merge_days()
    places = {
        baseline: sorted(
            ColumnCount.objects.filter(baseline=baseline, column="age").values_list("hour", "span", "rows")
        )
        for baseline in (fresh, fresh.former)
    }
    assert places[fresh] == places[fresh.former]


def test_a_backfill_goes_on_where_it_stopped_newest_rows_first(week, world, monkeypatch):
    from monitoring import new_normal

    monkeypatch.setattr(new_normal, "LEAST_ROWS", 200)
    monkeypatch.setattr(counting, "ROWS_AT_ONCE", 40)
    monkeypatch.setattr(counting, "BACKFILL_STEPS", 1)
    fresh = new_normal.make(week.deployment, _baseline(week), 30, world.caller("dan"))
    fresh.refresh_from_db()
    assert ColumnCount.objects.filter(baseline=fresh, hour__gte=NOW - 3 * DAY, column="age").exists()
    assert not ColumnCount.objects.filter(baseline=fresh, hour__lt=NOW - 3 * DAY, column="age").exists()
    assert not PredictionLog.objects.filter(counting.counted()).exists()  # it still needs them
    week.log(week.rows(9), NOW)
    for _ in range(20):
        counting.count_new()
    fresh.refresh_from_db()
    assert fresh.backfill_before is None
    assert fresh.counts_from == datetime(2026, 11, 13, 6, tzinfo=UTC)
    assert _rows(week, NOW - 30 * DAY) == PredictionLog.objects.count()


# -- what raw rows are needed no more -----------------------------------------------------------------------------------


def test_rows_are_needed_until_they_are_counted_on_a_baseline(scene):
    second = scene.add_version(2)
    scene.log(scene.rows(5))
    assert not PredictionLog.objects.filter(counting.counted()).exists()
    counting.count_new()
    assert not PredictionLog.objects.filter(counting.counted()).exists()  # there is no baseline yet
    baselines.make(scene.deployment, scene.version)
    assert PredictionLog.objects.filter(counting.counted()).count() == 5
    scene.log(scene.rows(3))  # not counted yet
    failed = scene.log(scene.rows(2), version=second)
    scene.log(scene.rows(4), version=second)  # may become its baseline
    PredictionLog.objects.filter(batch=failed).update(error_code="model_failed")
    assert PredictionLog.objects.filter(counting.counted()).count() == 5
    counting.count_new()
    assert PredictionLog.objects.filter(counting.counted()).count() == 5 + 3 + 2
    assert counting.counted_upto() == PredictionLog.objects.order_by("-batch").first().batch_id


def test_rows_of_one_request_beyond_the_learned_ones_are_counted(bare):
    """They share their moment with the last of the first 300."""
    batch = bare.log(bare.rows(420))
    PredictionLog.objects.filter(batch=batch).update(at=NOW)
    baseline = baselines.make(bare.deployment, bare.version)
    assert baseline.rows == 300
    assert _rows(bare, NOW - DAY) == 120
    late = bare.log(bare.rows(8))
    PredictionLog.objects.filter(batch=late).update(at=NOW - HOUR)  # older than those it was learnt from
    counting.count_new()
    assert _rows(bare, NOW - DAY) == 128
