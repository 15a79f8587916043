"""From how many rows on a fixed PSI limit may speak."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy import special


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
