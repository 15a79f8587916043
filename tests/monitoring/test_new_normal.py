"""The last days become the new normal: seen beforehand, refused where it would hide a fault, taken back with its counts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from accounts.models import AuditEvent
from mlops.core import clock, errors
from monitoring import baselines, checks, counting, new_normal, row_samples, windows
from monitoring.models import Baseline, ColumnCount, Incident
from serving.models import PredictionLog
from tests.monitoring.scene import HOUR


@pytest.fixture
def moved(scene):
    """Two days on which `amount` is three times what it was, and a tenth of `age` is missing."""
    baselines.make(scene.deployment, scene.version)
    for hours_ago in range(40, 0, -1):
        rows = scene.rows(25, amount=lambda value: value * 3)
        for row in rows[:3]:
            row["age"] = None
        scene.log(rows, clock.now() - hours_ago * HOUR)
    counting.count_new()
    return scene


def _set(scene, world, days=7) -> Baseline:
    return new_normal.make(scene.deployment, baselines.of(scene.deployment, scene.version), days, world.caller("dan"))


def _counted(baseline, name="amount") -> list[int]:
    watched = windows.watched(baseline)
    now = clock.now()
    return windows.total(baseline, watched, now - timedelta(days=30), now)[name].counts.tolist()


def _straight(baseline, name="amount") -> list[int]:
    """The same from the raw rows."""
    column = next(each for each in windows.watched(baseline) if each.name == name)
    rows = PredictionLog.objects.filter(version=baseline.version_id).values_list("features", flat=True)
    return column.bins.tally([row[name] for row in rows]).counts.tolist()


def test_what_would_become_normal_is_told_gravest_first(moved):
    found = new_normal.preview(moved.deployment, moved.version)
    assert (found.rows, found.blocked) == (1000, "")
    texts = [change.text for change in found.changes]
    assert texts[0].startswith("`amount` has moved (PSI ")
    assert "This makes 12 % missing in `age` normal (0 % in the present baseline)." in texts


def test_drift_is_normal_afterwards_and_comes_back_with_its_counts_when_it_is_undone(moved, world):
    former = baselines.of(moved.deployment, moved.version)
    before = checks.run(moved.deployment)
    assert before.verdict == "drift"
    incident = Incident.objects.get()

    fresh = _set(moved, world)
    assert (fresh.source, fresh.rows, fresh.made_by) == ("window", 1000, world.caller("dan").label)
    assert baselines.of(moved.deployment, moved.version) == fresh
    assert _counted(fresh) == _straight(fresh)
    assert checks.run(moved.deployment).verdict == "ok"
    incident.refresh_from_db()
    assert incident.status == "resolved"
    assert incident.events.filter(text__startswith="New normal set by ").exists()

    moved.log(moved.rows(50))
    counting.count_new()
    assert new_normal.undo(moved.deployment, moved.version, world.caller("dan")) == former
    assert baselines.of(moved.deployment, moved.version) == former
    assert _counted(former) == _straight(former)  # those that came in the meantime among them
    assert sum(_counted(former)) == 1050
    moved.log(moved.rows(10))
    counting.count_new()
    assert sum(_counted(former)) == 1060
    assert sum(_counted(fresh)) == 1050  # no longer counted on
    assert set(AuditEvent.objects.filter(action__startswith="baseline").values_list("action", flat=True)) == {
        "baseline.new_normal",
        "baseline.undone",
    }


def test_there_is_one_step_back_and_only_for_two_weeks(moved, world, at):
    first = baselines.of(moved.deployment, moved.version)
    second = _set(moved, world)
    third = _set(moved, world)
    assert third.former == second
    assert new_normal.undo(moved.deployment, moved.version, world.caller("dan")) == second
    first.refresh_from_db()
    assert not new_normal.can_undo(baselines.of(moved.deployment, moved.version))
    with pytest.raises(errors.Conflict, match="no former baseline"):
        new_normal.undo(moved.deployment, moved.version, world.caller("dan"))

    fourth = _set(moved, world)
    assert new_normal.can_undo(fourth)
    at(clock.now() + timedelta(days=14, seconds=1))
    assert not new_normal.can_undo(baselines.of(moved.deployment, moved.version))
    counting.forget_retired()
    assert set(ColumnCount.objects.values_list("baseline", flat=True)) == {fourth.pk}


def test_too_little_traffic_is_refused(scene, world):
    baselines.make(scene.deployment, scene.version)
    scene.log(scene.rows(299))
    counting.count_new()
    with pytest.raises(errors.Conflict, match="Too little traffic: 299 rows in the last 7 days, and 300 are needed"):
        _set(scene, world)
    assert Baseline.objects.count() == 1


def test_a_column_that_is_gone_is_no_new_normal(scene, world):
    baselines.make(scene.deployment, scene.version)
    scene.log(scene.rows(400, colour=lambda value: None))
    counting.count_new()
    with pytest.raises(errors.Conflict, match="`colour` is 100 % missing in these days"):
        _set(scene, world)


def test_days_whose_rows_are_not_kept_are_refused(moved, world):
    PredictionLog.objects.update(features=None)
    with pytest.raises(errors.Conflict, match="0 rows are still kept with their values"):
        _set(moved, world)


def test_of_two_who_press_at_once_one_is_told_to_look_again(moved, world):
    seen = baselines.of(moved.deployment, moved.version)
    _set(moved, world)
    with pytest.raises(errors.Conflict, match="changed in the meantime"):
        new_normal.make(moved.deployment, seen, 7, world.caller("dan"))
    with pytest.raises(errors.Conflict, match="changed in the meantime"):
        new_normal.request(moved.deployment, moved.version, 7, world.caller("dan"), seen.pk)
    assert Baseline.objects.filter(active=True).count() == 1


def test_a_version_without_a_baseline_is_told_that_it_learns_by_itself(bare, world):
    bare.log(bare.rows(50))
    counting.count_new()
    with pytest.raises(errors.Conflict, match="first 300 live rows become it by themselves"):
        new_normal.request(bare.deployment, bare.version, 7, world.caller("dan"))


def test_a_large_stretch_is_sampled_where_its_traffic_was_and_the_same_way_again(scene, monkeypatch):
    monkeypatch.setattr(row_samples, "MOST_ROWS", 200)
    monkeypatch.setattr(row_samples, "AT_A_MOMENT", 20)
    baseline = baselines.make(scene.deployment, scene.version)
    now = clock.floor(clock.now(), HOUR)
    for hours_ago, count in ((9, 800), (5, 100), (1, 100)):
        scene.log(scene.rows(count, age=lambda value, hour=hours_ago: hour), now - hours_ago * HOUR)
    counting.count_new()
    rows, oldest = row_samples.sample(baseline, now - 12 * HOUR, now, seed=7)
    ages = [row.features["age"] for row in rows]
    assert {age: ages.count(age) for age in (9, 5, 1)} == {9: 160, 5: 20, 1: 20}
    assert oldest >= now - 9 * HOUR
    assert row_samples.sample(baseline, now - 12 * HOUR, now, seed=7)[0] == rows


@pytest.mark.parametrize("days", [0, 31])
def test_days_out_of_range_are_refused(moved, days):
    with pytest.raises(errors.Invalid, match="1 to 30 days"):
        new_normal.preview(moved.deployment, moved.version, days)
