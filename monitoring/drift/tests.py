"""Significance: could this difference be chance? Over counts (chi-square, binned KS) and over samples (KS).

`binned` and `rank_counts` are what the verdict uses from counts: their p-values keep their promise far out in the
tail, where a false-alarm budget of "one in 90 days" lives (alpha about 1e-5 for 20 columns checked hourly). Pearson's
chi-square alone does not: with a
reference of 50,000 rows, windows of 300 and 20 levels of 5 expected rows each, its true false-alarm rate at nominal
1e-5 was 6.7e-5, that of the likelihood-ratio test 2.6e-5, that of the larger p-value of the two 0.9e-5 (measured, 4
million draws); on ten equal bins the larger p-value stayed at or below nominal too. A numeric column's whole p-value
(all its tests, `harmonic`) came out at 0.79 to 0.94 of nominal at 1e-2 and 0.65 to 0.85 at 1e-3 (20,000 clean windows of 300
lognormal rows against 3,000, twice).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

# A place that may expect fewer rows than this in the smaller set is too thin for chi-square (Cochran's rule).
LEAST_EXPECTED = 5.0
# What of the reference may lie beyond a cut of `tails`: nothing, one in a thousand, one in a hundred.
TAIL_SHARES = (0.0, 0.001, 0.01)


@dataclass(frozen=True)
class TestResult:
    """A test's statistic and its p-value (0..1). dof: degrees of freedom, 0 where the test has none."""

    __test__ = False  # the name begins with "Test"; pytest must not collect it

    statistic: float
    p_value: float
    dof: int = 0


