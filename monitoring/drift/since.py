"""Since when: the change point in a series of counts per hour (or any other step)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

# Half the 99 % quantile of chi2(1): hours whose log likelihood is this close to the best are as good an answer.
LIKELIHOOD_MARGIN = 3.32


@dataclass(frozen=True)
class ChangePoint:
    """The step at which a series left its baseline.

    index: the first step of the new state (0-based; a step with rows). earliest, latest: the steps that explain the
    counts nearly as well (99 % likelihood interval), earliest <= index <= latest. at_start: index is the first step
    with rows, so the change may be older than the series. rows_after: rows from index on. p_value: chance of a series
    this uneven without any change, over all steps tried.
    """

    index: int
    earliest: int
    latest: int
    at_start: bool
    rows_after: int
    p_value: float


def change_point(baseline: ArrayLike, steps: ArrayLike, alpha: float = 0.001) -> ChangePoint | None:
    """The step since which the counts no longer follow the baseline; None when no step is significant at alpha.

    baseline: counts (K,). steps: counts (H, K), in order of time, the newest last, empty steps allowed. For every step
    t the rows before it, together with the baseline, are taken as one distribution and the rows from t on as another;
    the t with the largest likelihood ratio (G = 2 sum O ln(O / E)) wins. p by chi2(K - 1), times the steps tried
    (Bonferroni). Exact to the step, not finer; a change that has ended again before the last step is found only as
    far as the rows since its beginning still differ. Raises ValueError for other shapes.
    """
    before = np.asarray(baseline, dtype=np.float64)
    series = np.asarray(steps, dtype=np.float64)
    if before.ndim != 1 or series.ndim != 2 or series.shape[1] != before.size:
        raise ValueError("the baseline must be (K,) and the steps (H, K)")
    filled = np.flatnonzero(series.sum(axis=1))
    places = int(np.count_nonzero(before + series.sum(axis=0)))
    if not filled.size or not before.sum() or places < 2:
        return None
    ratio = _likelihood_ratios(before, series[filled])
    best = int(ratio.argmax())
    p_value = min(float(special.chdtrc(places - 1, ratio[best])) * filled.size, 1.0)
    if p_value > alpha:
        return None
    near = np.flatnonzero(ratio / 2 >= ratio[best] / 2 - LIKELIHOOD_MARGIN)
    return ChangePoint(
        index=int(filled[best]),
        earliest=int(filled[near[0]]),
        latest=int(filled[near[-1]]),
        at_start=best == 0,
        rows_after=int(series[filled[best] :].sum()),
        p_value=p_value,
    )


def _likelihood_ratios(before: NDArray[np.float64], series: NDArray[np.float64]) -> NDArray[np.float64]:
    """G of "baseline and earlier steps" against "this step and later", for every step: (H,)."""
    everything = before + series.sum(axis=0)
    later = np.cumsum(series[::-1], axis=0)[::-1]
    earlier = everything - later
    result: NDArray[np.float64] = 2 * (_log_likelihood(earlier) + _log_likelihood(later) - _log_likelihood(everything))
    return np.maximum(result, 0.0)


def _log_likelihood(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of counts (..., K) under their own shares, up to a constant: (...)."""
    result: NDArray[np.float64] = special.xlogy(counts, counts).sum(axis=-1) - special.xlogy(
        counts.sum(axis=-1), counts.sum(axis=-1)
    )
    return result
