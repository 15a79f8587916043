"""A baseline's columns beside what they are now: what the baseline page, its CSV and the API show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from monitoring import charts, columns, profiles, row_samples, windows
from monitoring.columns import Watched
from monitoring.drift.psi import psi
from monitoring.drift.tally import Tally
from monitoring.models import Baseline
from monitoring.profiles import Profile

# Distinct values of now are looked up among so many of the newest rows that are kept.
DISTINCT_ROWS = 1_000
_MOST_VALUES = 100_000
_NUMBERS = ("missing_share", "unique", "unique_rows", "minimum", "median", "maximum", "mean", "std")
CSV_HEAD = ["column", "role", "kind", "psi", "side", "rows", "missing", "wrong_type", "unseen", *_NUMBERS, "top", "types", "state"]  # fmt: skip


@dataclass(frozen=True)
class Beside:
    """One column of a baseline and of now. moved: PSI between the two, None without rows on both sides."""

    column: Watched
    tally: Tally
    before: Profile
    now: Profile
    moved: float | None

    @property
    def drawn(self) -> dict[str, Any]:
        """For the histogram tag."""
        stored = {
            "labels": list(self.column.bins.labels),
            "reference": self.column.tally.counts.tolist(),
            "current": self.tally.counts.tolist(),
        }
        return charts.histogram({"kind": self.column.bins.kind, "histogram": stored})


def compare(baseline: Baseline, start: datetime, end: datetime) -> list[Beside]:
    """Every column, those that moved most first. Reads counts only; distinct values of now are not among them."""
    watched = windows.watched(baseline)
    counted = windows.total(baseline, watched, start, end)
    found = [_beside(baseline, column, counted[column.name]) for column in watched]
    return sorted(found, key=lambda each: -(each.moved or 0.0))


def with_distinct(baseline: Baseline, shown: Sequence[Beside], start: datetime, end: datetime) -> list[Beside]:
    """The same columns with the distinct values of now, as far as rows are kept."""
    inside = row_samples.answered(baseline).filter(at__gte=start, at__lte=end).order_by("-at")
    most = max(min(DISTINCT_ROWS, _MOST_VALUES // max(len(baseline.columns), 1)), 1)
    stored = inside.values_list("features", "prediction", "probabilities")[:most]
    rows = [windows.row_of(*row) for row in stored]
    values = columns.values_of(rows, [each.column for each in shown])
    return [
        Beside(
            each.column,
            each.tally,
            each.before,
            profiles.of(each.column, each.tally, _distinct(values[each.column.name])),
            each.moved,
        )
        for each in shown
    ]


def csv_rows(found: Sequence[Beside]) -> Iterator[list[Any]]:
    """Two lines a column: the baseline, then now."""
    yield CSV_HEAD
    for each in found:
        for side, profile in (("baseline", each.before), ("now", each.now)):
            top = "; ".join(f"{level}: {share:.4f}" for level, share in profile.top)
            types = "; ".join(f"{name}: {count}" for name, count in profile.types.items())
            numbers = [getattr(profile, name) for name in _NUMBERS]
            yield [
                profile.name, profile.role, profile.kind, each.moved, side, profile.rows, profile.missing,
                profile.wrong_type, profile.unseen, *numbers, top, types, profile.state,
            ]  # fmt: skip


def _beside(baseline: Baseline, column: Watched, tally: Tally) -> Beside:
    moved = float(psi(column.tally.counts, tally.counts)) if column.tally.rows and tally.rows else None
    before = profiles.of(column, column.tally, baseline.profile.get(column.name))
    return Beside(column, tally, before, profiles.of(column, tally), moved)


def _distinct(values: list[Any]) -> dict[str, int] | None:
    return profiles.distinct_of(values) if values else None
