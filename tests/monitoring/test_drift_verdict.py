"""The verdict speaks when something moved, keeps to its budget when nothing did, and says what it knows."""

import json
import math
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from monitoring.drift.bins import fit, kind_for
from monitoring.drift.policy import Policy
from monitoring.drift.verdict import judge, judge_column
from monitoring.drift.window import ColumnWindow, Hour

RNG = np.random.default_rng(11)
REFERENCE = RNG.normal(50, 10, 5000)
BINS = fit(REFERENCE, "numeric")
BASE = BINS.tally(REFERENCE)


def amount(values, **more):
    return ColumnWindow("amount", BINS, BASE, BINS.tally(values), **more)


def fresh(rows, seed=5):
    return np.random.default_rng(seed).normal(50, 10, rows)


def level_window(current, reference=("a",) * 3000 + ("b",) * 2000):
    bins = fit(list(reference), "categorical")
    return ColumnWindow("colour", bins, bins.tally(list(reference)), bins.tally(current))


def test_unchanged_traffic_is_ok():
    verdict = judge([amount(fresh(1000))])
    assert verdict.severity == "ok"
    assert verdict.sentence == "No drift in 1 of 1 columns over 1,000 rows."
    assert "as the baseline" in verdict.columns[0].sentence


def test_a_shift_is_drift_with_everything_said():
    start = datetime(2026, 7, 23, 8, tzinfo=UTC)
    hours = [Hour(start + timedelta(hours=h), BINS.count(fresh(200, h) * (1000 if h >= 6 else 1))) for h in range(10)]
    verdict = judge([amount(fresh(800) * 1000, hours=hours)])
    column = verdict.columns[0]
    assert verdict.severity == "drift"
    assert column.since == "2026-07-23T14:00:00+00:00"
    assert column.causes[0].code == "unit_change"
    assert verdict.sentence.startswith("`amount` moved: PSI ")
    assert "(limit 0.2) since 14:00 UTC on 23 Jul; the values are 1,000 times larger" in verdict.sentence


def test_too_few_rows_are_still_learning():
    verdict = judge([amount(fresh(120) * 1000)])
    assert verdict.severity == "learning"
    assert verdict.sentence == "Still learning: 120 of 300."


def test_a_small_baseline_is_still_learning():
    bins = fit([1.0, 2.0, 3.0], "numeric")
    verdict = judge([ColumnWindow("x", bins, bins.tally([1.0, 2.0, 3.0]), bins.tally([9.0] * 500))])
    assert verdict.sentence == "The baseline is still learning: 3 of 50 rows."


def test_no_rows_and_no_columns_are_learning():
    assert judge([ColumnWindow("amount", BINS, BASE, BINS.empty())]).severity == "learning"
    assert judge([]).severity == "learning"


def test_half_missing_is_drift_where_values_alone_have_not_moved():
    values = [None if index % 2 else float(value) for index, value in enumerate(fresh(600))]
    verdict = judge([amount(values)])
    assert verdict.severity == "drift"
    assert verdict.columns[0].causes[0].code == "missing_spike"


