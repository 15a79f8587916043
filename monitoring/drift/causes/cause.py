"""What a rule is given and what it says: a column's change, a cause with a sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import values as raw
from monitoring.drift.bins import ColumnBins
from monitoring.drift.tally import Numbers, Tally

# Least rows to describe a shape with, and the least share of rows a cause must explain to be worth a sentence.
LEAST_ROWS = 30
LEAST_SHARE = 0.02
# General descriptions step back behind a specific cause of the same size.
GENERAL = 0.5
# Numbers with so few different values are codes: each value is also looked at as a level.
MOST_CODES = 30


@dataclass(frozen=True)
class Cause:
    """code: a stable word for programs (docs/causes.md). sentence: for people. share: of the current rows it explains,
    0..1. weight: order among causes. numbers: what the sentence was made of, JSON-ready. undo: how a value of now
    becomes one of before, where that is known exactly (see ``monitoring.drift.causes.undo``); None where it is not."""

    code: str
    sentence: str
    share: float
    weight: float
    numbers: dict[str, Any] = field(default_factory=dict)
    undo: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Change:
    """A baseline and a current tally of the same bins, both with rows, and raw values of both where they are at hand.

    before_values, now_values: any JSON values, any number of them (a sample); empty when only counts are known.
    """

    bins: ColumnBins
    before: Tally
    now: Tally
    before_values: Sequence[Any] = ()
    now_values: Sequence[Any] = ()

    def share(self, index: int) -> tuple[float, float]:
        """Share of one place in all rows, before and now."""
        return float(self.before.counts[index]) / self.before.rows, float(self.now.counts[index]) / self.now.rows

    @property
    def numbers(self) -> tuple[Numbers, Numbers] | None:
        """Both summaries of numbers, when both hold enough of them to speak of a shape."""
        before, now = self.before.numbers, self.now.numbers
        if before is None or now is None or min(before.rows, now.rows) < LEAST_ROWS:
            return None
        return before, now

    @cached_property
    def samples(self) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Finite numbers of both samples, (n,) and (m,), when the column holds numbers and there are enough of them."""
        if self.bins.kind != "numeric" or min(len(self.before_values), len(self.now_values)) < LEAST_ROWS:
            return None
        both = [raw.as_numbers(values).numbers for values in (self.before_values, self.now_values)]
        before, now = (each[np.isfinite(each)] for each in both)
        return (before, now) if min(before.size, now.size) >= LEAST_ROWS else None

    @cached_property
    def texts(self) -> tuple[list[str], list[str]] | None:
        """The texts of both samples, when the column holds texts and there are enough of them."""
        if min(len(self.before_values), len(self.now_values)) < LEAST_ROWS:
            return None
        before, now = (
            [each for each in side if isinstance(each, str)] for side in (self.before_values, self.now_values)
        )
        return (before, now) if min(len(before), len(now)) >= LEAST_ROWS else None

    @property
    def are_codes(self) -> bool:
        """Whether the column's numbers are few whole ones, each seen often: categories that are coded as numbers."""
        if self.samples is None:
            return False
        values, counts = np.unique(self.samples[0], return_counts=True)
        whole = bool((values == np.round(values)).all())
        return whole and values.size <= min(MOST_CODES, self.samples[0].size / 10) and int(counts.min()) >= 1

    @cached_property
    def levels(self) -> tuple[Counter[str], Counter[str]] | None:
        """Rows by level, before and now, missing values and wrong types left out; of categories and of codes."""
        if self.are_codes:
            assert self.samples is not None
            before, now = (raw.level_counts(side.tolist(), "number") for side in self.samples)
            return before, now
        if not self.bins.has_levels:
            return None
        sides = [self._named(tally) for tally in (self.before, self.now)]
        return sides[0], sides[1]

    def _named(self, tally: Tally) -> Counter[str]:
        known: Mapping[str, int] = dict(zip(self.bins.levels, map(int, tally.counts), strict=False))
        return Counter({level: rows for level, rows in known.items() if rows}) + Counter(tally.new_levels)

    @property
    def subject(self) -> str:
        return "lengths" if self.bins.kind == "text" else "values"
