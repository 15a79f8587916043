"""Causes that no single column shows: values that stand under another column's name, rows that come again and again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from monitoring.drift.causes.cause import Cause, Change
from monitoring.drift.causes.fits import Fitter, Guess
from monitoring.drift.causes.words import part, percent

MOST_COLUMNS = 12
# Share of rows that must be copies of another row, beyond what the reference's rows are among as many.
LEAST_COPIES = 0.15


@dataclass(frozen=True)
class Exchanged:
    """Columns whose values stand under each other's names, in order: each now holds the values of the next."""

    columns: tuple[str, ...]
    share: float

    def cause(self) -> Cause:
        names = " and ".join(f"`{name}`" for name in self.columns)
        if len(self.columns) == 2:
            sentence = f"{names} are swapped: each holds the other's values in {part(self.share, 'the rows')}"
        else:
            chain = ", ".join(f"`{name}` holds `{after}`" for name, after in self.pairs())
            sentence = f"{len(self.columns)} columns are out of step: {chain}"
        return Cause(
            "swapped_columns",
            sentence,
            self.share,
            1.6 * self.share,
            {"columns": list(self.columns), "share": self.share},
        )

    def pairs(self) -> list[tuple[str, str]]:
        return list(zip(self.columns, (*self.columns[1:], self.columns[0]), strict=True))


def exchanged(changes: Mapping[str, Change]) -> list[Exchanged]:
    """Swapped pairs, and longer rounds of columns that are out of step, among the moved ones; each column at most once."""
    names = list(changes)[:MOST_COLUMNS]
    fits: dict[str, dict[str, tuple[float, float]]] = {}
    for name in names:
        fits[name] = {other: fit for other in names if other != name and (fit := _holds(changes[name], changes[other]))}
    found: list[Exchanged] = []
    taken: set[str] = set()
    pairs = [(fits[a][b][1] + fits[b][a][1], a, b) for a in names for b in fits[a] if a < b and a in fits.get(b, {})]
    for _, first, second in sorted(pairs):
        shares = fits[first][second][0], fits[second][first][0]
        if first in taken or second in taken or abs(shares[0] - shares[1]) > 0.3:
            continue
        taken |= {first, second}
        found.append(Exchanged(tuple(each for each in names if each in (first, second)), sum(shares) / 2))
    left = [name for name in names if name not in taken]
    return found + _rounds(left, fits)


def _rounds(names: Sequence[str], fits: Mapping[str, Mapping[str, tuple[float, float]]]) -> list[Exchanged]:
    """Rounds of three and more: each holds the best-fitting other one's values, and the last the first's."""
    after = {
        name: min(found, key=lambda other: found[other][1])
        for name in names
        if (found := {other: fit for other, fit in fits[name].items() if other in names})
    }
    rounds, seen = [], set[str]()
    for start in after:
        chain, here = [start], after[start]
        while here in after and here not in chain and here not in seen:
            chain.append(here)
            here = after[here]
        if here == start and len(chain) >= 3 and not seen & set(chain):
            seen |= set(chain)
            shares = [fits[name][after[name]][0] for name in chain]
            rounds.append(Exchanged(tuple(chain), float(np.mean(shares))))
    return rounds


def _holds(change: Change, other: Change) -> tuple[float, float] | None:
    """(share of rows, cost) when a column's values now are partly the other column's of before."""
    if change.bins.kind == "numeric" and other.bins.kind == "numeric" and change.samples and other.samples:
        fitter = Fitter(*change.samples)
        fit = fitter.try_(Guess("swapped_columns", other.samples[0], 0.0, 0.15)) if fitter.moved else None
        return (fit.share, fit.cost) if fit else None
    if change.levels is not None and other.levels is not None:
        return _holds_levels(change.levels, other.levels[0])
    return _holds_strangers(change, other)


def _holds_levels(levels: tuple[Counter[str], Counter[str]], theirs: Counter[str]) -> tuple[float, float] | None:
    before, now = levels
    names = list(before | now | theirs)
    start, goal, end = (
        np.array([side[name] for name in names]) / max(sum(side.values()), 1) for side in (before, now, theirs)
    )
    direction = end - start
    length = float(direction @ direction)
    if length < 1e-6 or not sum(now.values()):
        return None
    share = min(max(float((goal - start) @ direction) / length, 0.0), 1.0)
    gap, whole = float(np.abs(goal - start - share * direction).max()), float(np.abs(goal - start).max())
    limit = max(2.6 * math.sqrt(0.25 / sum(now.values())), 0.12 * whole)
    return (share, gap) if share >= 0.15 and gap <= min(limit, 0.5 * whole) else None


def _holds_strangers(change: Change, other: Change) -> tuple[float, float] | None:
    """Values of another type than the column's, nearly all of which the other column knows."""
    index = change.bins.wrong_type_index
    share = change.share(index)[1]
    if share < 0.15 or not change.now_values:
        return None
    if change.bins.kind == "numeric" and other.levels is not None:
        strangers = [value for value in change.now_values if isinstance(value, str)]
        known = sum(value in other.levels[0] for value in strangers)
    elif other.bins.kind == "numeric" and other.samples is not None:
        low, high = float(other.samples[0].min()), float(other.samples[0].max())
        numbers = [each for each in change.now_values if isinstance(each, (int, float)) and not isinstance(each, bool)]
        return (share, 0.0) if numbers and sum(low <= each <= high for each in numbers) >= 0.8 * len(numbers) else None
    else:
        return None
    return (share, 0.0) if strangers and known >= 0.8 * len(strangers) else None


def repeated(before: Mapping[str, Sequence[Any]], now: Mapping[str, Sequence[Any]]) -> Cause | None:
    """Far more rows that are exact copies of another one than among as many of the reference's: a replay or a loop.

    before, now: all input columns by name, of one length a side. None when rows are few or have hardly any columns.
    """
    rows = [_rows(side) for side in (before, now)]
    if min(map(len, rows)) < 100:
        return None
    size = min(map(len, rows))
    was, is_now = (1 - len(set(_spread(side, size))) / size for side in rows)
    if is_now - was < LEAST_COPIES or was > 0.6:
        return None
    top, times = Counter(rows[1]).most_common(1)[0]
    known = set(rows[0])
    old = sum(row in known for row in rows[1]) / len(rows[1])
    again = f"; {percent(old)} of the rows are exact copies of reference rows" if old > 0.3 else ""
    sentence = (
        f"{percent(is_now)} of the rows are exact copies of another row (baseline {percent(was)}), "
        f"one came {times:,} times{again}: requests may be repeated or replayed"
    )
    share = is_now - was
    return Cause("repeated_rows", sentence, share, 1.45 * share, {"was": was, "is": is_now, "times": times, "old": old})


def without_copies(now: Mapping[str, Sequence[Any]]) -> list[int]:
    """Places of the rows that are the first of their kind."""
    seen: dict[tuple[Any, ...], int] = {}
    for place, row in enumerate(_rows(now)):
        seen.setdefault(row, place)
    return list(seen.values())


def _rows(columns: Mapping[str, Sequence[Any]]) -> list[tuple[Any, ...]]:
    return [tuple(map(_hashable, row)) for row in zip(*columns.values(), strict=True)]


def _hashable(value: Any) -> Any:
    return repr(value) if isinstance(value, (list, dict)) or value != value else value


def _spread(rows: Sequence[Any], size: int) -> list[Any]:
    places = np.linspace(0, len(rows) - 1, size).astype(int)
    return [rows[place] for place in places]
