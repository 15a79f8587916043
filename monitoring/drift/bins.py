"""ColumnBins: how one column is cut into bins, fitted once on the reference, counted with ever after.

    bins = fit(reference_values, "numeric")
    baseline = bins.tally(reference_values)      # both are stored as JSON
    hour = bins.tally(values_of_that_hour)       # additive: hour + hour == tally of both
    bins.labels                                  # a name for each place in hour.counts

Order of the places, which `counts`, `labels` and every divergence share:
    numeric, text    the value bins, "missing", "wrong type"
    categorical,
    boolean          the levels, "other", "unseen", "missing", "wrong type"
    datetime,
    counter          "present", "missing", "wrong type"
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import values as raw
from monitoring.drift.sketch import sketch_of
from monitoring.drift.tally import LARGEST, MAX_Z, Numbers, Tally, most_frequent_levels
from monitoring.drift.values import NumberColumn, Values

Kind = Literal["numeric", "categorical", "boolean", "text", "datetime", "counter"]

QUANTILE_BINS = 10
# A level of its own for the 50 most frequent values of the reference; the others it had share the bin "other".
MAX_LEVELS = 50
# Beyond this many distinct values "never seen" says nothing: the column is open, and new values are "other" as well.
MAX_KNOWN_LEVELS = 1000


@dataclass(frozen=True)
class ColumnBins:
    """The bins of one column.

    kind: numeric (value bins), text (value bins over the length in characters), categorical and boolean (levels),
    datetime and counter (present or not: what moves with the clock drifts by nature and is not compared).
    inner_edges: finite, ascending; bin i is (edge i-1, edge i], the outer bins reach to +-inf.
    levels: up to MAX_LEVELS, most frequent first. rare_levels: the reference's other levels, counted as "other".
    open_levels: more than MAX_KNOWN_LEVELS distinct values; a value of no level is "other", and none is "unseen".
    families: the JSON types the reference had, for level columns; another type is "wrong type".
    center, scale: mean and standard deviation (ddof=0; 1 when it is 0) of the reference's finite numbers.
    """

    kind: Kind
    inner_edges: tuple[float, ...] = ()
    levels: tuple[str, ...] = ()
    rare_levels: frozenset[str] = frozenset()
    open_levels: bool = False
    families: frozenset[str] = frozenset()
    center: float = 0.0
    scale: float = 1.0

    @property
    def is_ordered(self) -> bool:
        """Whether the value bins are ordered (numbers and text lengths), so that KS and Wasserstein mean something."""
        return self.kind in ("numeric", "text")

    @property
    def has_levels(self) -> bool:
        return self.kind in ("categorical", "boolean")

    @property
    def edges(self) -> NDArray[np.float64]:
        """All edges with -inf and +inf outside, shape (value_bins + 1,); only for numeric and text."""
        return np.array([-np.inf, *self.inner_edges, np.inf])

    @property
    def value_bins(self) -> int:
        """How many leading places of `counts` hold values (levels without "other" and "unseen")."""
        if self.is_ordered:
            return len(self.inner_edges) + 1
        return len(self.levels) if self.has_levels else 1

    @property
    def other_index(self) -> int | None:
        return self.value_bins if self.has_levels else None

    @property
    def unseen_index(self) -> int | None:
        return self.value_bins + 1 if self.has_levels else None

    @property
    def missing_index(self) -> int:
        return len(self.labels) - 2

    @property
    def wrong_type_index(self) -> int:
        return len(self.labels) - 1

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """A name for each place of `counts`."""
        if self.is_ordered:
            names = _range_labels(self.inner_edges)
        elif self.has_levels:
            names = [*(level[:80] or "(empty)" for level in self.levels), "other", "unseen"]
        else:
            names = ["present"]
        return (*names, "missing", "wrong type")

    @cached_property
    def bins_id(self) -> str:
        """Twelve hex digits that name these bins; counts of different bins do not mix."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def count(self, values: Values) -> NDArray[np.int64]:
        """How many of the values (a list with None, or an array, of any length) fall in each place of `labels`.

        int64, shape (len(labels),), exact and additive: count(a) + count(b) == count(a + b), and it sums to
        len(values). None and NaN are missing. Never raises for a strange value: that is "wrong type".
        """
        return self.tally(values).counts

    def tally(self, values: Values) -> Tally:
        """Counts as `count`, with the additive summary of numbers, the names of new levels and of wrong types."""
        if self.is_ordered:
            return self._tally_numbers(raw.as_numbers(values) if self.kind == "numeric" else raw.as_lengths(values))
        return self._tally_levels(values) if self.has_levels else self._tally_presence(values)

    def absent(self, rows: int) -> Tally:
        """The tally of `rows` rows in which the whole column was not there: all missing."""
        return self.tally([None] * rows)

    def empty(self) -> Tally:
        """The tally of no rows: what to start adding from."""
        return self.tally([])

    def _tally_numbers(self, column: NumberColumn) -> Tally:
        x = column.numbers
        place = np.searchsorted(np.array(self.inner_edges), x, side="left")  # "left" makes the bins (a, b]
        value_counts = np.bincount(place, minlength=self.value_bins)
        counts = np.append(value_counts, [column.missing, sum(column.wrong_types.values())]).astype(np.int64)
        with np.errstate(over="ignore"):
            z = np.clip((x - self.center) / self.scale, -MAX_Z, MAX_Z)
        ends = np.clip([x.min(), x.max()], -LARGEST, LARGEST).tolist() if x.size else [None, None]
        numbers = Numbers(
            center=self.center,
            scale=self.scale,
            rows=int(x.size),
            z_sum=float(z.sum()),
            z_squares=float(np.dot(z, z)),
            z_bins=tuple(np.bincount(place, weights=z, minlength=self.value_bins).tolist()),
            minimum=ends[0],
            maximum=ends[1],
            sketch=sketch_of(x),
        )
        return Tally(self.bins_id, counts, numbers=numbers, wrong_types=column.wrong_types)

    def _tally_levels(self, values: Values) -> Tally:
        missing, split = raw.take_missing(raw.by_family(values))
        wrong = {name: len(found) for name, found in split.items() if not self._is_own(name)}
        level_counts: Counter[str] = Counter()
        for name, found in split.items():
            if self._is_own(name):
                level_counts.update(raw.level_counts(found, name))
        own = [level_counts.pop(level, 0) for level in self.levels]
        new = {} if self.open_levels else {n: c for n, c in level_counts.items() if n not in self.rare_levels}
        unseen = sum(new.values())
        other = sum(level_counts.values()) - unseen
        counts = np.array([*own, other, unseen, missing, sum(wrong.values())], dtype=np.int64)
        return Tally(self.bins_id, counts, new_levels=most_frequent_levels(new), wrong_types=wrong)

    def _is_own(self, family: str) -> bool:
        """Whether values of this family are levels here. A reference of only nulls knows no type: anything but
        objects may come."""
        return family in self.families if self.families else family != "object"

    def _tally_presence(self, values: Values) -> Tally:
        missing, split = raw.take_missing(raw.by_family(values))
        wrong = {name: len(found) for name, found in split.items() if name not in self.families}
        if self.kind == "datetime" and "string" in split and "string" in self.families:
            unreadable = sum(not raw.is_timestamp(text) for text in split["string"])
            wrong |= {"unreadable time": unreadable} if unreadable else {}
        wrong_total = sum(wrong.values())
        present = sum(map(len, split.values())) - wrong_total
        return Tally(self.bins_id, np.array([present, missing, wrong_total], dtype=np.int64), wrong_types=wrong)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON (finite numbers only), read back by from_json; stable, so that bins_id is too."""
        return {
            "kind": self.kind,
            "inner_edges": list(self.inner_edges),
            "levels": list(self.levels),
            "rare_levels": sorted(self.rare_levels),
            "open_levels": self.open_levels,
            "families": sorted(self.families),
            "center": self.center,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ColumnBins:
        """The bins that to_json wrote. Raises KeyError or ValueError for anything else."""
        if data["kind"] not in get_args(Kind):
            raise ValueError(f"unknown kind of column: {data['kind']!r}")
        return cls(
            kind=data["kind"],
            inner_edges=tuple(float(edge) for edge in data["inner_edges"]),
            levels=tuple(data["levels"]),
            rare_levels=frozenset(data["rare_levels"]),
            open_levels=bool(data["open_levels"]),
            families=frozenset(data["families"]),
            center=float(data["center"]),
            scale=float(data["scale"]),
        )


def fit(values: Values, kind: Kind) -> ColumnBins:
    """Bins from the reference's values (a list with None, or an array; any length, also 0).

    Numeric: edges are the 10 numpy-linear quantiles, outer edges +-inf, equal edges merged, bins (a, b]. A column with
    one single value c gets three bins: below c, c, above c. An all-null column gets one bin, so any value shows
    as fewer missing. Text: the same over lengths. Categorical: MAX_LEVELS levels, the rest "other" (see ColumnBins).
    Boolean: always the levels "false" and "true". Raises ValueError for an unknown kind.
    """
    if kind in ("numeric", "text"):
        column = raw.as_numbers(values) if kind == "numeric" else raw.as_lengths(values)
        return _fit_numbers(column.numbers[np.isfinite(column.numbers)], kind)
    if kind in ("categorical", "boolean"):
        return _fit_levels(values, kind)
    if kind in ("datetime", "counter"):
        _, split = raw.take_missing(raw.by_family(values))
        usual = "string" if kind == "datetime" else "number"
        return ColumnBins(kind, families=frozenset(split.keys() - {"object", "boolean"}) or frozenset({usual}))
    raise ValueError(f"unknown kind of column: {kind!r}")


def kind_for(values: Values, schema_type: str | None = None) -> Kind:
    """The kind that suits a reference column, given the schema's type if there is one.

    schema_type: "double", "long", "boolean", "string" or "datetime"; None looks at the values (text and numbers mixed:
    the more frequent family). A string column whose values are mostly distinct and more than MAX_LEVELS is text, else
    categorical. Numbers that grow by the same whole step from row to row (at least 50 rows) are a row number: counter.
    """
    missing, split = raw.take_missing(raw.by_family(values))
    if schema_type == "datetime":
        return "datetime"
    wanted = {"double": "number", "long": "number", "boolean": "boolean", "string": "string"}.get(schema_type or "")
    family = wanted or max(split, key=lambda name: len(split[name]), default="number")
    found = split.get(family, [])
    if family == "boolean":
        return "boolean"
    if family == "number":
        return "counter" if _is_row_number(found) else "numeric"
    if family == "string" and len(found) > 0:
        distinct = len(set(found))
        return "text" if distinct > MAX_LEVELS and distinct > len(found) / 2 else "categorical"
    return "categorical"


def _fit_numbers(x: NDArray[np.float64], kind: Kind) -> ColumnBins:
    if not x.size:
        return ColumnBins(kind)
    lowest, highest = float(x.min()), float(x.max())
    if lowest == highest:
        return ColumnBins(kind, inner_edges=(float(np.nextafter(lowest, -np.inf)), lowest), center=lowest)
    with np.errstate(over="ignore", invalid="ignore"):
        quantiles = np.quantile(x, np.arange(1, QUANTILE_BINS) / QUANTILE_BINS)
        center, scale = float(np.mean(x)), float(np.std(x))
    edges = np.unique(quantiles[np.isfinite(quantiles)])
    if not (np.isfinite(center) and np.isfinite(scale)):  # numbers near the largest float
        center, scale = 0.0, 1e300
    return ColumnBins(kind, inner_edges=tuple(edges.tolist()), center=center, scale=scale or 1.0)


def _fit_levels(values: Values, kind: Kind) -> ColumnBins:
    _, split = raw.take_missing(raw.by_family(values))
    families = frozenset(split.keys() - {"object"})
    if kind == "boolean" and families <= {"boolean"}:
        return ColumnBins(kind, levels=("false", "true"), families=frozenset({"boolean"}))
    counts: Counter[str] = Counter()
    for name in families:
        counts.update(raw.level_counts(split[name], name))
    ordered = [name for name, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))]
    is_open = len(ordered) > MAX_KNOWN_LEVELS
    return ColumnBins(
        kind,
        levels=tuple(ordered[:MAX_LEVELS]),
        rare_levels=frozenset() if is_open else frozenset(ordered[MAX_LEVELS:]),
        open_levels=is_open,
        families=families,
    )


def _is_row_number(found: list[Any]) -> bool:
    numbers = raw.as_numbers(found).numbers
    if numbers.size < 50 or np.abs(numbers).max() > 2**53:  # beyond, a float cannot tell neighbours apart
        return False
    steps = np.diff(numbers)
    return bool(steps[0] != 0 and steps[0].is_integer() and (steps == steps[0]).all())


def _range_labels(inner: tuple[float, ...]) -> list[str]:
    if not inner:
        return ["any value"]
    shown = _short(inner)
    if len(inner) == 2 and np.nextafter(inner[1], -np.inf) == inner[0]:
        return [f"< {shown[1]}", f"= {shown[1]}", f"> {shown[1]}"]
    middle = [f"{low} to {high}" for low, high in zip(shown, shown[1:], strict=False)]
    return [f"≤ {shown[0]}", *middle, f"> {shown[-1]}"]


def _short(edges: tuple[float, ...]) -> list[str]:
    """As few digits as keep the edges apart."""
    for digits in (4, 6, 9, 17):
        shown = [f"{edge:.{digits}g}" for edge in edges]
        if len(set(shown)) == len(shown):
            return shown
    return [repr(edge) for edge in edges]