def chi2_homogeneity(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """2 x K chi-square test of homogeneity on counts (K,), equal to scipy's chi2_contingency (Yates' correction at one
    degree of freedom included). Not goodness of fit: the reference is a sample too.

    Places empty on both sides are left out; with fewer than two places left, or no rows on a side, p is 1.
    """
    table = _table(reference, current)
    if table is None:
        return TestResult(0.0, 1.0)
    expected = _expected(table)
    dof = table.shape[1] - 1
    gap = np.abs(table - expected)
    if dof == 1:
        gap = gap - np.minimum(0.5, gap)
    statistic = float((gap**2 / expected).sum())
    return TestResult(statistic, float(special.chdtrc(dof, statistic)), dof)


def g_test(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """Likelihood-ratio test of homogeneity (G = 2 sum O ln(O / E)) on counts (K,), without correction. Places and
    rows as in chi2_homogeneity. Its upper tail is right where Pearson's is too optimistic, and the other way round."""
    table = _table(reference, current)
    if table is None:
        return TestResult(0.0, 1.0)
    statistic = max(float(2 * special.rel_entr(table, _expected(table)).sum()), 0.0)
    dof = table.shape[1] - 1
    return TestResult(statistic, float(special.chdtrc(dof, statistic)), dof)


def ks_samples(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """Two-sample Kolmogorov-Smirnov test on samples (n,), (m,) of numbers, two-sided, p as scipy's "auto".

    Raises ValueError for an empty sample.
    """
    x, y = np.asarray(reference), np.asarray(current)
    if not x.size or not y.size:
        raise ValueError("KS needs numbers on both sides")
    result = stats.ks_2samp(x, y, method="auto")
    return TestResult(float(result.statistic), float(result.pvalue))


def ks_counts(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """KS from the counts of ordered bins (K,): the largest gap of the two cumulative shares at the bin edges.

    That gap is at most the KS statistic of the samples, so the p-value (scipy's asymptotic one) is an upper bound of
    theirs: it may miss, it does not cry wolf. No rows on a side: p is 1.
    """
    before, now = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    n, m = before.sum(), now.sum()
    if not n or not m:
        return TestResult(0.0, 1.0)
    gap = float(np.abs(np.cumsum(before) / n - np.cumsum(now) / m).max())
    rows = max(round(n * m / (n + m)), 1)
    return TestResult(gap, float(np.clip(stats.kstwo.sf(gap, rows), 0.0, 1.0)))


def ks_sketches(reference: Mapping[int, int], current: Mapping[int, int]) -> TestResult:
    """ks_counts over the buckets of two sketches (monitoring.drift.sketch): 20 a decade, finer than ten bins where values spread over
    decades. As there, the p-value is an upper bound of the samples'."""
    keys = sorted(reference.keys() | current.keys())
    return ks_counts([reference.get(key, 0) for key in keys], [current.get(key, 0) for key in keys])


def rank_counts(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """Mann-Whitney's rank-sum test on the counts of ordered bins (K,): do the values as a whole lie higher or lower?

    Mid-ranks, tie-corrected normal p, two-sided (scipy's mannwhitneyu with method="asymptotic", use_continuity=False on
    the bins' numbers); the statistic is z, positive when current lies higher. On decile bins it found a fifth of the
    rows moved by one standard deviation more often than KS on the raw samples did (63 % against 51 % of windows of
    500 rows at alpha 0.001, each together with chi-square). Where a few bins hold nearly everything its normal tail is
    wrong (14 times nominal at 1e-5 for two bins at 98.5 to 1.5): see `are_even`. Nothing to compare: p is 1.
    """
    before, now = np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)
    n, m, both = before.sum(), now.sum(), before + now
    rows = n + m
    scores = np.cumsum(both) - both / 2 - rows / 2
    variance = float(both @ scores**2) / max(rows - 1, 1) * n / max(rows * m, 1)
    if not n or not m or not variance:
        return TestResult(0.0, 1.0)
    z = float(now @ scores) / float(m) / np.sqrt(variance)
    return TestResult(float(z), float(2 * special.ndtr(-abs(z))))


def are_even(reference: ArrayLike, current: ArrayLike) -> bool:
    """Whether at least five bins (K,) hold rows, none more than half of all: where rank_counts may be used."""
    both = np.asarray(reference) + np.asarray(current)
    return bool(np.count_nonzero(both) >= 5 and both.max() <= both.sum() / 2)


def thin_places(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """Exact test of the places that are too thin for chi-square, counts (K,): the smallest two-sided hypergeometric
    p-value of one place against all others, times the number of thin places (Bonferroni). dof: how many there are.

    This is what sees a new level at 4 % of 500 rows, and what stays calm at one row in 500.
    """
    table = _table(reference, current)
    thin = None if table is None else _is_thin(table)
    if table is None or thin is None or not thin.any():
        return TestResult(0.0, 1.0)
    rows, now = int(table.sum()), table[1].sum()
    total, seen = table.sum(axis=0)[thin], table[1][thin]
    upper = stats.hypergeom.sf(seen - 1, rows, total, now)
    lower = stats.hypergeom.cdf(seen, rows, total, now)
    smallest = float(np.minimum(upper, lower).min())
    places = int(np.count_nonzero(thin))
    return TestResult(smallest, min(2 * smallest * places, 1.0), places)


def tails(reference: Mapping[int, int], current: Mapping[int, int]) -> TestResult:
    """Do more numbers lie beyond the reference's ends? On sketches (monitoring.drift.sketch), exact, two-sided.

    Ten quantile bins cannot see that one row of twenty is a thousand times as large: its bin holds a tenth anyway. For both
    ends and three cuts (beyond all of the reference, beyond its outermost 0.1 % and 1 %) the count of current numbers beyond the
    cut is compared with the law it has when both are draws of one distribution: the number of current values that precede the
    j-th outermost of the reference, a negative hypergeometric one. Cuts lie between the sketch's buckets, so ties count as calm.
    statistic: the largest count beyond a cut that was seen; dof: the cuts. Nothing to compare: p is 1.
    """
    n, m = sum(reference.values()), sum(current.values())
    if not n or not m:
        return TestResult(0.0, 1.0)
    ends = [_beyond(reference, current, share * n, side) for side in (1, -1) for share in TAIL_SHARES]
    before, now = np.array(ends).T
    p_values = np.where(now > 0, stats.hypergeom.sf(now - 1, n + m, m, before + now), 1.0)
    return TestResult(float(now.max()), min(float(p_values.min()) * len(ends), 1.0), len(ends))


def _beyond(reference: Mapping[int, int], current: Mapping[int, int], at_most: float, side: int) -> tuple[int, int]:
    """Rows of both beyond the innermost bucket edge that leaves at most so many of the reference outside. side: 1 above, -1 below."""
    outside, cut = 0, 0
    for cut in sorted(reference, reverse=side > 0):
        if outside + reference[cut] > at_most:
            break
        outside += reference[cut]
    return outside, sum(count for key, count in current.items() if (key - cut) * side > 0)


def binned(reference: ArrayLike, current: ArrayLike) -> TestResult:
    """The calibrated test of homogeneity on counts (K,) for small alpha; statistic and dof are Pearson's.

    Thin places are pooled for chi-square and tested exactly one by one beside it. p = the larger of Pearson's and the
    likelihood ratio's (see the module's text), or the exact one: the smaller of the two, times two when both ran.
    """
    table = _table(reference, current)
    if table is None:
        return TestResult(0.0, 1.0)
    pooled = _pooled(table)
    pearson, ratio = chi2_homogeneity(*pooled), g_test(*pooled)
    p_value = max(pearson.p_value, ratio.p_value)
    exact = thin_places(*table)
    if exact.dof:
        p_value = min(2 * min(p_value, exact.p_value), 1.0)
    return TestResult(pearson.statistic, p_value, pearson.dof)


def harmonic(*weighted: tuple[float, float]) -> float:
    """The harmonic mean of p-values (Wilson 2019, PNAS 116:1195), given as (weight, p): one p for tests that look at the same rows.

    At most the Bonferroni bound p / (share of its weight), and below it where several tests see the same thing; its level is exact
    as alpha goes to 0, however the tests depend on each other. Measured on clean columns: see the module's text. Raises
    ValueError for none, or weights not above 0.
    """
    if not weighted or min(weight for weight, _ in weighted) <= 0:
        raise ValueError("no p-values to combine, or a weight that is not above 0")
    if min(p for _, p in weighted) <= 0:
        return 0.0
    return sum(weight for weight, _ in weighted) / sum(weight / p for weight, p in weighted)


def _table(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64] | None:
    """The 2 x K table without places empty on both sides; None when there is nothing to compare."""
    table = np.stack([np.asarray(reference, dtype=np.float64), np.asarray(current, dtype=np.float64)])
    if table.ndim != 2 or (table < 0).any() or not np.isfinite(table).all():
        raise ValueError("counts must be two vectors of finite numbers, none below 0")
    table = table[:, table.sum(axis=0) > 0]
    return None if table.shape[1] < 2 or (table.sum(axis=1) == 0).any() else table


def _expected(table: NDArray[np.float64]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    return result


def _is_thin(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    result: NDArray[np.bool_] = _expected(table).min(axis=0) < LEAST_EXPECTED
    return result


def _pooled(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The table with its thin places added up to one; if that is thin still, it joins the smallest other place."""
    thin = _is_thin(table)
    if not thin.any():
        return table
    full, rest = table[:, ~thin], table[:, thin].sum(axis=1, keepdims=True)
    pooled = np.hstack([full, rest])
    if full.shape[1] and _is_thin(pooled)[-1]:
        smallest = int(full.sum(axis=0).argmin())
        full[:, smallest] += rest[:, 0]
        return full
    return pooled
