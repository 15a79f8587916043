"""How a deployment is used: requests, errors, latency."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.caller import caller_of
from mlops.jobs.models import Job
from registry.models import ModelVersion
from serving import chart_marks, downloads, prediction_log, traffic, traffic_words
from serving.models import Deployment
from serving.periods import RANGES, Period, period
from serving.views.deployments import get_deployment

POINTS = 120
# What the ranges have been drawn with, in seconds per point; a period of one's own has at most POINTS.
STEPS = {"1h": 300, "24h": 900, "7d": 2 * 3600, "30d": 6 * 3600}
_COLUMNS = (
    "at",
    "version",
    "requests",
    "rows",
    "client_errors",
    "server_errors",
    "not_logged",
    "p50_ms",
    "p95_ms",
    "p99_ms",
)


@login_required
@require_GET
def deployment_traffic(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row, chosen = get_deployment(request, org, name), period(request.GET)
    step_s = STEPS.get(chosen.name) or traffic.step_for(chosen.since, POINTS, chosen.until)
    found = traffic.read(row, chosen.since, step_s, chosen.until)
    before = traffic.total(row, chosen.before.since, chosen.before.until)
    marks = chart_marks.of(row, found.since, step_s, found.points[-1][0].timestamp())
    context = {
        "deployment": row,
        "ranges": list(RANGES),
        "period": chosen,
        "sentence": traffic_words.sentence(found.total, before, chosen),
        "total": found.total,
        "versions": _versions(found),
        "requests_chart": _requests_chart(found, marks),
        "latency_chart": _latency_chart(found, marks),
        "samples": Job.objects.filter(kind="send_samples", subject_type="deployment", subject_id=str(row.pk)).first(),
        "may_write": caller_of(request).can("deployment.write", row.organization_id),
        "spool_full": prediction_log.status()["full"],
    }
    return render(
        request, "serving/_deployment_traffic.html" if request.htmx else "serving/deployment_traffic.html", context
    )


@login_required
@require_GET
def deployment_traffic_export(request: HttpRequest, org: str, name: str) -> StreamingHttpResponse:
    """The five-minute buckets of the period as CSV: one line for each version and time."""
    row, chosen = get_deployment(request, org, name), period(request.GET)
    return downloads.text(_lines(row, chosen), filename=f"{row.name}-traffic.csv", content_type="text/csv")


def _lines(row: Deployment, chosen: Period) -> Iterator[str]:
    writer = csv.writer(downloads.Echo())
    yield writer.writerow(_COLUMNS)
    for bucket in traffic.buckets(row, chosen.since, chosen.until).select_related("version").iterator():
        counts = traffic.Counts()
        counts.include(bucket)
        said = counts.summary()
        version = bucket.version.number if bucket.version else ""
        yield writer.writerow((bucket.at.isoformat(), version, *(said[column] for column in _COLUMNS[2:])))


def _versions(found: traffic.Traffic) -> list[dict[str, Any]]:
    numbers = dict(ModelVersion.objects.filter(pk__in=[pk for pk in found.versions if pk]).values_list("pk", "number"))
    rows = [{"number": numbers.get(pk), "counts": counts} for pk, counts in found.versions.items()]
    return sorted(rows, key=lambda each: each["number"] or 0, reverse=True)


def _requests_chart(found: traffic.Traffic, marks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "unit": "",
        "kind": "bars",
        "x": [at.timestamp() for at, _ in found.points] if found.total.requests else [],
        "series": [
            {"label": "Requests", "values": [counts.requests for _, counts in found.points], "tone": "accent"},
            {"label": "Errors", "values": [counts.errors for _, counts in found.points], "tone": "red"},
        ],
        "marks": marks,
        "empty": "No requests in this period.",
    }


def _latency_chart(found: traffic.Traffic, marks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "unit": "ms",
        "kind": "line",
        "x": [at.timestamp() for at, _ in found.points] if found.total.requests else [],
        "series": [
            {"label": "p50", "values": [counts.p50_ms for _, counts in found.points], "tone": "teal"},
            {"label": "p95", "values": [counts.p95_ms for _, counts in found.points], "tone": "accent"},
            {"label": "p99", "values": [counts.p99_ms for _, counts in found.points], "tone": "amber"},
        ],
        "marks": marks,
        "empty": "No answered requests in this period.",
    }
