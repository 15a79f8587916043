"""Counts are exact: every shipped row once, in its own hour, whatever happens in between."""

from __future__ import annotations

import pytest

from mlops.core import clock
from monitoring import baselines, counting, packing, windows
from monitoring.drift.tally import Tally
from monitoring.models import ColumnCount, CountCursor
from serving.models import PredictionLog
from tests.monitoring.scene import HOUR


@pytest.fixture
def baseline(scene):
    return baselines.make(scene.deployment, scene.version)


def _total(baseline, column="amount") -> Tally:
    bins = next(each.bins for each in windows.watched(baseline) if each.name == column)
    stored = ColumnCount.objects.filter(baseline=baseline, column=column)
    return packing.total([row.tally for row in stored], bins)


def test_counts_equal_the_tally_of_all_rows_and_a_second_run_adds_nothing(scene, baseline):
    rows = scene.rows(500)
    scene.log(rows[:200])
    scene.log(rows[200:])
    assert counting.count_new() == 500
    assert counting.count_new() == 0
    column = next(each for each in windows.watched(baseline) if each.name == "amount")
    expected = column.bins.tally([row["amount"] for row in rows])
    assert _total(baseline).counts.tolist() == expected.counts.tolist()
    assert _total(baseline).numbers.maximum == expected.numbers.maximum


def test_rows_of_later_batches_are_added_to_the_same_hour(scene, baseline):
    moment = clock.floor(clock.now(), HOUR)
    scene.log(scene.rows(100), moment)
    counting.count_new()
    scene.log(scene.rows(50), moment)
    counting.count_new()
    assert ColumnCount.objects.get(baseline=baseline, column="amount").rows == 150


def test_late_rows_go_to_their_own_hour(scene, baseline):
    now = clock.now()
    scene.log(scene.rows(10), now)
    counting.count_new()
    scene.log(scene.rows(7), now - 5 * HOUR)
    counting.count_new()
    hours = dict(ColumnCount.objects.filter(baseline=baseline, column="age").values_list("hour", "rows"))
    assert hours == {clock.floor(now, HOUR): 10, clock.floor(now - 5 * HOUR, HOUR): 7}


def test_a_crash_in_the_middle_neither_loses_nor_doubles(scene, baseline, monkeypatch):
    scene.log(scene.rows(100))
    counting.count_new()
    scene.log(scene.rows(60))
    whole = ColumnCount.objects.bulk_create

    def crash(*args, **kwargs):
        whole(*args, **kwargs)
        raise RuntimeError("the worker dies after the counts and before the cursor")

    monkeypatch.setattr(ColumnCount.objects, "bulk_create", crash)
    with pytest.raises(RuntimeError):
        counting.count_new()
    monkeypatch.undo()
    assert _total(baseline).rows == 100
    counting.count_new()
    assert _total(baseline).rows == 160


def test_rows_that_came_before_the_baseline_are_counted_with_it(scene):
    scene.log(scene.rows(80))
    assert counting.count_new() == 80  # looked at, nothing to count on yet
    baseline = baselines.make(scene.deployment, scene.version)
    assert _total(baseline).rows == 80
    scene.log(scene.rows(20))
    counting.count_new()
    assert _total(baseline).rows == 100


def test_failed_requests_are_not_counted(scene, baseline):
    batch = scene.log(scene.rows(10))
    PredictionLog.objects.filter(batch=batch).update(error_code="model_failed", status=500)
    counting.count_new()
    assert not ColumnCount.objects.filter(baseline=baseline).exists()


def test_a_window_is_the_sum_of_its_hours(scene, baseline):
    now = clock.floor(clock.now(), HOUR)
    for hours_ago in range(6):
        scene.log(scene.rows(10 + hours_ago), now - hours_ago * HOUR)
    counting.count_new()
    past = windows.past(baseline, windows.watched(baseline), now - 3 * HOUR, now + HOUR, now - 5 * HOUR)
    assert past["colour"].total.rows == 10 + 11 + 12 + 13
    assert [int(hour.counts.sum()) for hour in past["colour"].hours] == [15, 14, 13, 12, 11, 10]


def test_many_batches_are_counted_in_steps_of_bounded_size(scene, baseline, monkeypatch):
    monkeypatch.setattr(counting, "ROWS_AT_ONCE", 25)
    for _ in range(5):
        scene.log(scene.rows(10))
    assert counting.count_step() == 20
    assert counting.count_new() == 30
    assert CountCursor.objects.get(name=counting.CURSOR).batch == scene.log([]).pk - 1
    assert _total(baseline).rows == 50
