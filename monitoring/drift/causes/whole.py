"""The causes of a moved window, all columns and rows together: what happened, to which columns, and where from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift.bins import ColumnBins
from monitoring.drift.causes import likely_causes, origin, tables, texts
from monitoring.drift.causes.cause import Cause, Change
from monitoring.drift.causes.words import part
from monitoring.drift.strange import is_strange, strangeness
from monitoring.drift.tally import Tally

SOURCES = {"key": "with key {}…", "hour": "in the hour from {}", "via": "by way of {}"}
# Copies of rows are the cause when without them so little of the change is left.
LEFT_WITHOUT_COPIES = 0.6
FEWEST_DIFFERENT = 30


@dataclass(frozen=True)
class Sampled:
    """One input column: its tallies, and raw values of a sample of rows a side, (n,) and (m,), the same rows for all."""

    name: str
    bins: ColumnBins
    reference: Tally
    current: Tally
    before: Sequence[Any] = ()
    now: Sequence[Any] = ()

    @property
    def change(self) -> Change:
        return Change(self.bins, self.reference, self.current, self.before, self.now)


@dataclass
class Explanation:
    """causes: per moved column, the likeliest first. table: of the whole table, before them. hints: what
    else was seen, that is no drift by itself. origin: the one source of
    the moved rows. strange: which rows of now are unlike the reference, (m,); usual: share of such among the
    reference's."""

    causes: dict[str, list[Cause]] = field(default_factory=dict)
    table: list[Cause] = field(default_factory=list)
    hints: list[Cause] = field(default_factory=list)
    origin: origin.Origin | None = None
    strange: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, dtype=bool))
    usual: float = 0.0


def explain(
    columns: Sequence[Sampled], moved: Sequence[str], groups: Mapping[str, Sequence[str]] | None = None
) -> Explanation:
    """What happened to the moved columns. columns: all inputs. moved: names, the most important first. groups: of each
    row of now its "key", "hour" and "via", as far as known. Without samples only the tallies speak."""
    by_name = {column.name: column for column in columns}
    wanted = [by_name[name] for name in moved if name in by_name]
    found = Explanation()
    sampled = [column for column in wanted if len(column.now) and len(column.before)]
    if sampled:
        _look_at_rows(found, columns, sampled, groups or {})
    narrowed = _of_source(found, wanted, groups or {})
    swaps = tables.exchanged({column.name: column.change for column in sampled})
    partners = {name: (pair, each) for pair in swaps for name, each in pair.pairs()}
    for column in narrowed:
        told = likely_causes(column.bins, column.reference, column.current, column.before, column.now)
        is_narrowed = column is not by_name[column.name]
        found.causes[column.name] = [_of_its_rows(cause, found.origin) if is_narrowed else cause for cause in told]
        if column.name in partners:
            pair, holds = partners[column.name]
            best = found.causes[column.name][:1]
            if not best or not _is_plainer(best[0], pair):
                found.causes[column.name].insert(0, _swapped(pair, holds))
    kept = [pair for pair in swaps if all(_says(found.causes[name], "swapped_columns") for name in pair.columns)]
    for pair in swaps:
        if pair not in kept:
            for name in pair.columns:
                found.causes[name] = [each for each in found.causes[name] if each.code != "swapped_columns"]
    clocks = [
        texts.other_zone(column.name, column.before, column.now) for column in columns if column.bins.kind == "datetime"
    ]
    found.table = [pair.cause() for pair in kept] + found.table
    found.hints = [cause for cause in clocks if cause]
    return found


def _of_its_rows(cause: Cause, source: origin.Origin | None) -> Cause:
    """The cause of one source's rows, said as such; its share is that of all rows."""
    if source is None:
        return cause
    sentence = f"of the rows {SOURCES[source.kind].format(source.value)}, {cause.sentence}"
    return replace(cause, sentence=sentence, share=cause.share * source.of_all)


def _is_plainer(cause: Cause, pair: tables.Exchanged) -> bool:
    """Whether the column alone tells more: a value that stands in every row is no other column's."""
    return cause.code in ("constant", "column_missing") or cause.share > 2 * pair.share


def _says(causes: Sequence[Cause], code: str) -> bool:
    return any(cause.code == code for cause in causes)


def _swapped(pair: tables.Exchanged, holds: str) -> Cause:
    sentence = f"{part(pair.share)} are those of `{holds}`: the columns may be swapped"
    return Cause("swapped_columns", sentence, pair.share, 1.6 * pair.share, {"other": holds, "share": pair.share})


def _look_at_rows(
    found: Explanation, columns: Sequence[Sampled], moved: Sequence[Sampled], groups: Mapping[str, Sequence[str]]
) -> None:
    before, now = ({column.name: side(column) for column in moved} for side in (_before, _now))
    was, is_now = strangeness(before, now)
    found.strange, found.usual = is_strange(is_now), float(is_strange(was).mean())
    found.origin = origin.one_source(found.strange, found.usual, groups, SOURCES)
    everything = [column for column in columns if len(column.now) == is_now.size and len(column.before) == was.size]
    sides = [{column.name: side(column) for column in everything} for side in (_before, _now)]
    copies = tables.repeated(sides[0], sides[1])
    if copies is not None and _calm_without_copies(moved, sides[1]):
        found.table.append(copies)


def _before(column: Sampled) -> Sequence[Any]:
    return column.before


def _now(column: Sampled) -> Sequence[Any]:
    return column.now


def _calm_without_copies(moved: Sequence[Sampled], now: Mapping[str, Sequence[Any]]) -> bool:
    """Whether most of the change goes when each row is counted once. Then the copies made it."""
    first = tables.without_copies(now)
    if len(first) < FEWEST_DIFFERENT:
        return len(moved) > 1
    whole, left = 0.0, 0.0
    for column in moved:
        whole += _distance(column, column.now)
        left += _distance(column, [column.now[place] for place in first])
    return left <= LEFT_WITHOUT_COPIES * whole


def _distance(column: Sampled, values: Sequence[Any]) -> float:
    """Total variation distance of the values from the reference, on the column's bins."""
    now, before = column.bins.count(values), column.reference.counts
    return float(np.abs(now / max(now.sum(), 1) - before / max(before.sum(), 1)).sum() / 2)


def _of_source(found: Explanation, moved: Sequence[Sampled], groups: Mapping[str, Sequence[str]]) -> list[Sampled]:
    """The moved columns; where one source brought the change, with its rows alone: a part becomes all, and is plain."""
    source = found.origin
    if source is None:
        return list(moved)
    of_rows = groups[source.kind]
    mine = [place for place, value in enumerate(of_rows) if value == source.value]
    if len(mine) < 2 * origin.FEWEST_ROWS:
        return list(moved)
    return [_cut(column, mine) if len(column.now) == len(of_rows) else column for column in moved]


def _cut(column: Sampled, places: Sequence[int]) -> Sampled:
    now = [column.now[place] for place in places]
    return Sampled(column.name, column.bins, column.reference, column.bins.tally(now), column.before, now)
