"""Bounded samples of rows, for what counts cannot tell: the full report, how columns move together, causes by example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import numpy as np
from django.db.models import Q

from monitoring import baselines, columns, windows
from monitoring.columns import Row, Watched
from monitoring.models import Baseline
from serving.models import PredictionLog

# A large window is sampled by this many moments spread over it, with the rows that follow each.
MOMENTS = 50
REFERENCES_KEPT = 4


@dataclass(frozen=True)
class Stretch:
    """The answered rows of one version from ``start`` to ``end``; ``rows``: how many were counted there."""

    deployment_id: int
    version_id: int
    start: datetime
    end: datetime
    rows: int


def reference(baseline: Baseline, watched: Sequence[Watched], at_most: int) -> dict[str, list[Any]] | None:
    """The watched columns of at most so many rows that the baseline was made from, spread evenly over all; None when they are
    not kept any more."""
    given = baselines.rows_of(baseline)
    if given is None:
        return None
    values = dict(given.features)
    for column in watched:
        if column.role == columns.PREDICTION:
            values[column.name] = given.predictions
        elif column.role == columns.PROBABILITY:
            values[column.name] = [columns.winning(row) for row in given.probabilities]
    picked = np.unique(np.linspace(0, max(given.rows - 1, 0), min(given.rows, at_most)).astype(int)).tolist()
    return {name: [column[place] for place in picked if place < len(column)] for name, column in values.items()}


def features(baseline: Baseline, at_most: int) -> dict[str, list[Any]] | None:
    """The input columns of ``reference``, kept by this worker: a baseline's rows do not change, and to read them all again for each
    hourly check would cost more than the check."""
    return _features(baseline.pk, baseline.created_at, at_most)


@lru_cache(maxsize=REFERENCES_KEPT)
def _features(baseline_id: int, _created_at: datetime, at_most: int) -> dict[str, list[Any]] | None:
    baseline = Baseline.objects.select_related("deployment", "version").get(pk=baseline_id)
    watched = [column for column in windows.watched(baseline) if column.role == columns.FEATURE]
    found = reference(baseline, watched, at_most)
    return {column.name: found[column.name] for column in watched if column.name in found} if found else None


def current(stretch: Stretch, baseline: Baseline | None, at_most: int) -> list[Row]:
    """At most so many answered rows of the stretch; of a large one those at MOMENTS moments spread over it. Rows that the baseline
    was learnt from are left out."""
    inside = Q(at__gte=stretch.start, at__lte=stretch.end)
    if baseline is not None and baseline.learned_until is not None:
        inside &= Q(at__gt=baseline.learned_until)
    if stretch.rows <= at_most:
        return list(_keyed(stretch, inside, at_most).values())
    step = (stretch.end - stretch.start) / MOMENTS
    found: dict[Any, Row] = {}
    for moment in range(MOMENTS):
        begin = stretch.start + moment * step
        found |= _keyed(stretch, inside & Q(at__gte=begin), at_most // MOMENTS)
    return list(found.values())


def _keyed(stretch: Stretch, which: Q, at_most: int) -> dict[Any, Row]:
    rows = PredictionLog.objects.production().filter(
        which, deployment=stretch.deployment_id, version=stretch.version_id, error_code=""
    )
    stored = rows.order_by("at", "pk").values_list("pk", "features", "prediction", "probabilities")[:at_most]
    return {key: windows.row_of(*row) for key, *row in stored}
