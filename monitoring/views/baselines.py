"""The baseline page: what a version is compared with, its data quality then and now, and the new normal with its way back."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import clock, csv_lines, errors
from mlops.jobs.models import Job
from monitoring import baselines, new_normal, services, side_by_side
from monitoring.models import Baseline
from registry.models import ModelVersion
from serving import periods
from serving.models import Deployment

COLUMNS_A_PAGE = 25
CHANGES_SHOWN = 30


class NewNormalForm(forms.Form):
    days = forms.IntegerField(min_value=1, max_value=new_normal.MOST_DAYS)
    baseline = forms.IntegerField()


def _deployment(request: HttpRequest, org: str, name: str, action: str) -> Deployment:
    rows = Deployment.objects.with_routes().select_related("organization")
    return access.get(caller_of(request), rows, action, organization__slug=org, name=name)


def _last_job(deployment: Deployment, baseline: Baseline | None) -> Job | None:
    """The last new normal that was asked for since this baseline was made."""
    jobs = Job.objects.filter(kind="new_normal", subject_type="deployment", subject_id=str(deployment.pk))
    if baseline is not None:
        jobs = jobs.filter(created_at__gte=baseline.created_at)
    return jobs.order_by("-pk").first()


def _context(request: HttpRequest, deployment: Deployment) -> dict[str, Any]:
    version = baselines.version_of(deployment, request.GET.get("version"))
    baseline = baselines.of(deployment, version) if version is not None else None
    running, last = new_normal.running(deployment), _last_job(deployment, baseline)
    context = {
        "deployment": deployment,
        "version": version,
        "versions": baselines.versions(deployment),
        "baseline": baseline,
        "period": periods.period(request.GET),
        "ranges": periods.RANGES,
        "job": running,
        "failed": last if running is None and last is not None and last.error else None,
        "may_change": caller_of(request).can("drift.check", deployment.organization_id),
        "can_undo": new_normal.can_undo(baseline),
        "live_rows": baselines.LIVE_ROWS,
        "seen": baselines.live_rows_so_far(deployment, version) if version is not None and baseline is None else 0,
    }
    if baseline is not None:
        context |= _columns(request, baseline, context["period"])
    return context


def _columns(request: HttpRequest, baseline: Baseline, period: periods.Period) -> dict[str, Any]:
    found = side_by_side.compare(baseline, period.since, period.until)
    page = Paginator(found, COLUMNS_A_PAGE).get_page(request.GET.get("page"))
    shown = side_by_side.with_distinct(baseline, list(page), period.since, period.until)
    return {
        "page": page,
        "columns": shown,
        "moved": [each for each in shown if each.moved is not None and each.moved >= 0.1],
        "rows_now": max((each.now.rows for each in found), default=0),
        "odd": [each for each in found if each.before.state or each.now.state],
        "distinct_rows": side_by_side.DISTINCT_ROWS,
        "query": urlencode({"version": baseline.version.number}),
    }


@login_required
@require_safe
def deployment_baseline(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "deployment.view")
    context = _context(request, deployment)
    template = "_deployment_baseline" if request.htmx else "deployment_baseline"
    return render(request, f"monitoring/{template}.html", context)


@login_required
@require_safe
def deployment_baseline_columns(request: HttpRequest, org: str, name: str) -> StreamingHttpResponse:
    """The profile of every column as CSV."""
    deployment = _deployment(request, org, name, "deployment.view")
    version = baselines.version_of(deployment, request.GET.get("version"))
    baseline = baselines.of(deployment, version) if version is not None else None
    if baseline is None:
        raise errors.NotFound(f"There is no baseline under {deployment.name} yet.")
    period = periods.period(request.GET)
    found = side_by_side.compare(baseline, period.since, period.until)
    found = side_by_side.with_distinct(baseline, found, period.since, period.until)
    response = StreamingHttpResponse(
        csv_lines.lines(side_by_side.csv_rows(found)), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="{name}-v{baseline.version.number}-baseline.csv"'
    response["Cache-Control"] = "no-store"
    return response


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def baseline_new_normal(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """What would become normal, and the button that makes it so."""
    deployment = _deployment(request, org, name, "drift.check")
    version = baselines.version_of(deployment, request.GET.get("version"))
    if version is None:
        raise errors.Conflict(f"Nothing is live under {deployment.name}.", code="not_live", hint="Deploy a version.")
    if request.method == "POST":
        form = NewNormalForm(request.POST)
        if not form.is_valid():
            raise errors.Invalid(f"Choose 1 to {new_normal.MOST_DAYS} days.", fields=form.errors)
        new_normal.request(
            deployment, version, form.cleaned_data["days"], caller_of(request), form.cleaned_data["baseline"]
        )
        messages.info(request, "The new baseline is being made; this page follows it.")
        return redirect(f"{reverse('deployment_baseline', args=[org, name])}?version={version.number}")
    form = NewNormalForm({"days": request.GET.get("days", new_normal.DAYS), "baseline": 0})
    days = form.cleaned_data["days"] if form.is_valid() else new_normal.DAYS
    found = new_normal.preview(deployment, version, days)
    context = {
        "deployment": deployment,
        "version": version,
        "found": found,
        "changes": found.changes[:CHANGES_SHOWN],
        "days": days,
        "choices": (1, 3, 7, 14, 30),
        "drifting": _drifting(deployment, version),
        "undo_days": new_normal.UNDO.days,
        "least_rows": new_normal.LEAST_ROWS,
        "now": clock.now(),
    }
    return render(request, "monitoring/baseline_new_normal.html", context)


def _drifting(deployment: Deployment, version: ModelVersion) -> list[str]:
    """The columns that the newest check found moved."""
    check = services.latest_check(deployment)
    if check is None or check.version_id != version.pk:
        return []
    return [column["name"] for column in check.columns if column["severity"] == "drift"]


@login_required
@require_POST
def baseline_undo(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "drift.check")
    version = baselines.version_of(deployment, request.GET.get("version"))
    if version is None:
        raise errors.Conflict(f"Nothing is live under {deployment.name}.", code="not_live", hint="Deploy a version.")
    new_normal.undo(deployment, version, caller_of(request))
    messages.success(request, "The former baseline is back, with its counts.")
    return redirect(f"{reverse('deployment_baseline', args=[org, name])}?version={version.number}")
