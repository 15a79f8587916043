"""The drift page: sentence, picture, table, history, report."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from csp.decorators import csp_exempt
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.utils.cache import patch_vary_headers
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import clock
from monitoring import baselines, charts, reports, services
from monitoring.models import AlertRule, DriftCheck, Incident
from serving.models import Deployment, Release

HISTORY = timedelta(days=7)
HISTORY_CHECKS = 200
# Evidently's page needs inline scripts and eval. It gets them in an opaque origin without cookies, network or parents' DOM.
REPORT_CSP = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; frame-ancestors 'self'"
)


def _deployment(request: HttpRequest, org: str, name: str, action: str) -> Deployment:
    rows = Deployment.objects.with_routes()
    return access.get(caller_of(request), rows, action, organization__slug=org, name=name)


def _context(request: HttpRequest, deployment: Deployment, check: DriftCheck | None) -> dict[str, Any]:
    columns = [{**column, "drawn": charts.histogram(column)} for column in check.columns] if check else []
    rule = services.rule(deployment, AlertRule.Kind.DRIFT)
    caller = caller_of(request)
    return {
        "deployment": deployment,
        "check": check,
        "columns": columns,
        "moved": [column for column in columns if column["severity"] in ("warning", "drift")],
        "calm": [column for column in columns if column["severity"] not in ("warning", "drift")],
        "rule": rule,
        "job": services.running_check(deployment),
        "may_check": caller.can("drift.check", deployment.organization_id),
        "live_version": deployment.live_version,
        "rows_seen": _rows_seen(deployment, check),
        "open_incident": Incident.objects.filter(deployment=deployment).exclude(status="resolved").first(),
    }


def _rows_seen(deployment: Deployment, check: DriftCheck | None) -> int:
    if check is not None or deployment.live_version is None:
        return check.rows if check is not None else 0
    return baselines.live_rows_so_far(deployment, deployment.live_version)


@login_required
@require_safe
def deployment_drift(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "deployment.view")
    check = services.latest_check(deployment)
    context = _context(request, deployment, check)
    if request.htmx:
        return render(request, "monitoring/_deployment_drift.html", context)
    since = clock.now() - HISTORY
    checks = list(
        DriftCheck.objects.filter(deployment=deployment, at__gte=since).select_related("version")[:HISTORY_CHECKS]
    )
    releases = Release.objects.filter(deployment=deployment, at__gte=since).select_related("version")
    incidents = Incident.objects.filter(deployment=deployment, opened_at__gte=since)
    chart = charts.history(checks, releases, incidents, context["rule"].threshold)
    return render(request, "monitoring/deployment_drift.html", {**context, "checks": checks[:20], "chart": chart})


@login_required
@require_POST
def deployment_drift_check(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "drift.check")
    services.request_check(deployment, caller_of(request))
    if request.htmx:
        return render(
            request,
            "monitoring/_deployment_drift.html",
            _context(request, deployment, services.latest_check(deployment)),
        )
    messages.success(request, "The check has started; this page follows it.")
    return redirect("deployment_drift", org=org, name=name)


@login_required
@require_POST
def deployment_drift_simulate(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "drift.check")
    services.request_simulation(deployment, caller_of(request))
    messages.info(request, "Shifted rows are on their way through the real API; then drift is checked.")
    return redirect("deployment_drift", org=org, name=name)


def _check(request: HttpRequest, org: str, name: str, check_id: int) -> DriftCheck:
    rows = DriftCheck.objects.select_related("version", "baseline", "deployment__organization")
    return access.get(
        caller_of(request), rows, "deployment.view", organization__slug=org, deployment__name=name, pk=check_id
    )


@login_required
@require_safe
def drift_check(request: HttpRequest, org: str, name: str, check_id: int) -> HttpResponse:
    """One check of the past."""
    deployment = _deployment(request, org, name, "deployment.view")
    check = _check(request, org, name, check_id)
    return render(
        request, "monitoring/drift_check.html", {**_context(request, deployment, check), "job": None, "past": True}
    )


@login_required
@require_safe
@csp_exempt()
def drift_report(request: HttpRequest, org: str, name: str, check_id: int) -> StreamingHttpResponse:
    """Evidently's HTML, for the sandboxed frame only."""
    check = _check(request, org, name, check_id)
    packed = "gzip" in request.headers.get("Accept-Encoding", "")
    body = reports.read(check, packed=packed)
    first = next(body, b"")  # a missing file is an error page, not a broken stream
    response = StreamingHttpResponse(_chained(first, body), content_type="text/html; charset=utf-8")
    response["Content-Security-Policy"] = REPORT_CSP
    response["X-Frame-Options"] = "SAMEORIGIN"
    response["Cache-Control"] = "private, max-age=86400"
    if packed:
        response["Content-Encoding"] = "gzip"
    patch_vary_headers(response, ["Accept-Encoding", "Cookie"])
    return response


def _chained(first: bytes, rest: Any) -> Any:
    yield first
    yield from rest
