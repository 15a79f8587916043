"""The slice of rows where it is worst: over levels and ranges of columns, alone and in pairs.

Every slice is held against all other rows: the difference of the two shares in standard errors, corrected for how many
slices were looked at (Bonferroni). A beam search: pairs are made of the best single conditions (as Slice Finder, Chung
et al. 2019, does), so that the cost stays at a few thousand sums over a bounded sample.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from monitoring.drift import values as raw
from monitoring.drift.causes.words import number, percent

Mask = NDArray[np.bool_]

CUTS = (0.1, 0.25, 0.5, 0.75, 0.9)
MOST_LEVELS = 20
BEAM = 12
FEWEST_ROWS, FEWEST_SHARE = 20, 0.02
MOST_SHARE = 0.9  # a slice of nearly everything says nothing
ALPHA = 0.001
# A pair must be better than each of its halves by so much, or the half is told.
BETTER = 1.25


@dataclass(frozen=True)
class Condition:
    """column: its name. text: for a sentence. mask: the rows it holds for, (n,)."""

    column: str
    text: str
    mask: Mask


@dataclass(frozen=True)
class Slice:
    """inside, outside: share of hits in the slice and in all other rows; rows: in the slice; p_value: corrected."""

    conditions: tuple[str, ...]
    rows: int
    inside: float
    outside: float
    p_value: float
    mask: Mask

    def sentence(self, what: str) -> str:
        where = " and ".join(self.conditions)
        return (
            f"Worst where {where}: {percent(round(self.inside, 3))} of rows {what} "
            f"({percent(round(self.outside, 3))} elsewhere), {self.rows:,} rows"
        )

    def to_json(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("mask", "conditions")} | {
            "conditions": list(self.conditions)
        }


def worst(columns: Mapping[str, Sequence[Any]], hits: Mask) -> Slice | None:
    """The slice with the clearest excess of hits; None when none is beyond chance.

    columns: raw values by name, (n,) each: numbers are cut at quantiles, everything else is taken by levels. hits: (n,),
    whether a row is bad (unlike the reference, or answered wrongly). Raises ValueError for columns of other lengths.
    """
    rows = int(hits.size)
    if any(len(values) != rows for values in columns.values()):
        raise ValueError("every column needs one value per row")
    total = int(hits.sum())
    if rows < 2 * FEWEST_ROWS or not 0 < total < rows:
        return None
    singles = [each for name, values in columns.items() for each in conditions(name, values) if _is_sized(each.mask)]
    scored = sorted(((_score(each.mask, hits), each) for each in singles), key=lambda pair: -pair[0])
    best = [each for score, each in scored[:BEAM] if score > 0]
    pairs = [
        (a, b, mask)
        for place, a in enumerate(best)
        for b in singles
        if b.column != a.column and b not in best[:place] and _is_sized(mask := a.mask & b.mask)
    ]
    tried = max(len(singles) + len(pairs), 1)
    found = [_slice((each,), each.mask, hits, tried) for _, each in scored[:1]]
    if pairs:
        first, second, mask = max(pairs, key=lambda pair: _score(pair[2], hits))
        halves = max(_score(first.mask, hits), _score(second.mask, hits))
        if _score(mask, hits) > BETTER * halves or (
            _score(mask, hits) > halves and _purer(mask, (first, second), hits)
        ):
            found.insert(0, _slice((first, second), mask, hits, tried))
    return next((each for each in found if each.p_value <= ALPHA and each.inside > each.outside), None)


def conditions(name: str, values: Sequence[Any]) -> list[Condition]:
    """What can be said of one column's rows: ranges of numbers, levels of anything else, missing."""
    missing = np.array([value is None or value != value for value in values])
    numbers = np.array([_number(value) for value in values])
    known = numbers[~np.isnan(numbers)]
    found = [Condition(name, f"{name} is missing", missing)] if missing.any() else []
    if known.size > 0.5 * max(int((~missing).sum()), 1) and np.unique(known).size > MOST_LEVELS:
        cuts = np.unique(np.quantile(known, CUTS))
        for place, cut in enumerate(cuts):
            found.append(Condition(name, f"{name} > {number(float(cut))}", numbers > cut))
            found.append(Condition(name, f"{name} ≤ {number(float(cut))}", numbers <= cut))
            for end in cuts[place + 1 :]:
                between = f"{name} is over {number(float(cut))} up to {number(float(end))}"
                found.append(Condition(name, between, (numbers > cut) & (numbers <= end)))
        return found
    named = np.array([raw.level_name(value) for value in values], dtype=object)
    levels = Counter(named[~missing].tolist()).most_common(MOST_LEVELS)
    if len(levels) < 2 and not missing.any():
        return found
    return found + [Condition(name, f"{name} = {level[:60]}", (named == level) & ~missing) for level, _ in levels]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    return float(value)


def _is_sized(mask: Mask) -> bool:
    rows = int(mask.sum())
    return max(FEWEST_ROWS, FEWEST_SHARE * mask.size) <= rows <= MOST_SHARE * mask.size


def _score(mask: Mask, hits: Mask) -> float:
    """Standard errors between the share of hits inside and outside."""
    rows, others = int(mask.sum()), int(mask.size - mask.sum())
    if not rows or not others:
        return 0.0
    inside = int(np.count_nonzero(hits & mask))
    pooled = float(hits.mean())
    error = math.sqrt(pooled * (1 - pooled) * (1 / rows + 1 / others))
    return float((inside / rows - (int(hits.sum()) - inside) / others) / error)


def _purer(mask: Mask, halves: Sequence[Condition], hits: Mask) -> bool:
    """Whether the pair's share of hits is far above that of each half."""
    share = float(hits[mask].mean())
    return all(share > BETTER * float(hits[half.mask].mean()) for half in halves)


def _slice(chosen: tuple[Condition, ...], mask: Mask, hits: Mask, tried: int) -> Slice:
    score = _score(mask, hits)
    p_value = min(float(special.ndtr(-score)) * tried, 1.0)
    ordered = tuple(each.text for each in chosen)
    return Slice(ordered, int(mask.sum()), float(hits[mask].mean()), float(hits[~mask].mean()), p_value, mask)
