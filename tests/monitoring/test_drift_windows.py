"""One look: three windows, every version that answers, one story; columns together; the budget that holds it all."""

from __future__ import annotations

from dataclasses import replace

import pytest

from accounts.models import AuditEvent
from mlops.core import clock
from monitoring import checks, lookback, policies, spans
from monitoring.drift import verdict as drift
from monitoring.drift.bins import fit
from monitoring.drift.policy import PARTS, Policy, alpha_for, share_of
from monitoring.drift.window import ColumnWindow
from monitoring.models import AlertRule, DriftCheck, Incident, WatchPolicy
from serving.models import Deployment, Route
from tests.monitoring.scene import HOUR, Scene

WEEK = 7 * 24 * HOUR


def _window(check: DriftCheck, code: str) -> dict:
    return next(each for each in check.windows if lookback.code(each["minutes"]) == code)


def _column(columns: list[dict], name: str) -> dict:
    return next(column for column in columns if column["name"] == name)


def _sorted_by_amount(rows: list[dict]) -> list[dict]:
    """The same amounts and ages, but the older the person the larger the amount."""
    ages = sorted(row["age"] for row in rows)
    for age, row in zip(ages, sorted(rows, key=lambda row: row["amount"]), strict=True):
        row["age"] = age
    return rows


# -- windows ----------------------------------------------------------------------------------------------------------


def test_a_fast_heavy_drift_is_found_in_the_last_hour_while_the_day_does_not_show_it(scene, at):
    now = at(clock.now())
    scene.log(scene.rows(6000), now - 20 * HOUR)
    scene.log(scene.rows(320, amount=lambda value: value * 3))
    check = checks.run(scene.deployment)
    assert (check.verdict, check.window_minutes) == ("drift", 60)
    assert "Found in the last hour" in check.sentence
    assert _column(check.columns, "amount")["psi"] > 0.5
    assert _column(_window(check, "24h")["columns"], "amount")["psi"] < 0.2
    assert Incident.objects.get().signals["drift"]["what"] == check.sentence


def test_a_slow_drift_with_few_rows_a_day_is_found_in_the_week(scene, at):
    now = at(clock.now())
    for day in range(6):
        scene.log(scene.rows(120, amount=lambda value: value * 3), now - day * 24 * HOUR - HOUR)
    check = checks.run(scene.deployment)
    assert _window(check, "24h")["verdict"] == "learning"
    assert (check.verdict, check.window_minutes) == ("drift", 7 * 24 * 60)
    assert "Found in the last 7 days" in check.sentence


def test_what_only_the_week_still_holds_is_over(scene, at):
    now = at(clock.now())
    scene.log(scene.rows(900, amount=lambda value: value * 3), now - 5 * 24 * HOUR)
    scene.log(scene.rows(900))
    check = checks.run(scene.deployment)
    week = _window(check, "7d")
    assert (check.verdict, week["verdict"]) == ("ok", "ok")
    assert "Back to the baseline" in week["sentence"]
    assert _column(week["columns"], "amount")["severity"] == "drift"


def test_each_window_has_its_own_rows_and_columns(scene, at):
    now = at(clock.now())
    scene.log(scene.rows(100), now - 4 * 24 * HOUR)
    scene.log(scene.rows(200), now - 10 * HOUR)
    scene.log(scene.rows(40))
    check = checks.run(scene.deployment)
    assert [(lookback.code(each["minutes"]), each["rows"]) for each in check.windows] == [
        ("1h", 40),
        ("24h", 240),
        ("7d", 340),
    ]
    assert check.window_minutes == 7 * 24 * 60  # the only one with the 300 rows
    assert check.verdict == "ok"


def test_the_rules_own_window_is_judged_beside_hour_and_week(scene):
    rule = checks.alert_rules.rule(scene.deployment, AlertRule.Kind.DRIFT)
    rule.window_minutes = 6 * 60
    rule.save()
    scene.log(scene.rows(400))
    check = checks.run(scene.deployment)
    assert [each["minutes"] for each in check.windows] == [60, 360, 7 * 24 * 60]
    assert check.window_minutes == 360


def test_an_hour_window_of_a_rule_is_not_judged_twice():
    assert lookback.lengths(60) == [60, 7 * 24 * 60]
    assert [lookback.named(minutes) for minutes in (60, 360, 7 * 24 * 60, 45)] == [
        "the last hour", "the last 6 hours", "the last 7 days", "the last 45 minutes",
    ]  # fmt: skip


