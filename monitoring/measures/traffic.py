"""Measures of requests, from the counts of five minutes each: error rate, p95, requests, rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mlops.core import clock
from monitoring.measures import Measure, Measured, Window
from serving import traffic
from serving.models import Deployment, Release, TrafficBucket

if TYPE_CHECKING:
    from registry.models import ModelVersion

_COUNTS = ("requests", "rows", "client_errors", "server_errors")


@dataclass(frozen=True)
class Slices:
    """Traffic of windows: counts (windows, 4) in the order of _COUNTS; latency (windows, traffic.BINS) or None."""

    counts: NDArray[np.int64]
    latency: NDArray[np.int64] | None

    def __len__(self) -> int:
        return len(self.counts)

    def of(self, place: int) -> traffic.Counts:
        requests, rows, client_errors, server_errors = self.counts[place].tolist()
        latency = self.latency[place].tolist() if self.latency is not None else []
        return traffic.Counts(requests, rows, client_errors, server_errors, latency=latency)


def answering(deployment: Deployment) -> set[int | None]:
    """The versions that answer; None stands for requests that reached none."""
    return {None, *(route.version_id for route in deployment.routes.all() if not route.shadow)}


def slices(
    deployment: Deployment, version: ModelVersion | None, windows: Sequence[Window], *, latency: bool = False
) -> Slices:
    """The traffic of each window in one query. A window's start is rounded down to whole buckets, its end is open.

    Without a version: of the versions that answer now, and in windows before the last change of the routes of all that were
    not shadows: an earlier version's errors are not the live one's, but they were the deployment's.
    """
    first, last = clock.floor(min(start for start, _ in windows), traffic.BUCKET), max(end for _, end in windows)
    stored = TrafficBucket.objects.filter(deployment=deployment, at__gte=first, at__lt=last).order_by("at")
    if version is not None:
        stored = stored.filter(version=version)
    rows = list(stored.values_list("at", "version_id", *_COUNTS, *(("latency",) if latency else ())))
    changed_at = _changed_at(deployment) if version is None else None
    shadows = {route.version_id for route in deployment.routes.all() if route.shadow}
    then = [row for row in rows if row[1] not in shadows] if version is None else rows
    parts = [_sums(then, windows, latency=latency)]
    if changed_at is not None:
        live = answering(deployment)
        parts.append(_sums([row for row in then if row[1] in live], windows, latency=latency))
    later = np.array([changed_at is not None and end > changed_at for _, end in windows])
    pick = [np.where(later[:, None], now, past) if now is not None else past for past, now in _pairs(parts)]
    return Slices(pick[0], pick[1] if latency else None)


def _pairs(parts: list[tuple[NDArray[np.int64], ...]]) -> list[tuple[NDArray[np.int64], NDArray[np.int64] | None]]:
    return [(past, parts[1][place] if len(parts) > 1 else None) for place, past in enumerate(parts[0])]


def _changed_at(deployment: Deployment) -> datetime | None:
    return Release.objects.filter(deployment=deployment).order_by("-at").values_list("at", flat=True).first()


def _sums(rows: list[Any], windows: Sequence[Window], *, latency: bool) -> tuple[NDArray[np.int64], ...]:
    """For each window the sum of its buckets, by differences of running sums."""
    at = np.array([row[0].timestamp() for row in rows])
    starts = np.array([clock.floor(start, traffic.BUCKET).timestamp() for start, _ in windows])
    ends = np.array([end.timestamp() for _, end in windows])
    low, high = np.searchsorted(at, starts, side="left"), np.searchsorted(at, ends, side="left")
    counts = np.array([row[2:6] for row in rows], dtype=np.int64).reshape(len(rows), len(_COUNTS))
    tables = [counts] + ([_latencies([row[6] for row in rows])] if latency else [])
    found = []
    for table in tables:
        running = np.vstack([np.zeros((1, table.shape[1]), dtype=np.int64), np.cumsum(table, axis=0)])
        found.append(running[np.maximum(high, low)] - running[low])
    return tuple(found)


def _latencies(stored: list[list[int]]) -> NDArray[np.int64]:
    table = np.zeros((len(stored), traffic.BINS), dtype=np.int64)
    for place, histogram in enumerate(stored):
        table[place, : len(histogram)] = histogram[: traffic.BINS]
    return table


def _measure(
    number: Callable[[traffic.Counts], Measured], *, latency: bool = False, whole: bool = False
) -> dict[str, Any]:
    """past and params of a measure that makes one number of a window's counts. whole: only of windows the deployment saw whole."""

    def past(
        deployment: Deployment, version: ModelVersion | None, windows: Sequence[Window], params: Mapping[str, Any]
    ) -> list[Measured]:
        found = slices(deployment, version, windows, latency=latency)
        since = deployment.live_since or deployment.created_at
        return [
            number(found.of(place)) if not whole or start >= since else Measured(None, 0)
            for place, (start, _) in enumerate(windows)
        ]

    return {"past": past, "params": {}}


def _error_rate(seen: traffic.Counts) -> Measured:
    return Measured(seen.error_rate, seen.requests)


def _p95(seen: traffic.Counts) -> Measured:
    return Measured(seen.p95_ms, sum(seen.latency))


def _p99(seen: traffic.Counts) -> Measured:
    return Measured(seen.p99_ms, sum(seen.latency))


def _requests(seen: traffic.Counts) -> Measured:
    return Measured(float(seen.requests), seen.requests)


def _rows(seen: traffic.Counts) -> Measured:
    return Measured(float(seen.rows), seen.rows)


MEASURES = (
    Measure("error_rate", "Error rate", "share", **_measure(_error_rate), least=0, greatest=1, default=(0.05, 15, 20)),
    Measure("p95_ms", "p95 latency", "ms", **_measure(_p95, latency=True), least=0, default=(200.0, 15, 50)),
    Measure("p99_ms", "p99 latency", "ms", **_measure(_p99, latency=True), least=0, default=(500.0, 60, 200)),
    Measure(
        "requests", "Requests", "requests", **_measure(_requests, whole=True), least=0, high_is_bad=False,
        needs_rows=False, default=(1.0, 60, 1),
    ),
    Measure(
        "rows", "Predicted rows", "rows", **_measure(_rows, whole=True), least=0, high_is_bad=False,
        needs_rows=False, default=(1.0, 60, 1),
    ),
)  # fmt: skip
