"""Measures of a column, from its hourly counts against the live version's baseline: PSI, share missing, share never seen before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops.core import errors
from monitoring import baselines, windows
from monitoring.columns import Watched
from monitoring.drift.psi import psi
from monitoring.measures import Measure, Measured, Window
from monitoring.models import Baseline
from serving.models import Deployment

if TYPE_CHECKING:
    from registry.models import ModelVersion

Number = Callable[[Watched, NDArray[np.int64]], float | None]
_COLUMN = {"column": "Name of the column: an input, prediction or probability."}
# Hours of columns that are read at most for one answer: a wide table's largest PSI is looked for in less of its past.
HOURS_READ = 30_000


def _watched(deployment: Deployment, version: ModelVersion | None) -> tuple[Baseline, list[Watched]] | None:
    version = version or deployment.live_version
    baseline = baselines.of(deployment, version) if version is not None else None
    return (baseline, windows.watched(baseline)) if baseline is not None else None


def _column(watched: Sequence[Watched], params: Mapping[str, Any]) -> Watched:
    name = params.get("column")
    for column in watched:
        if column.name == name:
            return column
    names = ", ".join(column.name for column in watched[:20])
    raise errors.Invalid(
        f"There is no column {name!r}." if name else "Choose a column.",
        fields={"column": [f"One of {names}{', ...' if len(watched) > 20 else ''}."]},
    )


def _sums(baseline: Baseline, columns: Sequence[Watched], asked: Sequence[Window]) -> dict[str, NDArray[np.int64]]:
    """For each column the counts of each window, shape (windows, places): whole hours (days where they are merged), the first
    rounded down."""
    first, last = min(start for start, _ in asked), max(end for _, end in asked)
    past = windows.past(baseline, columns, first, last, first)
    starts = np.array([windows.start_of(baseline, start).timestamp() for start, _ in asked])
    ends = np.array([end.timestamp() for _, end in asked])
    found = {}
    for column in columns:
        hours = past[column.name].hours
        at = np.array([hour.start.timestamp() for hour in hours])
        table = np.array([hour.counts for hour in hours], dtype=np.int64).reshape(len(hours), len(column.bins.labels))
        running = np.vstack([np.zeros((1, table.shape[1]), dtype=np.int64), np.cumsum(table, axis=0)])
        low, high = np.searchsorted(at, starts, side="left"), np.searchsorted(at, ends, side="left")
        found[column.name] = running[np.maximum(high, low)] - running[low]
    return found


def _of_column(number: Number, check: Callable[[Watched], None] = lambda column: None) -> dict[str, Any]:
    def past(
        deployment: Deployment, version: ModelVersion | None, asked: Sequence[Window], params: Mapping[str, Any]
    ) -> list[Measured]:
        found = _watched(deployment, version)
        if found is None:
            return [Measured(None, 0)] * len(asked)
        column = _column(found[1], params)
        check(column)
        sums = _sums(found[0], [column], asked)[column.name]
        return [_measured(number, column, counts) for counts in sums]

    return {"past": past, "params": _COLUMN, "page": "drift"}


def _measured(number: Number, column: Watched, counts: NDArray[np.int64]) -> Measured:
    rows = int(counts.sum())
    return Measured(number(column, counts) if rows else None, rows)


def _largest_past(
    deployment: Deployment, version: ModelVersion | None, asked: Sequence[Window], params: Mapping[str, Any]
) -> list[Measured]:
    found = _watched(deployment, version)
    if found is None or not found[1]:
        return [Measured(None, 0)] * len(asked)
    baseline, watched = found
    earliest = max(end for _, end in asked) - timedelta(hours=HOURS_READ // len(watched))
    near = [window for window in asked if window[0] >= earliest or window is asked[-1]]
    sums = _sums(baseline, watched, near)
    answers = [Measured(None, 0)] * (len(asked) - len(near))
    for place in range(len(near)):
        each = [_measured(_psi, column, sums[column.name][place]) for column in watched]
        known = [found.value for found in each if found.value is not None]
        answers.append(Measured(max(known, default=None), max((found.rows for found in each), default=0)))
    return answers


def _psi(column: Watched, counts: NDArray[np.int64]) -> float | None:
    return float(psi(column.tally.counts, counts)) if column.tally.rows else None


def _missing(column: Watched, counts: NDArray[np.int64]) -> float:
    return float(counts[column.bins.missing_index] / counts.sum())


def _unseen(column: Watched, counts: NDArray[np.int64]) -> float:
    place = column.bins.unseen_index
    return float(counts[place] / counts.sum()) if place is not None else 0.0


def _has_levels(column: Watched) -> None:
    if column.bins.unseen_index is None:
        raise errors.Invalid(
            f"`{column.name}` is no column of categories, so none of its values is new.",
            fields={"column": [f"{column.name} is {column.bins.kind}: choose a categorical column."]},
        )


MEASURES = (
    Measure("psi", "PSI of a column", "PSI", **_of_column(_psi), least=0, every_minutes=5, default=(0.2, 1440, 300)),
    Measure(
        "missing_share", "Share missing in a column", "share", **_of_column(_missing), least=0, greatest=1,
        every_minutes=5, default=(0.1, 360, 100),
    ),
    Measure(
        "unseen_share", "Share of values never seen in the reference", "share", **_of_column(_unseen, _has_levels),
        least=0, greatest=1, every_minutes=5, default=(0.02, 360, 100),
    ),
    Measure(
        "psi_max", "Largest PSI of all columns", "PSI", {}, _largest_past, least=0,
        every_minutes=15, page="drift", default=(0.25, 1440, 500),
    ),
)  # fmt: skip
