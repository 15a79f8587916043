"""Distances between two distributions: Jensen-Shannon and Hellinger over counts, Wasserstein over numbers.

Counts are (..., K) and broadcast over the leading axes; both raise ValueError for no rows or negative counts. Shares
are not floored here: these distances are finite with empty places.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

from monitoring.drift.bins import ColumnBins
from monitoring.drift.psi import shares
from monitoring.drift.tally import Tally, finite

# Below this spread the normed Wasserstein distance would explode; the value is Evidently's.
LEAST_SPREAD = 0.001


def jensen_shannon(reference: ArrayLike, current: ArrayLike, base: float = np.e) -> NDArray[np.float64]:
    """Jensen-Shannon distance, the square root of the divergence: shape (...), 0 to sqrt(log_base 2).

    base e as Evidently (at most 0.833), base 2 as NannyML (at most 1).
    """
    p, q = shares(reference), shares(current)
    middle = (p + q) / 2
    divergence = (special.rel_entr(p, middle) + special.rel_entr(q, middle)).sum(axis=-1) / 2
    result: NDArray[np.float64] = np.sqrt(np.maximum(divergence, 0) / np.log(base))
    return result


def hellinger(reference: ArrayLike, current: ArrayLike) -> NDArray[np.float64]:
    """Hellinger distance sqrt(1 - sum sqrt(p q)): shape (...), 0 (equal) to 1 (nothing in common)."""
    overlap = np.sqrt(shares(reference) * shares(current)).sum(axis=-1)
    result: NDArray[np.float64] = np.sqrt(np.maximum(1 - overlap, 0))
    return result


def wasserstein(reference: ArrayLike, current: ArrayLike) -> float:
    """First Wasserstein distance of two samples (n,), (m,) of finite numbers, in the column's unit (scipy's).

    Raises ValueError for an empty sample.
    """
    return float(stats.wasserstein_distance(np.asarray(reference), np.asarray(current)))


def normed_wasserstein(reference: ArrayLike, current: ArrayLike) -> float:
    """Wasserstein distance of two samples divided by max(std of the reference (ddof=0), 0.001): in standard deviations
    of the reference. Raises ValueError for an empty sample."""
    return wasserstein(reference, current) / max(float(np.std(np.asarray(reference))), LEAST_SPREAD)


def wasserstein_of_tallies(bins: ColumnBins, reference: Tally, current: Tally) -> float | None:
    """Wasserstein distance in the column's unit from two tallies of `bins`; None where either holds no numbers.

    W1 is the integral of |F - G|. Inside a bin the integral of F - G follows exactly from the bin's count and sum, so
    the sum of its absolute values over the bins is a lower bound of W1, and equal to it when F and G do not cross
    inside a bin (always for a plain shift). No samples needed. Works on z, where nothing overflows.
    """
    before, now = reference.numbers, current.numbers
    if before is None or now is None or not before.rows or not now.rows or not bins.inner_edges:
        return None
    edges = (np.array(bins.inner_edges) - bins.center) / bins.scale
    gap = _cdf_integrals(edges, *_z_shares(bins, reference)) - _cdf_integrals(edges, *_z_shares(bins, current))
    return finite(float(np.abs(gap).sum()) * bins.scale)


def normed_wasserstein_of_tallies(bins: ColumnBins, reference: Tally, current: Tally) -> float | None:
    """wasserstein_of_tallies divided by max(std of the reference's tally (ddof=0), 0.001); None without numbers."""
    raw = wasserstein_of_tallies(bins, reference, current)
    spread = reference.numbers.std if reference.numbers else None
    return None if raw is None else finite(raw / max(spread or 0.0, LEAST_SPREAD))


def _z_shares(bins: ColumnBins, tally: Tally) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the numbers and share of the z-sum per value bin, both (value_bins,)."""
    rows = tally.counts[: bins.value_bins].astype(np.float64)
    z_bins = tally.numbers.z_bins if tally.numbers else ()
    return rows / rows.sum(), np.array(z_bins) / rows.sum()


def _cdf_integrals(
    edges: NDArray[np.float64], share: NDArray[np.float64], z_share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Integral of F over each inner bin, of F over the first, and of F - 1 over the last (both finite): (value_bins,).

    By parts: integral of F from a to b = b F(b) - a F(a) - (sum of the numbers in (a, b]) / rows.
    """
    below = np.cumsum(share)[:-1]  # F at each inner edge
    at_upper = np.append(edges * below, 0.0)
    at_lower = np.insert(edges * below, 0, 0.0)
    result: NDArray[np.float64] = at_upper - at_lower - z_share
    # last bin: the integral of F - 1 from the last edge on is edge (1 - F(edge)) - sum of its numbers
    result[-1] = edges[-1] * (1 - below[-1]) - z_share[-1]
    return result