# -- versions ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def canary(scene: Scene):
    """A second version with a tenth of the requests, and its reference."""
    second = scene.add_version(2)
    scene.reference(version=second)
    Route.objects.filter(deployment=scene.deployment).update(weight=90)
    Route.objects.create(deployment=scene.deployment, version=second, weight=10)
    scene.deployment = Deployment.objects.with_routes().get(pk=scene.deployment.pk)
    return second


def test_every_version_that_answers_is_checked_and_the_worst_one_is_the_story(scene, canary):
    scene.log(scene.rows(600))
    scene.log(scene.rows(400, amount=lambda value: value * 3), version=canary)
    worst = checks.run(scene.deployment)
    assert {(each.version.number, each.verdict) for each in DriftCheck.objects.all()} == {(1, "ok"), (2, "drift")}
    assert worst.version == canary
    assert DriftCheck.objects.first() == worst  # the newest row of a look is its worst: lists and pages show that one
    assert Incident.objects.get().version == canary


def test_a_version_that_was_asked_nothing_says_nothing(scene, canary):
    scene.log(scene.rows(600))
    checks.run(scene.deployment)
    assert [each.version.number for each in DriftCheck.objects.all()] == [1]


def test_a_shadow_is_not_watched(scene):
    shadow = scene.add_version(2)
    scene.reference(version=shadow)
    Route.objects.create(deployment=scene.deployment, version=shadow, weight=0, shadow=True)
    scene.deployment = Deployment.objects.with_routes().get(pk=scene.deployment.pk)
    scene.log(scene.rows(400))
    scene.log(scene.rows(400, amount=lambda value: value * 3), version=shadow)
    assert checks.run(scene.deployment).verdict == "ok"
    assert DriftCheck.objects.count() == 1


def test_the_budget_is_shared_by_the_versions_and_windows(scene, canary):
    rule = checks.alert_rules.rule(scene.deployment, AlertRule.Kind.DRIFT)
    watch = policies.of(scene.deployment)
    one, two = (checks.policy(rule, watch, versions) for versions in (1, 2))
    assert one.alpha_per_check == pytest.approx(0.5 / (90 * 24 * 3))
    assert two.alpha_per_check == pytest.approx(one.alpha_per_check / 2)


# -- columns together -------------------------------------------------------------------------------------------------


def test_columns_that_move_together_otherwise_are_drift_though_none_moved_alone(scene):
    scene.log(_sorted_by_amount(scene.rows(900)))
    check = checks.run(scene.deployment)
    assert {_column(check.columns, name)["severity"] for name in ("amount", "age", "colour", "member")} == {"ok"}
    found = check.facts["multivariate"]
    assert found["severity"] == "drift"
    assert found["pairs"][0]["columns"] == ["amount", "age"]
    assert "columns move together otherwise than before: `amount` and `age`" in check.sentence
    assert Incident.objects.get().deployment == scene.deployment


def test_only_a_changed_relation_opens_an_incident_that_names_the_pair(scene):
    rows = _sorted_by_amount(scene.rows(900))
    for row in rows:
        row["amount"], row["age"] = row["amount"], row["age"]
    scene.log(rows)
    check = checks.run(scene.deployment)
    check.columns = [{**column, "severity": "ok"} for column in check.columns]  # as if the answers had not followed
    found = checks.findings.finding(check, 0.2)
    assert found.title == "amount and age move together otherwise than before"
    assert found.state == "firing"


def test_clean_traffic_moves_together_as_before(scene):
    scene.log(scene.rows(900))
    check = checks.run(scene.deployment)
    assert check.facts["multivariate"]["severity"] == "ok"
    assert check.facts["multivariate"]["alpha"] == pytest.approx(0.25 / (90 * 24))


def test_it_is_not_looked_at_where_its_owner_does_not_want_it(scene, world):
    policies.change(scene.deployment, world.caller("dan"), multivariate=False)
    scene.log(_sorted_by_amount(scene.rows(900)))
    assert "multivariate" not in checks.run(scene.deployment).facts


def test_a_few_rows_are_still_learning_how_columns_move_together(scene):
    scene.log(scene.rows(120))
    check = checks.run(scene.deployment)
    assert check.facts["multivariate"]["severity"] == "learning"
    assert "120 of 300" in check.facts["multivariate"]["sentence"]
    assert check.verdict == "learning"


# -- the budget -------------------------------------------------------------------------------------------------------


