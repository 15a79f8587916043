"""What the home page shows of an organisation: its models with their state, traffic of the last day, and drift.

A fixed number of queries over rollups, whatever the traffic: the raw prediction log is never read here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from django.core.paginator import Page, Paginator
from django.db.models import F, OuterRef, QuerySet, Subquery, Sum
from django.db.models.functions import TruncHour

from mlops.core import clock
from monitoring.models import DriftCheck
from registry.models import ModelVersion, RegisteredModel
from serving import traffic
from serving.models import Deployment, TrafficBucket

if TYPE_CHECKING:
    from accounts.models import Organization

HOURS = 24
PER_PAGE = 25


@dataclass
class DeploymentRow:
    """One deployment's line: requests per hour (24 numbers, oldest first), share of errors (0-1), p95 in ms."""

    deployment: Deployment
    drift: str
    per_hour: list[int] = field(default_factory=lambda: [0] * HOURS)
    requests: int = 0
    errors: int = 0
    p95_ms: float | None = None

    @property
    def error_share(self) -> float | None:
        return self.errors / self.requests if self.requests else None


@dataclass
class ModelRow:
    model: RegisteredModel
    deployments: list[DeploymentRow]


def models_page(organization: Organization, *, search: str = "", number: str | int = 1) -> tuple[Page, list[ModelRow]]:
    """One page of models, latest first, with what is live. Six queries."""
    latest = ModelVersion.objects.filter(model=OuterRef("pk")).order_by("-number")
    models: QuerySet = RegisteredModel.objects.active().filter(organization=organization)
    if search:
        models = models.filter(name__icontains=search)
    models = models.annotate(
        latest_number=Subquery(latest.values("number")[:1]), latest_status=Subquery(latest.values("status")[:1])
    )
    page = Paginator(models, PER_PAGE).get_page(number)
    rows = _deployment_rows([model.pk for model in page])
    return page, [ModelRow(model, [row for row in rows if row.deployment.model_id == model.pk]) for model in page]


@dataclass
class Totals:
    """The organisation at a glance; traffic is that of the last hour."""

    models: int
    live: int
    requests: int
    errors: int

    @property
    def error_share(self) -> float | None:
        return self.errors / self.requests if self.requests else None


def totals(organization: Organization) -> Totals:
    """Three queries."""
    recent = TrafficBucket.objects.filter(organization=organization, at__gte=clock.now() - timedelta(hours=1))
    summed = recent.aggregate(requests=Sum("requests"), errors=Sum(F("client_errors") + F("server_errors")))
    return Totals(
        models=RegisteredModel.objects.active().filter(organization=organization).count(),
        live=Deployment.objects.live().filter(organization=organization).count(),
        requests=summed["requests"] or 0,
        errors=summed["errors"] or 0,
    )


def _deployment_rows(model_ids: list[int]) -> list[DeploymentRow]:
    verdict = DriftCheck.objects.filter(deployment=OuterRef("pk")).order_by("-at", "-pk").values("verdict")[:1]
    deployments = Deployment.objects.filter(model_id__in=model_ids).annotate(drift=Subquery(verdict))
    rows = {each.pk: DeploymentRow(each, each.drift or "") for each in deployments}
    now = clock.now()
    _add_hours(rows, now)
    _add_latency(rows, now)
    return list(rows.values())


def _add_hours(rows: dict[int, DeploymentRow], now: datetime) -> None:
    first = clock.floor(now, timedelta(hours=1)) - timedelta(hours=HOURS - 1)
    sums = (
        TrafficBucket.objects.filter(deployment_id__in=rows, at__gte=first)
        .values("deployment_id", hour=TruncHour("at"))
        .annotate(requests=Sum("requests"), errors=Sum(F("client_errors") + F("server_errors")))
        .order_by()
    )
    for each in sums:
        row = rows[each["deployment_id"]]
        row.per_hour[int((each["hour"] - first) / timedelta(hours=1))] += each["requests"]
        row.requests += each["requests"]
        row.errors += each["errors"]


def _add_latency(rows: dict[int, DeploymentRow], now: datetime) -> None:
    """p95 of the last hour: a day's would mean reading every bucket's histogram, and now is what matters."""
    recent = TrafficBucket.objects.filter(deployment_id__in=rows, at__gte=now - timedelta(hours=1))
    merged: dict[int, list[list[int]]] = {}
    for deployment_id, latency in recent.values_list("deployment_id", "latency"):
        merged.setdefault(deployment_id, []).append(latency)
    for deployment_id, parts in merged.items():
        rows[deployment_id].p95_ms = traffic.percentile(traffic.merged(parts), 0.95)
