"""Population stability index over counts. Needs numpy only, so that pages and rules may ask for it too.

Convention (agrees with feature_engine and probatus on numbers, and with Evidently on categories):
PSI = sum (q - p) ln(q / p), p the reference's shares, q the current ones; a zero share becomes 1e-4, without
renormalising. Missing, unseen and wrong-type values are places like any other.

All functions take counts of shape (..., K) and broadcast over the leading axes: a whole table of columns with the same
K, or a series of hours against one baseline, is one call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
