"""Kullback-Leibler divergence over counts, with the bins and the zero share of psi.py."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from monitoring.drift.psi import floored_shares


def kl(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64]:
    """KL(reference || current) = sum p ln(p / q) in nats, for counts (..., K): shape (...).

    A zero share becomes 1e-4 without renormalising, so a value a little below 0 is possible when places are empty.
    Raises ValueError for no rows on either side or negative counts.
    """
    p, q = floored_shares(reference), floored_shares(current)
    result: NDArray[np.float64] = (p * np.log(p / q)).sum(axis=-1)
    return result