def test_the_parts_of_the_budget_add_up_to_it():
    looks = 90 * 24
    assert sum(alpha_for(part, 90) for part in PARTS) * looks == pytest.approx(1)
    assert sum(share_of(part, multivariate=False) for part in PARTS) == pytest.approx(1)
    assert alpha_for("multivariate", 90, multivariate=False) == 0
    assert alpha_for("quality", 90, versions=4) == pytest.approx(0.25 / looks / 4)
    assert alpha_for("columns", 1, looks_per_day=1) == 0.05
    with pytest.raises(ValueError, match="unknown part"):
        alpha_for("weather", 90)
    with pytest.raises(ValueError, match="above 0"):
        alpha_for("columns", 0)
    with pytest.raises(ValueError, match="share"):
        Policy(share=1.5)


def test_all_alphas_of_all_looks_together_are_the_budget():
    """Columns x windows x versions x looks, and the other parts beside them: never more than one expected false alarm."""
    days, versions, windows, predictions, inputs = 30, 3, 3, 2, 17
    policy = Policy(budget_days=days, windows=windows, versions=versions, share=share_of("columns"))
    output, column = policy.alphas(predictions, inputs)
    per_look = windows * (predictions * output + inputs * column)
    others = alpha_for("multivariate", days, versions=versions) + alpha_for("quality", days, versions=versions)
    assert (per_look + others) * versions * days * 24 == pytest.approx(1)


def test_nobody_has_to_set_a_budget_and_reading_it_stores_nothing(scene):
    found = policies.of(scene.deployment)
    assert (found.budget_days, found.fixed_psi, found.multivariate) == (90, None, True)
    assert not WatchPolicy.objects.exists()


def test_a_change_is_kept_and_recorded_once(scene, world):
    dan = world.caller("dan")
    policies.change(scene.deployment, dan, budget_days=30, fixed_psi=0.25)
    policies.change(scene.deployment, dan, budget_days=30)
    found = policies.of(scene.deployment)
    assert (found.budget_days, found.fixed_psi, found.multivariate) == (30, 0.25, True)
    event = AuditEvent.objects.get(action="watch_policy.changed")
    assert event.detail == {"budget_days": [90, 30], "fixed_psi": [None, 0.25]}


@pytest.mark.parametrize(
    "changes",
    [{"budget_days": 0}, {"budget_days": 3651}, {"budget_days": 1.5}, {"budget_days": True}, {"fixed_psi": 0}, {"fixed_psi": "0.2"},
     {"multivariate": 1}],
)  # fmt: skip
def test_a_senseless_budget_is_refused(scene, world, changes):
    with pytest.raises(checks.policies.errors.Invalid) as refused:
        policies.change(scene.deployment, world.caller("dan"), **changes)
    assert set(refused.value.fields) == set(changes)
    assert not WatchPolicy.objects.exists()


def test_the_old_fixed_rule_is_there_for_who_wants_it_and_silent_until_it_can_mean_something(scene, world):
    policies.change(scene.deployment, world.caller("dan"), fixed_psi=0.2, multivariate=False)
    rule = checks.alert_rules.rule(scene.deployment, AlertRule.Kind.DRIFT)
    rule.minimum_rows = 30
    rule.save()
    scene.log(scene.rows(40, amount=lambda value: value * 3))
    assert "PSI > 0.2 means something from" in checks.run(scene.deployment).sentence
    scene.log(scene.rows(600, amount=lambda value: value * 3))
    assert checks.run(scene.deployment).verdict == "drift"


def test_of_equally_bad_windows_the_rules_own_is_told(scene):
    scene.log(scene.rows(600, amount=lambda value: value * 3))
    check = checks.run(scene.deployment)
    assert {each["verdict"] for each in check.windows} == {"drift"}
    assert check.window_minutes == 24 * 60
    assert "Found in" not in check.sentence
    assert spans.lookback.code(check.window_minutes) == "24h"


@pytest.mark.parametrize(("mix", "back"), [((600, 300, 100), True), ((590, 305, 105), True), ((500, 380, 120), False)])
def test_a_mix_that_is_still_another_is_not_back(mix, back):
    """The own window is calm for want of rows; the week's drift is over only where the mix itself is as before."""
    bins = fit(["a"] * 600 + ["b"] * 300 + ["c"] * 100, "categorical")
    before = bins.tally(["a"] * 3000 + ["b"] * 1500 + ["c"] * 500)
    now = bins.tally([level for level, count in zip("abc", mix, strict=True) for _ in range(count)])
    found = drift.judge([ColumnWindow("colour", bins, before, now)], Policy(budget_days=3650)).columns[0]
    quiet = replace(found, severity="ok")
    assert spans._is_back(quiet, Policy()) is back
