"""The drift page: sentence, picture, table, history, report; its files; one check of the past."""

from __future__ import annotations

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
from mlops.core import csv_lines
from monitoring import alert_rules, baselines, charts, column_history, drift_page, lookback, policies, reports, services
from monitoring.drift_page import Choice
from monitoring.models import AlertRule, DriftCheck, Incident
from serving.models import Deployment
from serving.views.deployments import get_deployment

# Evidently's page needs inline scripts and eval. It gets them in an opaque origin without cookies, network or parents' DOM.
REPORT_CSP = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline' 'unsafe-eval'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; frame-ancestors 'self'"
)


def _context(request: HttpRequest, deployment: Deployment, check: DriftCheck | None, wanted: Choice) -> dict[str, Any]:
    stored = drift_page.columns_in(check, wanted.window) if check else []
    columns = [{**column, "drawn": charts.histogram(column)} for column in stored]
    caller = caller_of(request)
    windows = drift_page.windows_of(check) if check else []
    return {
        "deployment": deployment,
        "check": check,
        "choice": wanted,
        "windows": windows,
        "window": next((each for each in windows if each["code"] == wanted.window), None),
        "columns": columns,
        "chosen": next((column for column in columns if column["name"] == wanted.column), None),
        "moved": [column for column in columns if column["severity"] in drift_page.MOVED],
        "calm": [column for column in columns if column["severity"] not in drift_page.MOVED],
        "rule": alert_rules.rule(deployment, AlertRule.Kind.DRIFT),
        "policy": policies.of(deployment),
        "job": services.running_check(deployment),
        "may_check": caller.can("drift.check", deployment.organization_id),
        "may_send": caller.can("deployment.write", deployment.organization_id),
        "live_version": deployment.live_version,
        "rows_seen": _rows_seen(deployment, check),
        "open_incident": Incident.objects.filter(deployment=deployment).exclude(status="resolved").first(),
    }


def _rows_seen(deployment: Deployment, check: DriftCheck | None) -> int:
    if check is not None or deployment.live_version is None:
        return check.rows if check is not None else 0
    return baselines.live_rows_so_far(deployment, deployment.live_version)


def _history(deployment: Deployment, check: DriftCheck | None, wanted: Choice, limit: float) -> dict[str, Any]:
    """The lines of the page: of the version that is shown, with the column's own when one is chosen."""
    marked = charts.marks(deployment, wanted.range.since)
    rows = DriftCheck.objects.filter(deployment=deployment, at__gte=wanted.range.since)
    if check is not None:
        rows = rows.filter(version=check.version_id)
    found = {"chart": charts.history(rows.values_list("at", "psi_inputs", "psi_outputs"), marked, limit)}
    if wanted.column and check is not None and check.baseline is not None:
        steps = column_history.read(check.baseline, wanted.column, wanted.range.since, wanted.range.step)
        found["column_chart"] = charts.column_history(steps, marked, limit)
    return found


@login_required
@require_safe
def deployment_drift(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "deployment.view")
    wanted = drift_page.choice(request.GET)
    check = drift_page.check_of(deployment, wanted)
    context = _context(request, deployment, check, wanted)
    context |= _history(deployment, check, wanted, context["rule"].threshold)
    if request.htmx:
        return render(request, "monitoring/_deployment_drift.html", context)
    return render(
        request,
        "monitoring/deployment_drift.html",
        {
            **context,
            "ranges": list(lookback.RANGES),
            "versions": drift_page.versions(deployment, check),
            "checks": drift_page.checks_in(deployment, wanted)[: drift_page.CHECKS_SHOWN],
        },
    )


@login_required
@require_safe
def deployment_drift_columns(request: HttpRequest, org: str, name: str) -> StreamingHttpResponse:
    """The column table as CSV."""
    deployment = get_deployment(request, org, name, "deployment.view")
    wanted = drift_page.choice(request.GET)
    rows = drift_page.column_rows(drift_page.check_of(deployment, wanted), wanted.window)
    return _csv(rows, f"{name}-drift-columns.csv")


@login_required
@require_safe
def deployment_drift_history(request: HttpRequest, org: str, name: str) -> StreamingHttpResponse:
    """The checks of the range, or the history of one column, as CSV."""
    deployment = get_deployment(request, org, name, "deployment.view")
    wanted = drift_page.choice(request.GET)
    return _csv(drift_page.history_rows(deployment, wanted), f"{name}-drift-history.csv")


def _csv(rows: Any, filename: str) -> StreamingHttpResponse:
    response = StreamingHttpResponse(csv_lines.lines(rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{filename}"'
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_POST
def deployment_drift_check(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "drift.check")
    services.request_check(deployment, caller_of(request))
    if request.htmx:
        wanted = drift_page.choice(request.GET)
        check = drift_page.check_of(deployment, wanted)
        context = _context(request, deployment, check, wanted)
        context |= _history(deployment, check, wanted, context["rule"].threshold)
        return render(request, "monitoring/_deployment_drift.html", context)
    messages.success(request, "The check has started; this page follows it.")
    return redirect("deployment_drift", org=org, name=name)


@login_required
@require_POST
def deployment_drift_simulate(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "drift.check")
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
    deployment = get_deployment(request, org, name, "deployment.view")
    check = _check(request, org, name, check_id)
    context = _context(request, deployment, check, drift_page.choice(request.GET))
    return render(request, "monitoring/drift_check.html", {**context, "job": None, "past": True})


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
