"""Every quantity in the convention of MONITORING.md: hand-calculated values, scipy as witness, and properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from monitoring.drift import tests as significance
from monitoring.drift.bins import fit
from monitoring.drift.distances import (
    hellinger,
    jensen_shannon,
    normed_wasserstein,
    normed_wasserstein_of_tallies,
    wasserstein,
    wasserstein_of_tallies,
)
from monitoring.drift.kl import kl
from monitoring.drift.limits import effective_rows, may_speak, rows_for_limit
from monitoring.drift.psi import floored_shares, psi, psi_parts

few = settings(max_examples=50, deadline=None, derandomize=True)
counts = arrays(np.int64, 6, elements=st.integers(0, 500)).filter(lambda a: a.sum() > 0)
sample = st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=60)

UNIFORM = [100] * 10
SHIFTED = [50, 50, 80, 90, 100, 100, 110, 120, 140, 160]


def test_the_hand_calculated_values():
    assert psi(UNIFORM, SHIFTED) == pytest.approx(0.121090, abs=1e-6)
    assert kl(UNIFORM, SHIFTED) == pytest.approx(0.063069, abs=1e-6)
    assert jensen_shannon(UNIFORM, SHIFTED) == pytest.approx(0.122168, abs=1e-6)
    assert jensen_shannon(UNIFORM, SHIFTED, base=2) == pytest.approx(0.146738, abs=1e-6)
    assert hellinger(UNIFORM, SHIFTED) == pytest.approx(0.122595, abs=1e-6)


def test_a_zero_share_is_one_in_ten_thousand_and_nothing_is_renormalised():
    assert floored_shares([9, 1, 0]).tolist() == [0.9, 0.1, 1e-4]
    expected = (0.5 - 1.0) * np.log(0.5 / 1.0) + (0.5 - 1e-4) * np.log(0.5 / 1e-4)
    assert psi([10, 0], [5, 5]) == pytest.approx(expected, abs=1e-12)


def test_a_share_below_the_floor_that_is_not_zero_stays():
    assert floored_shares([10**6, 1])[1] == pytest.approx(1e-6, rel=1e-3)


def test_half_the_values_missing_is_a_large_psi():
    reference = np.random.default_rng(0).normal(size=2000).tolist()
    bins = fit(reference, "numeric")
    holed = [value if index % 2 else None for index, value in enumerate(reference)]
    assert psi(bins.count(reference), bins.count(holed)) > 4


def test_many_columns_or_hours_are_one_call():
    hours = np.stack([UNIFORM, SHIFTED])
    assert psi(UNIFORM, hours) == pytest.approx([0, 0.121090], abs=1e-6)
    assert psi_parts(UNIFORM, hours).sum(axis=-1) == pytest.approx(psi(UNIFORM, hours))


def test_no_rows_and_bad_counts_are_refused():
    for measure in (psi, kl, jensen_shannon, hellinger):
        with pytest.raises(ValueError, match="no rows"):
            measure([1, 2], [0, 0])
        with pytest.raises(ValueError, match="counts"):
            measure([1, -2], [1, 1])


def test_a_fixed_limit_may_speak_from_139_effective_rows():
    assert rows_for_limit(0.2, 10, 0.001) == pytest.approx(139.4, abs=0.1)
    assert rows_for_limit(0.1, 10, 0.001) == pytest.approx(278.8, abs=0.1)
    assert effective_rows(200, 200) == 100
    assert effective_rows(0, 5) == effective_rows(0, 0) == 0
    assert not may_speak([20] * 10, [20] * 10, 0.2, 0.001)
    assert may_speak([30] * 10, [30] * 10, 0.2, 0.001)
    with pytest.raises(ValueError, match="alpha"):
        rows_for_limit(0.2, 10, 0)


@few
@given(counts, counts)
def test_divergences_are_never_negative_and_zero_for_the_same(p, q):
    assert psi(p, q) >= 0
    assert psi(p, q) == pytest.approx(psi(q, p))
    assert 0 <= hellinger(p, q) <= 1
    assert 0 <= jensen_shannon(p, q, base=2) <= 1 + 1e-12
    for measure in (psi, kl, jensen_shannon, hellinger):
        assert measure(p, p * 3) == pytest.approx(0, abs=1e-7)


@few
@given(counts, counts)
def test_chi_square_is_scipys_contingency_test(p, q):
    used = (p + q) > 0
    ours = significance.chi2_homogeneity(p, q)
    if used.sum() < 2:
        assert ours.p_value == 1
        return
    theirs = stats.chi2_contingency(np.stack([p[used], q[used]]))
    assert ours.statistic == pytest.approx(theirs.statistic, rel=1e-9, abs=1e-9)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-9)
    assert ours.dof == theirs.dof


@few
@given(counts, counts)
def test_the_calibrated_p_value_is_a_p_value(p, q):
    assert 0 <= significance.binned(p, q).p_value <= 1
    assert significance.binned(p, p).p_value > 0.5
    assert 0 <= significance.ks_counts(p, q).p_value <= 1


def test_the_likelihood_ratio_is_scipys():
    theirs = stats.chi2_contingency([UNIFORM, SHIFTED], lambda_="log-likelihood")
    assert significance.g_test(UNIFORM, SHIFTED).p_value == pytest.approx(theirs.pvalue)


@few
@given(sample, sample)
def test_ks_from_counts_never_claims_more_than_ks_from_samples(x, y):
    bins = fit(x, "numeric")
    binned = significance.ks_counts(bins.count(x), bins.count(y))
    exact = stats.ks_2samp(x, y, method="asymp")
    assert binned.statistic <= exact.statistic + 1e-12
    assert binned.p_value >= exact.pvalue - 1e-9


def test_ks_on_samples_is_scipys_auto():
    x, y = np.arange(40.0), np.arange(40.0) * 1.4
    assert significance.ks_samples(x, y).p_value == stats.ks_2samp(x, y).pvalue
    with pytest.raises(ValueError, match="both sides"):
        significance.ks_samples([], [1.0])


@few
@given(counts, counts)
def test_the_rank_sum_is_mann_whitneys(p, q):
    ours = significance.rank_counts(p, q)
    places = np.arange(6)
    x, y = np.repeat(places, p), np.repeat(places, q)
    if np.unique(np.concatenate([x, y])).size < 2:
        assert ours.p_value == 1
        return
    theirs = stats.mannwhitneyu(y, x, method="asymptotic", use_continuity=False)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-6, abs=1e-300)


def test_the_rank_sum_is_for_even_bins_only():
    assert significance.are_even([10] * 10, [0] * 10)
    assert not significance.are_even([90, 5, 3, 1, 1], [0] * 5)
    assert not significance.are_even([50, 50], [50, 50])
    assert significance.rank_counts([1, 2], [0, 0]).p_value == 1


def test_one_new_level_in_five_hundred_rows_is_chance_and_twenty_are_not():
    reference = [2000, 2000, 1000, 0]
    assert significance.binned(reference, [200, 200, 99, 1]).p_value > 0.05
    assert significance.binned(reference, [190, 190, 100, 20]).p_value < 1e-15


def test_the_thin_places_are_tested_exactly():
    result = significance.thin_places([995, 5], [90, 10])
    theirs = stats.hypergeom.sf(9, 1100, 15, 100)
    assert result.p_value == pytest.approx(2 * theirs)
    assert significance.thin_places([500, 500], [50, 50]).dof == 0


def test_nothing_to_compare_is_no_evidence():
    for test in (significance.chi2_homogeneity, significance.g_test, significance.thin_places, significance.binned):
        assert test([5, 0], [7, 0]).p_value == 1
        assert test([5, 3], [0, 0]).p_value == 1
    assert significance.ks_counts([1, 2], [0, 0]).p_value == 1
    with pytest.raises(ValueError, match="counts"):
        significance.binned([1, -1], [1, 1])


def test_wasserstein_is_scipys_and_normed_by_the_references_spread():
    x, y = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0, 4.0])
    assert wasserstein(x, y) == pytest.approx(1)
    assert normed_wasserstein(x, y) == pytest.approx(1 / np.std(x))
    assert normed_wasserstein([5.0, 5.0], [5.5, 5.5]) == pytest.approx(0.5 / 0.001)


@few
@given(sample, sample)
def test_wasserstein_from_tallies_is_a_lower_bound(x, y):
    bins = fit(x, "numeric")
    value = wasserstein_of_tallies(bins, bins.tally(x), bins.tally(y))
    assert value <= wasserstein(x, y) + 1e-6 * (1 + max(map(abs, x + y)))


@few
@given(sample, st.floats(-50, 50))
def test_wasserstein_from_tallies_is_exact_for_a_shift(x, step):
    y = [value + step for value in x]
    bins = fit(x, "numeric")
    assert wasserstein_of_tallies(bins, bins.tally(x), bins.tally(y)) == pytest.approx(abs(step), abs=1e-6)


def test_wasserstein_from_tallies_is_close_for_other_changes():
    rng = np.random.default_rng(3)
    x = rng.normal(size=3000)
    for y in (rng.normal(0.3, 1, 2000), rng.normal(0, 2, 2000), rng.exponential(size=2000)):
        bins = fit(x, "numeric")
        assert normed_wasserstein_of_tallies(bins, bins.tally(x), bins.tally(y)) == pytest.approx(
            normed_wasserstein(x, y), rel=0.03
        )


def test_wasserstein_needs_numbers_on_both_sides():
    bins = fit([1.0, 2.0], "numeric")
    assert wasserstein_of_tallies(bins, bins.tally([1.0]), bins.tally([None])) is None
    levels = fit(["a"], "categorical")
    assert normed_wasserstein_of_tallies(levels, levels.tally(["a"]), levels.tally(["a"])) is None