@pytest.mark.parametrize(("rows", "least"), [(1000, 35), (2000, 40)])
def test_a_segment_of_one_fifth_moved_by_one_deviation_is_a_warning_where_psi_is_silent(rows, least):
    found = psi_found = 0
    for seed in range(40):
        values = fresh(rows, seed)
        values[: rows // 5] += 10
        verdict = judge([amount(values)], Policy(budget_days=7))
        found += verdict.severity == "warning"
        psi_found += verdict.columns[0].psi > 0.2
    assert found >= least
    assert psi_found == 0


def test_one_unseen_level_in_five_hundred_rows_is_reported_and_no_drift():
    verdict = judge([level_window(["a"] * 300 + ["b"] * 199 + ["c"])])
    assert verdict.severity == "ok"
    assert "0.2 % of the values are new, which is no drift" in verdict.columns[0].sentence


def test_a_new_level_at_a_tenth_is_drift():
    verdict = judge([level_window(["a"] * 270 + ["b"] * 180 + ["c"] * 50)])
    assert verdict.severity == "drift"
    assert '"c" never came' in verdict.sentence


def test_a_real_but_small_difference_in_much_traffic_is_ok():
    reference = RNG.normal(50, 10, 200_000)
    bins = fit(reference, "numeric")
    window = ColumnWindow("amount", bins, bins.tally(reference), bins.tally(fresh(200_000) + 0.5))
    column = judge([window]).columns[0]
    assert column.significant
    assert column.severity == "ok"
    assert "but little" in column.sentence


def test_a_large_psi_by_chance_is_silent():
    bins = fit(list(range(60)), "numeric")
    reference, current = bins.tally(list(range(60))), bins.tally([*range(0, 60, 3)] * 2)
    thin = ColumnWindow("x", bins, reference, current)
    assert judge([thin], Policy(min_rows=10)).severity == "ok"


def test_a_strange_column_costs_itself_only():
    bins = fit([None] * 100, "numeric")
    nothing = ColumnWindow("empty", bins, bins.tally([None] * 100), bins.tally([None] * 500))
    gone = amount([None] * 500)
    text = ColumnWindow("text", BINS, BASE, BINS.tally(["seven"] * 500))
    verdict = judge([nothing, gone, text, amount(fresh(500))])
    severities = {id(column): column.severity for column in verdict.columns}
    assert sorted(severities.values()) == ["drift", "drift", "ok", "ok"]
    json.dumps(verdict.to_json(), allow_nan=False)


def test_a_constant_column_that_changes_is_found_both_ways():
    bins = fit([3] * 500, "numeric")
    for value in (2, 4):
        column = ColumnWindow("version", bins, bins.tally([3] * 500), bins.tally([value] * 400))
        assert judge([column]).severity == "drift"


def test_moved_predictions_come_first_and_calm_ones_are_mentioned():
    moved = fresh(1000) + 20
    verdict = judge([amount(moved), ColumnWindow("score", BINS, BASE, BINS.tally(fresh(1000) + 5), is_prediction=True)])
    assert [column.name for column in verdict.columns] == ["score", "amount"]
    assert "1 more of 2 columns moved too" in verdict.sentence
    calm = judge([amount(moved), ColumnWindow("score", BINS, BASE, BINS.tally(fresh(1000)), is_prediction=True)])
    assert calm.sentence.endswith("The predictions have not moved.")


def test_the_budget_is_spread_over_checks_windows_and_columns():
    policy = Policy(budget_days=90, checks_per_day=24, windows=2)
    assert policy.alpha_per_check == pytest.approx(1 / 4320)
    prediction, column = policy.alphas(predictions=1, inputs=10)
    assert prediction + 10 * column == pytest.approx(policy.alpha_per_check)
    assert policy.alphas(0, 4)[1] == pytest.approx(policy.alpha_per_check / 4)
    assert Policy(budget_days=1, checks_per_day=1).alpha_per_check == 0.05


def test_a_senseless_policy_is_refused():
    with pytest.raises(ValueError, match="above 0"):
        Policy(budget_days=0)
    with pytest.raises(ValueError, match="above 0"):
        Policy(fixed_psi=-0.2)
    with pytest.raises(ValueError, match="below the limit"):
        Policy(psi_warning=0.3)


def test_tallies_of_other_bins_are_refused():
    other = fit([1, 2], "numeric")
    with pytest.raises(ValueError, match="other bins"):
        judge([ColumnWindow("amount", BINS, BASE, other.tally([1]))])


def test_the_fixed_rule_is_silent_until_it_can_mean_something():
    policy = Policy(fixed_psi=0.2, min_rows=30)
    shifted = fresh(1000) + 20
    assert "PSI > 0.2 means something from" in judge_column(amount(shifted[:100]), policy, 0.001).sentence
    assert judge_column(amount(shifted), policy, 0.001).severity == "drift"
    assert judge_column(amount(fresh(1000)), policy, 0.001).severity == "ok"


def test_samples_at_hand_sharpen_ks():
    values = fresh(500)
    column = amount(values, reference_sample=REFERENCE, current_sample=values)
    verdict = judge([column]).columns[0]
    assert verdict.ks == pytest.approx(stats.ks_2samp(REFERENCE, values).statistic)
    assert verdict.severity == "ok"


def test_clean_windows_keep_to_their_alpha():
    """1,500 clean windows of a number, levels (rare ones too) and a column with holes, each with its own reference."""
    rng = np.random.default_rng(2)
    alpha, false_alarms, tried = 0.02, 0, 0
    shares = np.array([0.5, 0.3, 0.15, 0.03, 0.015, 0.005])
    for _ in range(500):
        numbers, holes = rng.lognormal(size=1400), rng.normal(size=1400)
        holes[rng.random(1400) < 0.01] = np.nan
        levels = rng.choice(list("abcdef"), 1400, p=shares).tolist()
        for kind, values in (("numeric", numbers), ("numeric", holes), ("categorical", levels)):
            bins = fit(values[:1000], kind)
            window = ColumnWindow("x", bins, bins.tally(values[:1000]), bins.tally(values[1000:]))
            false_alarms += judge_column(window, Policy(), alpha).significant
            tried += 1
    assert false_alarms <= stats.binom.ppf(0.999, tried, alpha)


def test_clean_weeks_keep_to_the_budget():
    """The whole verdict, effect size included: 300 hourly checks of 4 columns keep to the budget of 1 in 2,160."""
    rng = np.random.default_rng(4)
    alarms = sum(
        bool(judge([amount(rng.normal(50, 10, 300), is_prediction=index == 0) for index in range(4)]).moved)
        for _ in range(300)
    )
    assert alarms <= stats.binom.ppf(0.999, 300, Policy().alpha_per_check)


@pytest.mark.parametrize("rows", [300, 1000, 5000])
@pytest.mark.parametrize(
    "change",
    [
        lambda x: x + 6,
        lambda x: x * 2,
        lambda x: 50 + (x - 50) * 2,
        lambda x: np.where(np.arange(x.size) % 5 == 0, 0, x),
        lambda x: np.full(x.size, 52.0),
    ],
    ids=["shift", "scale", "spread", "zeros", "stuck"],
)
def test_changes_are_found_at_the_default_budget_among_twenty_columns(rows, change):
    columns = [amount(fresh(rows, seed)) for seed in range(19)] + [
        ColumnWindow("moved", BINS, BASE, BINS.tally(change(fresh(rows, 99))))
    ]
    assert [column.name for column in judge(columns).moved] == ["moved"]


STRANGE = [None, True, 0, 1, -3, 2.5, 1e308, -1e308, 1e-300, math.nan, math.inf, 10**400, "a", "", "3.5", [1], {"a": 1}]


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    reference=st.lists(st.sampled_from(STRANGE), max_size=6),
    current=st.lists(st.sampled_from(STRANGE), max_size=6),
    kind=st.sampled_from(["numeric", "categorical", "boolean", "text", "datetime", "counter", None]),
)
def test_no_values_however_strange_break_a_verdict(reference, current, kind):
    reference, current = reference * 60, current * 60
    bins = fit(reference, kind or kind_for(reference))
    hours = [Hour(datetime(2026, 7, 1, tzinfo=UTC), bins.count(current))]
    column = ColumnWindow("x", bins, bins.tally(reference), bins.tally(current), hours=hours)
    json.dumps(judge([column]).to_json(), allow_nan=False)
