"""Which rows are unlike the reference: those that are far more likely now than they were before, by the columns that moved."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import values as raw

Values = Sequence[Any]
# A row is strange when it is at least so many times as likely now as before.
TIMES = 2.0
BINS = 20
MOST_LEVELS = 200


def strangeness(
    before: Mapping[str, Values], now: Mapping[str, Values]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How many times (natural logarithm) each row is more likely now than before: (n,) of the reference's, (m,) of now.

    before, now: raw values of the moved columns by name, of one length a side. Of several columns the clearest one
    speaks for a row: a sum would count columns that move together several times over. (0,) where a side has no rows.
    """
    sides = [np.full(len(next(iter(side.values()), ())), -np.inf) for side in (before, now)]
    for name, values in before.items():
        for place, ratios in enumerate(_ratios(values, now[name])):
            sides[place] = np.maximum(sides[place], ratios)
    return sides[0], sides[1]


def is_strange(ratios: NDArray[np.float64]) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = ratios >= math.log(TIMES)
    return found


def _ratios(before: Values, now: Values) -> list[NDArray[np.float64]]:
    """log of (share now / share before) of the place each value falls in, both sides."""
    places = _places(before, now)
    size = max((int(side.max()) for side in places if side.size), default=0) + 1
    counts = [np.bincount(side, minlength=size) + 0.5 for side in places]
    ratio = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    return [ratio[side] for side in places]


def _places(before: Values, now: Values) -> list[NDArray[np.int64]]:
    """A place for each value: bins of the reference's numbers (with places below and above all of them), or levels."""
    numbers = [value for value in before if _is_number(value)]
    if len(numbers) > 0.5 * max(sum(value is not None for value in before), 1) and len(set(numbers)) > BINS:
        ordered = np.array(numbers, dtype=np.float64)
        inner = np.unique(np.quantile(ordered, np.linspace(0, 1, BINS + 1)))
        return [np.array([_bin(value, inner) for value in side], dtype=np.int64) for side in (before, now)]
    named = [[_level(value) for value in side] for side in (before, now)]
    common = [level for level, _ in (Counter(named[0]) + Counter(named[1])).most_common(MOST_LEVELS)]
    known = {level: place + 1 for place, level in enumerate(common)}
    return [np.array([known.get(level, 0) for level in side], dtype=np.int64) for side in named]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and value == value


def _bin(value: Any, edges: NDArray[np.float64]) -> int:
    """0 is missing, 1 another type, 2 below all, then the bins, the last above all."""
    if value is None or value != value:
        return 0
    if not _is_number(value):
        return 1
    return 2 + int(np.searchsorted(edges, float(value), side="left"))


def _level(value: Any) -> str:
    if value is None or value != value:
        return "\x00missing"
    return raw.level_name(value)
