"""A bounded sample of a check's rows, each with where it came from, and the reference's rows beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet

from mlops.core import clock
from monitoring import columns, sampling, windows
from monitoring.columns import Watched
from monitoring.drift.causes.whole import Sampled
from monitoring.drift.tally import Tally
from monitoring.models import Baseline, DriftCheck
from serving.models import PredictionLog
from serving.redaction import is_redacted

MOST_ROWS = 3_000
FIELDS = ("pk", "at", "key_prefix", "via", "features")


@dataclass(frozen=True)
class LoggedRow:
    pk: UUID
    at: datetime
    key: str
    via: str
    features: dict[str, Any]


@dataclass
class Evidence:
    """What a check's causes are told from. rows: of now, oldest first; reference: the input columns of rows of before, one length; None when
    they are not kept. redacted: inputs whose values the log does not keep."""

    baseline: Baseline
    watched: list[Watched]
    totals: dict[str, Tally]
    rows: list[LoggedRow]
    reference: dict[str, list[Any]] | None
    redacted: set[str]

    def inputs(self) -> list[Sampled]:
        """Every input with its tallies, and its values where both sides keep them."""
        found = []
        for column in self.watched:
            if column.role != columns.FEATURE:
                continue
            before, now = self.values(column.name)
            found.append(Sampled(column.name, column.bins, column.tally, self.totals[column.name], before, now))
        return found

    def values(self, name: str) -> tuple[list[Any], list[Any]]:
        """(reference's values, values of now); both empty where one side has none."""
        if name in self.redacted or self.reference is None or name not in self.reference or not self.rows:
            return [], []
        return self.reference[name], [row.features.get(name) for row in self.rows]

    def groups(self) -> dict[str, list[str]]:
        """Where each row came from, for ``origin.one_source``."""
        found = {
            "key": [row.key for row in self.rows],
            "hour": [f"{clock.floor(row.at, windows.HOUR):%Y-%m-%d %H:%M} UTC" for row in self.rows],
            "via": [row.via for row in self.rows],
        }
        return {kind: values for kind, values in found.items() if len(set(values)) > 1}


def gather(check: DriftCheck) -> Evidence:
    """What there is for this check: counts of its window always, rows as far as they are kept."""
    assert check.baseline is not None
    watched = windows.watched(check.baseline)
    totals = windows.total(check.baseline, watched, check.window_start, check.window_end)
    rows = current(check, MOST_ROWS)
    redacted = {name for row in rows[:200] for name, value in row.features.items() if is_redacted(value)}
    reference = sampling.features(check.baseline, MOST_ROWS)
    return Evidence(check.baseline, watched, dict(totals), rows, _level(reference), redacted)


def _level(reference: dict[str, list[Any]] | None) -> dict[str, list[Any]] | None:
    """Columns of one length, or nothing."""
    if not reference:
        return None
    size = min(map(len, reference.values()))
    return {name: values[:size] for name, values in reference.items()} if size else None


def logged(check: DriftCheck, which: Q) -> QuerySet[PredictionLog]:
    """Answered rows of the check's version that are no part of its baseline."""
    rows = PredictionLog.objects.production().filter(
        which, deployment=check.deployment_id, version=check.version_id, error_code=""
    )
    if check.baseline is not None and check.baseline.learned_until is not None:
        rows = rows.filter(at__gt=check.baseline.learned_until)
    return rows.order_by("at", "pk")


def current(check: DriftCheck, at_most: int) -> list[LoggedRow]:
    """At most so many rows of the window; of a large one those that follow moments spread over it."""
    inside = Q(at__gte=check.window_start, at__lte=check.window_end)
    if check.rows <= at_most:
        return read(logged(check, inside)[:at_most])
    step = (check.window_end - check.window_start) / sampling.MOMENTS
    found: dict[UUID, LoggedRow] = {}
    for moment in range(sampling.MOMENTS):
        start = check.window_start + moment * step
        part = inside & Q(at__gte=start, at__lt=start + step)
        found |= {row.pk: row for row in read(logged(check, part)[: at_most // sampling.MOMENTS])}
    return list(found.values())


def read(rows: QuerySet[PredictionLog] | Sequence[Any]) -> list[LoggedRow]:
    """Rows whose features the log kept."""
    stored = rows.values_list(*FIELDS) if isinstance(rows, QuerySet) else rows
    return [LoggedRow(*row) for row in stored if isinstance(row[-1], dict)]
