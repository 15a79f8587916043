"""How a deployment is used: requests, errors, latency."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts.caller import caller_of
from mlops.core import clock, errors
from mlops.jobs.models import Job
from registry.models import ModelVersion
from serving import prediction_log, traffic
from serving.models import Deployment, Release
from serving.views.deployments import get_deployment

DEFAULT_RANGE = "24h"


@login_required
@require_GET
def deployment_traffic(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name)
    chosen = request.GET.get("range", DEFAULT_RANGE)
    if chosen not in traffic.RANGES:
        raise errors.Invalid(f"There is no range {chosen!r}.", hint=f"Choose {', '.join(traffic.RANGES)}.")
    span, step_s = traffic.RANGES[chosen]
    found = traffic.read(row, clock.now() - span, step_s)
    context = {
        "deployment": row,
        "ranges": list(traffic.RANGES),
        "range": chosen,
        "total": found.total,
        "versions": _versions(found),
        "requests_chart": _requests_chart(row, found),
        "latency_chart": _latency_chart(row, found),
        "samples": Job.objects.filter(kind="send_samples", subject_type="deployment", subject_id=str(row.pk)).first(),
        "may_write": caller_of(request).can("deployment.write", row.organization_id),
        "spool_full": prediction_log.status()["full"],
    }
    return render(
        request, "serving/_deployment_traffic.html" if request.htmx else "serving/deployment_traffic.html", context
    )


def _versions(found: traffic.Traffic) -> list[dict[str, Any]]:
    numbers = dict(ModelVersion.objects.filter(pk__in=[pk for pk in found.versions if pk]).values_list("pk", "number"))
    rows = [{"number": numbers.get(pk), "counts": counts} for pk, counts in found.versions.items()]
    return sorted(rows, key=lambda each: each["number"] or 0, reverse=True)


def _marks(row: Deployment, found: traffic.Traffic) -> list[dict[str, Any]]:
    """Changes of what was live; of several between two points of the chart the last one, else their labels cover each other."""
    changes = Release.objects.filter(deployment=row, at__gte=found.since).select_related("version").order_by("number")
    releases = {int(each.at.timestamp()) // found.step_s: each for each in changes}.values()
    words = {
        Release.Kind.DEPLOY: "v{}",
        Release.Kind.ROLLBACK: "back to v{}",
        Release.Kind.STOP: "stopped",
        Release.Kind.START: "started",
        Release.Kind.PAUSE: "paused",
        Release.Kind.RESUME: "resumed",
        Release.Kind.TRAFFIC: "traffic",
        Release.Kind.ROLLOUT: "rollout",
        Release.Kind.STEP: "rollout step",
        Release.Kind.PROMOTE: "v{}",
        Release.Kind.RETREAT: "back to v{}",
        Release.Kind.ABORT: "back to v{}",
    }
    return [
        {
            "x": each.at.timestamp(),
            "label": words[Release.Kind(each.kind)].format(each.version.number),
            "tone": "deploy",
        }
        for each in releases
    ]


def _requests_chart(row: Deployment, found: traffic.Traffic) -> dict[str, Any]:
    return {
        "unit": "",
        "kind": "bars",
        "x": [at.timestamp() for at, _ in found.points] if found.total.requests else [],
        "series": [
            {"label": "Requests", "values": [counts.requests for _, counts in found.points], "tone": "accent"},
            {"label": "Errors", "values": [counts.errors for _, counts in found.points], "tone": "red"},
        ],
        "marks": _marks(row, found),
        "empty": "No requests in this period.",
    }


def _latency_chart(row: Deployment, found: traffic.Traffic) -> dict[str, Any]:
    return {
        "unit": "ms",
        "kind": "line",
        "x": [at.timestamp() for at, _ in found.points] if found.total.requests else [],
        "series": [
            {"label": "p50", "values": [counts.p50_ms for _, counts in found.points], "tone": "teal"},
            {"label": "p95", "values": [counts.p95_ms for _, counts in found.points], "tone": "accent"},
            {"label": "p99", "values": [counts.p99_ms for _, counts in found.points], "tone": "amber"},
        ],
        "marks": _marks(row, found),
        "empty": "No answered requests in this period.",
    }
