"""A small additive histogram of magnitudes, exact to one part in eight, for quantiles and unit changes.

Decile bins of the reference say that values left the range, not how far. This sketch does: 20 buckets a decade of |x|
(each 12 % wide), a mirrored set for negative numbers, and one bucket for zero. Adding two sketches is adding counts,
so an hour, a day and a week have the same form. The idea is that of DDSketch (Masson et al. 2019, VLDB).

Keys: 0 is zero; +(k + OFFSET) holds 10**((k-1)/20) < x <= 10**(k/20); the negated key holds -x. |x| is clipped
to 1e-20 .. 1e20 (a smaller number is counted in the smallest bucket, never lost). Keys grow with the value.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

BUCKETS_PER_DECADE = 20
OFFSET = 401
TOP_KEY = 801
SIZE = 2 * TOP_KEY + 1

Sketch = dict[int, int]


def sketch_of(numbers: NDArray[np.float64]) -> Sketch:
    """Count `numbers` (shape (n,), no NaN; +-inf go to the outermost buckets) into a sparse sketch."""
    magnitude = np.clip(np.abs(numbers), 1e-20, 1e20)
    # 1e-9: a power of ten must not fall into the next bucket because its logarithm came out a hair too large
    level = np.ceil(np.log10(magnitude) * BUCKETS_PER_DECADE - 1e-9).astype(np.int64)
    keys = np.sign(numbers).astype(np.int64) * (np.clip(level, -400, 400) + OFFSET)
    counts = np.bincount(keys + TOP_KEY, minlength=SIZE)
    filled = np.flatnonzero(counts)
    return {int(index) - TOP_KEY: int(counts[index]) for index in filled}


def add(left: Mapping[int, int], right: Mapping[int, int]) -> Sketch:
    """The sketch of both sets of rows together."""
    merged = dict(left)
    for key, count in right.items():
        merged[key] = merged.get(key, 0) + count
    return dict(sorted(merged.items()))


def dense(sketch: Mapping[int, int]) -> NDArray[np.float64]:
    """Counts as a dense vector of shape (SIZE,), in order of value; index TOP_KEY is zero."""
    vector = np.zeros(SIZE)
    for key, count in sketch.items():
        vector[key + TOP_KEY] = count
    return vector


def value_of(key: int) -> float:
    """A number that stands for the bucket: its geometric middle."""
    if key == 0:
        return 0.0
    middle = 10.0 ** ((abs(key) - OFFSET - 0.5) / BUCKETS_PER_DECADE)
    return middle if key > 0 else -middle


def quantile(sketch: Mapping[int, int], q: float) -> float | None:
    """The q-quantile (0..1), off by at most 6 % of its value; None when nothing was counted."""
    total = sum(sketch.values())
    if not total:
        return None
    seen = 0
    for key in sorted(sketch):
        seen += sketch[key]
        if seen >= q * total:
            return value_of(key)
    return value_of(max(sketch))


def cdf_at(sketch: Mapping[int, int], factor: float) -> NDArray[np.float64]:
    """The cumulative share of the counted numbers times `factor`, at each bucket's upper edge: shape (SIZE,).

    A factor shifts every bucket by the same step on the log scale; a step that is not whole splits a bucket between
    its two neighbours. A negative factor mirrors. Raises ValueError for factor 0 or an empty sketch.
    """
    vector = dense(sketch)
    total = vector.sum()
    if factor == 0 or total == 0:
        raise ValueError("a sketch can be scaled only when it holds numbers, and not by 0")
    if factor < 0:
        vector = vector[::-1].copy()
    step = BUCKETS_PER_DECADE * float(np.log10(abs(factor)))
    whole = int(np.floor(step))
    part = step - whole
    positive = vector[TOP_KEY + 1 :]
    negative = vector[:TOP_KEY][::-1]
    moved = np.zeros(SIZE)
    moved[TOP_KEY] = vector[TOP_KEY]
    moved[TOP_KEY + 1 :] = (1 - part) * _shift(positive, whole) + part * _shift(positive, whole + 1)
    moved[:TOP_KEY] = ((1 - part) * _shift(negative, whole) + part * _shift(negative, whole + 1))[::-1]
    result: NDArray[np.float64] = np.cumsum(moved) / total
    return result


def _shift(vector: NDArray[np.float64], step: int) -> NDArray[np.float64]:
    """Move counts `step` places up; what would fall off an end stays in the last place."""
    target = np.clip(np.arange(vector.size) + step, 0, vector.size - 1)
    return np.bincount(target, weights=vector, minlength=vector.size).astype(np.float64)
