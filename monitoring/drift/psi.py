"""Population stability index over counts, and the number of rows from which a fixed PSI limit may speak.

Convention (agrees with feature_engine and probatus on numbers, and with Evidently on categories):
PSI = sum (q - p) ln(q / p), p the reference's shares, q the current ones; a zero share becomes 1e-4, without
renormalising. Missing, unseen and wrong-type values are places like any other.

All functions take counts of shape (..., K) and broadcast over the leading axes: a whole table of columns with the same
K, or a series of hours against one baseline, is one call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

ZERO_SHARE = 1e-4


def shares(counts: ArrayLike) -> NDArray[np.float64]:
    """Counts (..., K) as shares of the rows (..., K), zero where the count is. Raises ValueError where a row of
    counts sums to 0, or has a negative or non-finite count."""
    array = np.asarray(counts, dtype=np.float64)
    if array.ndim == 0 or not np.isfinite(array).all() or (array < 0).any():
        raise ValueError("counts must be a vector of finite numbers, none below 0")
    total = array.sum(axis=-1, keepdims=True)
    if (total <= 0).any():
        raise ValueError("no rows: a share needs at least one")
    result: NDArray[np.float64] = array / total
    return result


def floored_shares(counts: ArrayLike) -> NDArray[np.float64]:
    """Shares (..., K) with 1e-4 in the place of every zero, not renormalised. Raises ValueError as `shares`."""
    share = shares(counts)
    return np.where(share == 0, ZERO_SHARE, share)


def psi_parts(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64]:
    """What each place adds to the PSI: (q - p) ln(q / p), shape (..., K), every part >= 0. Raises as `shares`."""
    p, q = floored_shares(reference), floored_shares(current)
    result: NDArray[np.float64] = (q - p) * np.log(q / p)
    return result


def psi(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64]:
    """PSI of current against reference counts, both (..., K): shape (...), >= 0, no unit; 0 for equal shares.

    Only for equal K and bins; raises ValueError for no rows on either side, negative counts, or shapes that do not
    broadcast.
    """
    result: NDArray[np.float64] = psi_parts(reference, current).sum(axis=-1)
    return result


def effective_rows(reference_rows: float, current_rows: float) -> float:
    """n m / (n + m): the rows that count when n are compared with m. 0 when either is 0."""
    total = reference_rows + current_rows
    return reference_rows * current_rows / total if total else 0.0


def rows_for_limit(limit: float, bins: int, alpha: float) -> float:
    """Effective rows from which PSI > limit happens by chance with probability at most alpha.

    Without drift PSI ~ (1/n + 1/m) chi2(bins - 1) (Yurdakul 2018, "Statistical properties of the population stability
    index"). 139 for limit 0.2, 279 for 0.1 at 10 bins and alpha 0.001. Raises ValueError for limit <= 0 or alpha
    outside (0, 1).
    """
    if limit <= 0 or not 0 < alpha < 1:
        raise ValueError("the limit must be above 0, alpha between 0 and 1")
    return float(special.chdtri(max(bins - 1, 1), alpha)) / limit


def may_speak(reference: ArrayLike, current: ArrayLike, limit: float, alpha: float) -> bool:
    """Whether a fixed PSI limit means something for these counts (K,): enough effective rows for the places in use."""
    before, now = np.asarray(reference), np.asarray(current)
    used = int(np.count_nonzero(before + now))
    return effective_rows(float(before.sum()), float(now.sum())) >= rows_for_limit(limit, used, alpha)
