"""Rows of mixed columns as a table of numbers in which only how columns move together is left.

Smooth numbers and text lengths become normal scores of their mid-ranks within their own side (reference, current): a column that only
shifted or scaled looks as before; its own test tells of that. What takes few values (levels, small counts) gets the same scores
on both sides, for scores of their own would tell the sides apart by themselves; what is made of them is centred per side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from monitoring.drift import values as raw
from monitoring.drift.bins import ColumnBins
from monitoring.drift.values import Values

# So many dimensions at most, in the order of the columns: pairs grow with their square.
MAX_DIMENSIONS = 20
LEVELS_PER_COLUMN = 5
# A level (or its absence) rarer than this on a side has too few rows to say with what it moves.
LEAST_SHARE = 0.02
# A column that is missing so much more or less often than before is left to its own test.
MISSING_GAP = 0.05
# A dimension that varies less than this on a side (in standard deviations of both) says nothing there.
LEAST_SPREAD = 0.1
# A number is smooth when no single value holds more of the rows than this.
LARGEST_TIE = 0.1
# Scores further out depend on how many rows a side has.
_LARGEST_SCORE = 2.5


@dataclass(frozen=True)
class Table:
    """Both sides over the same dimensions. before (n, d), now (m, d): mean 0 and variance 1 over what is there (of the side where smooth,
    of both together where not), NaN where it is missing. columns (d): the column each dimension comes from. labels (d):
    its name for people. smooth (d): whether it is a number of many values. left_out: columns that could not be used."""

    before: NDArray[np.float64]
    now: NDArray[np.float64]
    columns: tuple[str, ...]
    labels: tuple[str, ...]
    smooth: tuple[bool, ...]
    left_out: tuple[str, ...]


def encode(reference: Mapping[str, Values], current: Mapping[str, Values], bins: Mapping[str, ColumnBins]) -> Table:
    """Encode the columns of `bins` that both sides have; rows of a side are aligned, all its columns equally long.

    Datetimes, counters, constants and columns that are missing otherwise than before are left out.
    """
    found: list[tuple[str, str, bool, NDArray[np.float64], NDArray[np.float64]]] = []
    left_out = []
    for name, own in bins.items():
        made = _dimensions(own, reference.get(name), current.get(name))
        if not made:
            left_out.append(name)
        found += [(name, f"`{name}`{label}", smooth, before, now) for label, smooth, before, now in made]
    kept = found[:MAX_DIMENSIONS]
    names = {each[0] for each in kept}
    left_out += [name for name in dict.fromkeys(each[0] for each in found) if name not in names]
    return Table(
        before=_stacked([each[3] for each in kept]),
        now=_stacked([each[4] for each in kept]),
        columns=tuple(each[0] for each in kept),
        labels=tuple(each[1] for each in kept),
        smooth=tuple(each[2] for each in kept),
        left_out=tuple(left_out),
    )


def _stacked(dimensions: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.column_stack(dimensions) if dimensions else np.zeros((0, 0))


def _dimensions(
    bins: ColumnBins, reference: Values | None, current: Values | None
) -> list[tuple[str, bool, NDArray[np.float64], NDArray[np.float64]]]:
    """(what follows the column's name, smooth, before, now) for each dimension of one column."""
    if reference is None or current is None or not len(reference) or not len(current):
        return []
    if bins.is_ordered:
        sides = [_numbers(bins, values) for values in (reference, current)]
        return _scored(sides[0], sides[1])
    return _indicators(bins, reference, current) if bins.has_levels else []


def _numbers(bins: ColumnBins, values: Values) -> NDArray[np.float64]:
    """The values in their places, NaN for what is missing or no number."""
    family = "number" if bins.kind == "numeric" else "string"
    plain: list[Any] = values.tolist() if isinstance(values, np.ndarray) else list(values)
    kinds = {kind: raw.family_of(kind) for kind in set(map(type, plain))}
    if family == "string":
        return np.array([len(each) if kinds[type(each)] == family else np.nan for each in plain], dtype=np.float64)
    return raw.floats([each if kinds[type(each)] == family else None for each in plain])


def _scored(
    before: NDArray[np.float64], now: NDArray[np.float64]
) -> list[tuple[str, bool, NDArray[np.float64], NDArray[np.float64]]]:
    if abs(np.isnan(before).mean() - np.isnan(now).mean()) > MISSING_GAP:
        return []
    smooth = max(map(_largest_tie, (before, now))) <= LARGEST_TIE
    if smooth:
        sides = [_standard(_normal_scores(side)) for side in (before, now)]
        return [("", True, sides[0], sides[1])]
    return _same_scores("", before, now, _normal_scores(np.concatenate([before, now])))


def _largest_tie(x: NDArray[np.float64]) -> float:
    """The share of the most frequent number; 1 where there is none."""
    there = x[~np.isnan(x)]
    return float(np.unique(there, return_counts=True)[1].max()) / there.size if there.size else 1.0


def _same_scores(
    label: str, before: NDArray[np.float64], now: NDArray[np.float64], scores: NDArray[np.float64]
) -> list[tuple[str, bool, NDArray[np.float64], NDArray[np.float64]]]:
    """A dimension scored over both sides together, unless it is constant on one of them."""
    both = _standard(scores)
    sides = both[: len(before)], both[len(before) :]
    if any(np.isnan(side).all() or np.nanstd(side) < LEAST_SPREAD for side in sides):
        return []
    return [(label, False, *sides)]


def _normal_scores(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Phi^-1((mid-rank - 0.5) / n) of the numbers, kept within 2.5; NaN stays NaN."""
    ranks = stats.rankdata(x, nan_policy="omit")
    rows = int(np.count_nonzero(~np.isnan(x)))
    scores: NDArray[np.float64] = special.ndtri((ranks - 0.5) / max(rows, 1))
    return np.clip(scores, -_LARGEST_SCORE, _LARGEST_SCORE)


def _standard(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean 0 and variance 1 over what is there; a constant becomes 0."""
    there = x[~np.isnan(x)]
    if not there.size:
        return x
    return (x - there.mean()) / (float(there.std()) or 1.0)


def _indicators(
    bins: ColumnBins, reference: Values, current: Values
) -> list[tuple[str, bool, NDArray[np.float64], NDArray[np.float64]]]:
    texts = [np.array([_level(bins, each) for each in values], dtype=object) for values in (reference, current)]
    missing = [np.array([each is None for each in side]) for side in texts]
    if abs(missing[0].mean() - missing[1].mean()) > MISSING_GAP:
        return []
    made = []
    levels = bins.levels[1:2] if len(bins.levels) == 2 else bins.levels[:LEVELS_PER_COLUMN]
    for level in levels:
        sides = [
            np.where(gone, np.nan, side == level).astype(np.float64) for side, gone in zip(texts, missing, strict=True)
        ]
        shares = [float(np.nanmean(side)) if not np.isnan(side).all() else 0.0 for side in sides]
        if min(shares) < LEAST_SHARE or max(shares) > 1 - LEAST_SHARE:
            continue
        made += _same_scores(f" = “{level[:40]}”", sides[0], sides[1], np.concatenate(sides))
    return made


def _level(bins: ColumnBins, value: Any) -> str | None:
    if (
        value is None
        or value != value
        or raw.family_of(type(value)) not in (bins.families or {"string", "number", "boolean"})
    ):
        return None
    return raw.level_name(value)
