"""What lies beyond the reference's ends, and rows that went to other categories."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.drift import tests
from monitoring.drift.bins import fit
from monitoring.drift.policy import Policy
from monitoring.drift.sketch import sketch_of
from monitoring.drift.verdict import judge
from monitoring.drift.window import ColumnWindow

HOURLY = Policy(windows=3, share=0.5)


def column(before: list, now: list, kind: str) -> ColumnWindow:
    bins = fit(before, kind)
    return ColumnWindow("amount", bins, bins.tally(before), bins.tally(now))


def test_one_row_of_twenty_a_thousand_times_as_large_is_seen_in_three_hundred() -> None:
    rng = np.random.default_rng(1)
    before = rng.lognormal(10, 0.6, 5000)
    for seed in range(20):
        draw = np.random.default_rng([2, seed])
        now = draw.lognormal(10, 0.6, 300)
        now[draw.random(300) < 0.05] *= 1000
        found = judge([column(before.tolist(), now.tolist(), "numeric")], HOURLY)
        assert found.severity == "drift"


def test_a_single_outlier_is_none() -> None:
    rng = np.random.default_rng(3)
    before, now = rng.normal(0, 1, 5000), rng.normal(0, 1, 500)
    now[7] = 1e9
    assert judge([column(before.tolist(), now.tolist(), "numeric")], HOURLY).severity == "ok"


@pytest.mark.parametrize("draw", ["normal", "lognormal", "standard_cauchy"])
def test_the_p_value_keeps_its_promise(draw: str) -> None:
    """At nominal 0.01 no more than 0.01 of clean pairs, beyond what chance does in 2,000 draws."""
    rng = np.random.default_rng(4)
    args = () if draw == "standard_cauchy" else (0.0, 1.0)
    alarms = 0
    for _ in range(2000):
        before, now = getattr(rng, draw)(*args, size=400), getattr(rng, draw)(*args, size=150)
        alarms += tests.tails(sketch_of(before), sketch_of(now)).p_value <= 0.01
    assert alarms <= 32  # 20 expected at most; 32 is beyond its 99.5 % quantile


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60))
@settings(max_examples=200, deadline=None)
def test_it_is_a_p_value_and_mirrors(before: list[float], now: list[float]) -> None:
    there = tests.tails(sketch_of(np.array(before)), sketch_of(np.array(now)))
    assert 0 < there.p_value <= 1
    mirrored = tests.tails(sketch_of(-np.array(before)), sketch_of(-np.array(now)))
    assert mirrored.p_value == pytest.approx(there.p_value)


def test_beyond_all_of_the_reference_is_the_textbook_law() -> None:
    """k of m beyond the largest of n: m! / (m - k)! * (n + m - k)! / (n + m)!, over both ends and three cuts."""
    n, m, k = 50, 20, 4
    found = tests.tails({1: n}, {1: m - k, 9: k})
    chance = np.prod([(m - i) / (n + m - i) for i in range(k)])
    assert found.p_value == pytest.approx(6 * chance)


def test_nothing_to_compare() -> None:
    assert tests.tails({}, {1: 3}).p_value == tests.tails({1: 3}, {}).p_value == 1.0


def test_a_tenth_of_the_rows_in_another_category_is_a_warning_that_says_so() -> None:
    before = ["red"] * 3000 + ["green"] * 1500 + ["blue"] * 500
    now = ["red"] * 1080 + ["green"] * 740 + ["blue"] * 180
    found = judge([column(before, now, "categorical")], HOURLY)
    assert found.severity == "warning"
    assert found.columns[0].mix == pytest.approx(0.07)
    assert "7 % of the rows in other categories" in found.sentence


def test_numbers_have_no_mix() -> None:
    values = list(np.linspace(0, 1, 400))
    assert judge([column(values, values, "numeric")], HOURLY).columns[0].mix is None


def test_a_limit_for_drift_below_that_for_a_warning_is_refused() -> None:
    with pytest.raises(ValueError, match="may not be below"):
        Policy(mix_warning=0.3, mix_drift=0.2)


weights = st.floats(0.01, 10)


@given(st.lists(st.tuples(weights, st.floats(1e-300, 1.0)), min_size=1, max_size=5))
def test_the_harmonic_mean_lies_between_the_smallest_and_bonferroni(weighted: list[tuple[float, float]]) -> None:
    found = tests.harmonic(*weighted)
    total = sum(weight for weight, _ in weighted)
    assert min(p for _, p in weighted) * (1 - 1e-9) <= found
    assert found <= min(p * total / weight for weight, p in weighted) * (1 + 1e-9)


def test_no_p_values_and_no_weight_are_refused_and_zero_stays_zero() -> None:
    with pytest.raises(ValueError, match="no p-values"):
        tests.harmonic()
    with pytest.raises(ValueError, match="weight"):
        tests.harmonic((0.0, 0.5))
    assert tests.harmonic((1.0, 0.0), (1.0, 1.0)) == 0.0


def test_ks_of_sketches_never_says_more_than_that_of_the_samples() -> None:
    rng = np.random.default_rng(5)
    for shift in (0.0, 0.1, 0.5):
        before, now = rng.lognormal(0, 1, 2000), rng.lognormal(shift, 1, 500)
        fine = tests.ks_sketches(sketch_of(before), sketch_of(now))
        samples = tests.ks_samples(before, now)
        assert samples.statistic - 0.05 < fine.statistic <= samples.statistic + 1e-12
