"""Tally: what is known of one column over a stretch of rows. Additive: tally(a) + tally(b) == tally(a + b).

Counts are exact integers. Sums of numbers are kept around the reference's centre and in units of its spread
(z = (x - center) / scale), so a column of large, nearly equal numbers loses no digits and nothing overflows.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import sketch as sketches

# Names of new levels are kept for the alert's sentence only; their number is exact in the "unseen" bin.
MAX_NEW_LEVELS = 20
# Squares of z stay finite: a value further out than this counts as this far in sums (min and max stay exact).
MAX_Z = 1e100
LARGEST = sys.float_info.max


@dataclass(frozen=True)
class Numbers:
    """Additive summary of the numbers in a column (text columns: of the lengths).

    center, scale: the reference's mean and standard deviation (scale 1 when that is 0), the same in every tally of
    one ColumnBins. rows: numbers counted, NaN and null excluded. z_sum, z_squares: sums of z and z*z.
    z_bins: sum of z per value bin, shape (bins,). minimum, maximum: in the column's own unit, None when rows == 0;
    +-inf is counted in bins and rows but clipped to the largest float here. sketch: see sketch.py.
    """

    center: float
    scale: float
    rows: int
    z_sum: float
    z_squares: float
    z_bins: tuple[float, ...]
    minimum: float | None
    maximum: float | None
    sketch: Mapping[int, int]

    @property
    def mean(self) -> float | None:
        """Mean in the column's unit; None without rows."""
        return finite(self.center + self.scale * self.z_sum / self.rows) if self.rows else None

    @property
    def std(self) -> float | None:
        """Standard deviation (ddof=0) in the column's unit; None without rows."""
        if not self.rows:
            return None
        mean = self.z_sum / self.rows
        return finite(self.scale * math.sqrt(max(self.z_squares / self.rows - mean * mean, 0.0)))

    @property
    def sum(self) -> float:
        """Sum in the column's unit."""
        return finite(self.rows * self.center + self.scale * self.z_sum)

    @property
    def median(self) -> float | None:
        """Median to within 6 % of its value (from the sketch); None without rows."""
        return self.quantile(0.5)

    def quantile(self, q: float) -> float | None:
        """The q-quantile to within 6 % of its value, kept inside [minimum, maximum]; None without rows."""
        value = sketches.quantile(self.sketch, q)
        if value is None or self.minimum is None or self.maximum is None:
            return None
        return min(max(value, self.minimum), self.maximum)

    def __add__(self, other: Numbers) -> Numbers:
        return Numbers(
            center=self.center,
            scale=self.scale,
            rows=self.rows + other.rows,
            z_sum=self.z_sum + other.z_sum,
            z_squares=self.z_squares + other.z_squares,
            z_bins=tuple(a + b for a, b in zip(self.z_bins, other.z_bins, strict=True)),
            minimum=_of_known(min, self.minimum, other.minimum),
            maximum=_of_known(max, self.maximum, other.maximum),
            sketch=sketches.add(self.sketch, other.sketch),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "center": self.center,
            "scale": self.scale,
            "rows": self.rows,
            "z_sum": self.z_sum,
            "z_squares": self.z_squares,
            "z_bins": list(self.z_bins),
            "min": self.minimum,
            "max": self.maximum,
            "sketch": [[key, count] for key, count in self.sketch.items()],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Numbers:
        return cls(
            center=data["center"],
            scale=data["scale"],
            rows=data["rows"],
            z_sum=data["z_sum"],
            z_squares=data["z_squares"],
            z_bins=tuple(data["z_bins"]),
            minimum=data["min"],
            maximum=data["max"],
            sketch={int(key): int(count) for key, count in data["sketch"]},
        )


@dataclass(frozen=True)
class Tally:
    """Exact counts of one column: `counts` int64, shape (len(bins.labels),), in the order of `bins.labels`.

    bins_id names the ColumnBins it was counted with; tallies of different bins refuse to be added (ValueError).
    numbers: for numeric and text columns, else None. new_levels: the up to 20 most frequent levels the reference did
    not have, with counts (after a merge of more than 20 a lower bound; the "unseen" bin is exact).
    wrong_types: what the values of the wrong type were, e.g. {"numeric string": 12}; exact.
    """

    bins_id: str
    counts: NDArray[np.int64]
    numbers: Numbers | None = None
    new_levels: Mapping[str, int] = field(default_factory=dict)
    wrong_types: Mapping[str, int] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """All rows, missing ones included."""
        return int(self.counts.sum())

    def __add__(self, other: Tally) -> Tally:
        if self.bins_id != other.bins_id:
            raise ValueError(f"tallies of different bins cannot be added ({self.bins_id}, {other.bins_id})")
        numbers = self.numbers + other.numbers if self.numbers and other.numbers else None
        return Tally(
            bins_id=self.bins_id,
            counts=self.counts + other.counts,
            numbers=numbers,
            new_levels=_most_frequent(_add_counts(self.new_levels, other.new_levels)),
            wrong_types=_add_counts(self.wrong_types, other.wrong_types),
        )

    @classmethod
    def total(cls, tallies: Iterable[Tally]) -> Tally:
        """All tallies added up. Raises ValueError for none at all (use `bins.empty()` as a start) or mixed bins."""
        rest = iter(tallies)
        try:
            result = next(rest)
        except StopIteration:
            raise ValueError("no tallies to add") from None
        for tally in rest:
            result = result + tally
        return result

    def to_json(self) -> dict[str, Any]:
        """Plain JSON (finite numbers only), read back by from_json."""
        return {
            "bins": self.bins_id,
            "counts": self.counts.tolist(),
            "numbers": self.numbers.to_json() if self.numbers else None,
            "new_levels": dict(self.new_levels),
            "wrong_types": dict(self.wrong_types),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Tally:
        """The tally that to_json wrote. Raises KeyError or TypeError for anything else."""
        return cls(
            bins_id=data["bins"],
            counts=np.asarray(data["counts"], dtype=np.int64),
            numbers=Numbers.from_json(data["numbers"]) if data["numbers"] else None,
            new_levels=dict(data["new_levels"]),
            wrong_types=dict(data["wrong_types"]),
        )


def finite(value: float) -> float:
    """The value, or the largest float where it overflowed: JSON has no infinity."""
    return min(max(value, -LARGEST), LARGEST)


def most_frequent_levels(counts: Mapping[str, int]) -> dict[str, int]:
    """The MAX_NEW_LEVELS most frequent, ties by name, names cut to 80 characters."""
    return _most_frequent({name[:80]: count for name, count in counts.items()})


def _most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_NEW_LEVELS])


def _add_counts(left: Mapping[str, int], right: Mapping[str, int]) -> dict[str, int]:
    return {name: left.get(name, 0) + right.get(name, 0) for name in {**left, **right}}


def _of_known(choose: Any, left: float | None, right: float | None) -> float | None:
    known = [value for value in (left, right) if value is not None]
    return float(choose(known)) if known else None
