"""Counting requests: latency histograms that can be added up, and what pages and rules read from them. Numbers and rows of counts only."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import QuerySet

from mlops.core import clock
from serving.models import Deployment, TrafficBucket

BUCKET = timedelta(minutes=5)
# Upper edges of the bins in ms: 0.1 ms to 120 s, each 1.19 times the one before (four bins a doubling): a percentile is
# right within 9 %. Bin i counts latencies in [EDGES_MS[i-1], EDGES_MS[i]); the last one everything above.
EDGES_MS: tuple[float, ...] = tuple(0.1 * 2 ** (step / 4) for step in range(82))
BINS = len(EDGES_MS) + 1


def step_for(since: datetime, points: int, until: datetime | None = None) -> int:
    """Seconds per point so that a chart from ``since`` to ``until`` (now) has at most ``points``: whole buckets."""
    bucket_s = int(BUCKET.total_seconds())
    return max(1, -(-int(((until or clock.now()) - since).total_seconds()) // (bucket_s * points))) * bucket_s


def bin_of(latency_ms: float) -> int:
    return bisect_right(EDGES_MS, latency_ms)


def merged(histograms: Iterable[Sequence[int]]) -> list[int]:
    """The sum of latency histograms; short or empty ones count as zeros."""
    total = [0] * BINS
    for histogram in histograms:
        for place, count in enumerate(histogram):
            if count:
                total[place] += count
    return total


def percentile(histogram: Sequence[int], share: float) -> float | None:
    """The latency in ms that ``share`` (0-1) of the counted requests stay below; None without requests."""
    total = sum(histogram)
    if total == 0:
        return None
    wanted, seen = share * total, 0
    for place, count in enumerate(histogram):
        if count and seen + count >= wanted:
            low = EDGES_MS[place - 1] if place else EDGES_MS[0] / 2
            high = EDGES_MS[place] if place < len(EDGES_MS) else EDGES_MS[-1]
            inside = (wanted - seen) / count
            return low * (high / low) ** inside
        seen += count
    return EDGES_MS[-1]


@dataclass
class Counts:
    """Requests of one slice of traffic. ``latency`` counts answered (2xx) requests only: a refusal is quick and would flatter."""

    requests: int = 0
    rows: int = 0
    client_errors: int = 0
    server_errors: int = 0
    dropped: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * BINS)

    def add(self, status: int, rows: int, latency_ms: float) -> None:
        self.requests += 1
        self.rows += rows
        if status >= 500:
            self.server_errors += 1
        elif status >= 400:
            self.client_errors += 1
        else:
            self.latency[bin_of(latency_ms)] += 1

    def include(self, other: Counts | TrafficBucket) -> None:
        self.requests += other.requests
        self.rows += other.rows
        self.client_errors += other.client_errors
        self.server_errors += other.server_errors
        self.dropped += other.dropped
        for place, count in enumerate(other.latency):
            if count:
                self.latency[place] += count

    @property
    def errors(self) -> int:
        return self.client_errors + self.server_errors

    @property
    def error_rate(self) -> float | None:
        return self.errors / self.requests if self.requests else None

    def latency_ms(self, share: float) -> float | None:
        found = percentile(self.latency, share)
        return round(found, 3) if found is not None else None

    @property
    def p50_ms(self) -> float | None:
        return self.latency_ms(0.50)

    @property
    def p95_ms(self) -> float | None:
        return self.latency_ms(0.95)

    @property
    def p99_ms(self) -> float | None:
        return self.latency_ms(0.99)

    def summary(self) -> dict[str, int | float | None]:
        return {
            "requests": self.requests,
            "rows": self.rows,
            "errors": self.errors,
            "client_errors": self.client_errors,
            "server_errors": self.server_errors,
            "not_logged": self.dropped,
            "p50_ms": self.p50_ms,
            "p95_ms": self.p95_ms,
            "p99_ms": self.p99_ms,
        }


@dataclass
class Traffic:
    """Traffic of a deployment since a moment: in all, per version id (None: no version answered) and per point in time."""

    since: datetime
    step_s: int
    total: Counts
    versions: dict[int | None, Counts]
    points: list[tuple[datetime, Counts]]


def read(deployment: Deployment, since: datetime, step_s: int = 300, until: datetime | None = None) -> Traffic:
    """One query. Points are ``step_s`` apart and gapless up to ``until`` (now), from the first bucket at or after ``since``."""
    step = timedelta(seconds=step_s)
    first = clock.floor(since, step)
    total, versions, by_point = Counts(), dict[int | None, Counts](), dict[datetime, Counts]()
    for bucket in buckets(deployment, since, until):
        total.include(bucket)
        versions.setdefault(bucket.version_id, Counts()).include(bucket)
        by_point.setdefault(clock.floor(bucket.at, step), Counts()).include(bucket)
    points, at, last = [], first, until or clock.now()
    while at <= last:
        points.append((at, by_point.get(at) or Counts()))
        at += step
    return Traffic(since, step_s, total, versions, points)


def buckets(deployment: Deployment, since: datetime, until: datetime | None = None) -> QuerySet[TrafficBucket]:
    """The five minutes of a period, oldest first."""
    found = TrafficBucket.objects.filter(deployment=deployment, at__gte=clock.floor(since, BUCKET)).order_by("at", "pk")
    return found.filter(at__lt=until) if until is not None else found


def total(deployment: Deployment, since: datetime, until: datetime) -> Counts:
    found = Counts()
    for bucket in buckets(deployment, since, until):
        found.include(bucket)
    return found


@dataclass
class Glance:
    """A deployment in a list: the last 24 hours in all, and requests per hour, oldest first."""

    total: Counts = field(default_factory=Counts)
    hourly: list[int] = field(default_factory=lambda: [0] * 24)


def glances(deployment_ids: Iterable[int]) -> dict[int, Glance]:
    """The last 24 hours of several deployments in one query. Deployments without traffic have a glance of zeros."""
    now = clock.now()
    found = {pk: Glance() for pk in deployment_ids}
    buckets = TrafficBucket.objects.filter(
        deployment_id__in=list(found), at__gte=clock.floor(now - timedelta(hours=24), BUCKET)
    )
    for bucket in buckets:
        glance = found[bucket.deployment_id]
        glance.total.include(bucket)
        hours_ago = int((now - bucket.at).total_seconds() // 3600)
        if 0 <= hours_ago < 24:
            glance.hourly[23 - hours_ago] += bucket.requests
    return found
