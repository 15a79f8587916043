"""The quality page: sentence, metrics, chart, confusion, versions; labels in, metrics of one's own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import clock, csv_lines, errors
from mlops.core.errors import SlipwayError
from monitoring.forms_quality import FeedbackFileForm, LabelForm, MetricForm
from monitoring.models import CustomMetric
from monitoring.quality import feedback, matching, page, reading
from monitoring.quality.live import Past
from monitoring.quality.metrics import evaluation, services
from monitoring.quality.metrics.rows import MOST_ROWS
from serving import downloads, snippets
from serving.models import Deployment, PredictionLog
from serving.periods import Period, period
from serving.views.deployments import get_deployment

RANGES = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30), "90d": timedelta(days=90)}
_PYTHON = """def metric(rows, predictions, actuals):
    known = [(p, a) for p, a in zip(predictions, actuals)
             if a is not None]
    wrong = sum(p != a for p, a in known)
    return wrong / len(known)
"""
_WORDS = {"90d": "the last 90 days"}
POINTS_OF_A_CARD = 168
_COLUMNS = ("at", "version", "answered", "labelled", "metric", "value", "low", "high", "estimated", "estimated_error")


def _past(request: HttpRequest, deployment: Deployment) -> tuple[Past, Period]:
    chosen = period(request.GET, default="7d", names=RANGES)
    return Past(deployment, chosen.since, chosen.until), chosen


@login_required
@require_safe
def deployment_quality(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name)
    past, chosen = _past(request, deployment)
    return render(request, "monitoring/deployment_quality.html", _context(request, deployment, past, chosen))


def _context(request: HttpRequest, deployment: Deployment, past: Past, chosen: Period) -> dict[str, Any]:
    quality, caller = past.quality(), caller_of(request)
    sees_log = caller.can("logs.view", deployment.organization_id)
    metric = page.chosen_metric(quality, request.GET.get("metric", ""))
    rows = page.table(past, quality)
    versions = page.versions(past, metric)
    known = past.known.get(next(iter(past.versions), 0))
    return {
        "deployment": deployment,
        "period": chosen,
        "ranges": list(RANGES),
        "keep": f"&metric={metric}",
        "keep_fields": [("metric", metric)],
        "sentence": page.sentence(past, _WORDS.get(chosen.name) or chosen.words),
        "quality": quality,
        "rows": rows,
        "metric": metric,
        "metric_title": page.title(metric),
        "metric_column": f"#{page.title(metric)}",
        "drawable": [each for each in rows if each.live is not None or each.estimate is not None],
        "chart": page.chart(deployment, past, metric, page.points(past, metric)),
        "confusion": page.confusion(past, quality),
        "versions": versions,
        "calibration": page.calibration_note(known) if known is not None and quality.estimates else "",
        "no_estimate": quality.kind == "number",
        "lost": page.lost(deployment, past.start, sees_log=sees_log),
        "metrics": _cards(deployment, sees_log=sees_log),
        "may_write": caller.can("rule.write", deployment.organization_id),
        "may_label": caller.can("deployment.predict", deployment.organization_id),
        "file_form": FeedbackFileForm(),
        **_snippets(request, deployment, sees_log=sees_log),
    }


def _cards(deployment: Deployment, *, sees_log: bool) -> list[dict[str, Any]]:
    cards = []
    for metric in CustomMetric.objects.filter(deployment=deployment):
        newest = list(metric.values.order_by("-at")[:POINTS_OF_A_CARD])
        cards.append(
            {
                "metric": metric,
                "error": page.metric_error(metric, sees_log=sees_log),
                "newest": newest[0] if newest else None,
                "trend": [each.value for each in reversed(newest)],
            }
        )
    return cards


def _snippets(request: HttpRequest, deployment: Deployment, *, sees_log: bool) -> dict[str, str]:
    """With the newest prediction for those who may see it."""
    url = f"{request.build_absolute_uri(deployment.predict_path)}/feedback"
    logged = PredictionLog.objects.filter(deployment=deployment, error_code="").order_by("-pk")
    newest = logged.first() if sees_log else None
    actual = newest.prediction if newest is not None and not isinstance(newest.prediction, list | dict) else 1
    body = {"prediction_id": str(newest.pk if newest is not None else uuid.UUID(int=0)), "actual": actual}
    csv_curl = (
        f'curl {url} \\\n  -H "Authorization: Bearer ${snippets.KEY_VARIABLE}" \\\n  -H "Content-Type: text/csv" \\\n'
        "  --data-binary @labels.csv   # first line: prediction_id,actual"
    )
    return {"curl": snippets.curl(url, body), "python": snippets.python(url, body), "csv_curl": csv_curl}


@login_required
@require_safe
def deployment_quality_export(request: HttpRequest, org: str, name: str) -> StreamingHttpResponse:
    """Every metric of every version at each step of the period, as CSV."""
    deployment = get_deployment(request, org, name)
    past, _ = _past(request, deployment)
    return downloads.text(
        csv_lines.lines(_lines(past)), filename=f"{deployment.name}-quality.csv", content_type="text/csv"
    )


def _lines(past: Past) -> Iterator[list[Any]]:
    yield list(_COLUMNS)
    step = page.step_of(past.end - past.start)
    at = clock.floor(past.start, step)
    while at < past.end:
        for pk, version in past.versions.items():
            quality = past.quality(at, at + step, pk)
            for each in page.table(past, quality, pk):
                live = each.live
                yield [
                    at.isoformat(),
                    version.number,
                    quality.answered,
                    quality.labelled,
                    each.name,
                    live.value if live else None,
                    live.low if live else None,
                    live.high if live else None,
                    each.estimate,
                    each.estimate_error,
                ]
        at += step


# -- labels -------------------------------------------------------------------------------------------------------


@login_required
@require_POST
def quality_feedback(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """A CSV of labels, and what became of each."""
    deployment = get_deployment(request, org, name, "deployment.predict")
    form = FeedbackFileForm(request.POST, request.FILES)
    if not form.is_valid():
        raise errors.Invalid("Choose a CSV file.", fields={"file": ["Its first line is prediction_id,actual."]})
    file = form.cleaned_data["file"]
    if file.size > reading.LIMIT_BYTES:
        raise errors.TooLarge(
            f"A file of labels has at most {reading.LIMIT_BYTES >> 20} MB.", hint="Cut it into several."
        )
    file.open("rb")
    found = feedback.receive(deployment, caller_of(request), reading.entries(file.file, "csv"))
    matching.count_due()
    return render(
        request, "monitoring/quality_feedback.html", {"deployment": deployment, "found": found, "filename": file.name}
    )


@login_required
@require_POST
def prediction_feedback(request: HttpRequest, org: str, name: str, prediction_id: uuid.UUID) -> HttpResponse:
    """The small form of a prediction's page."""
    deployment = get_deployment(request, org, name, "deployment.predict")
    form = LabelForm(request.POST)
    actual = form.cleaned_data["actual"] if form.is_valid() else ""
    found = feedback.receive(deployment, caller_of(request), [reading.Entry(1, prediction_id, actual)])
    if found.invalid:
        messages.error(request, found.invalid[0]["detail"])
    elif found.unknown:
        messages.error(request, "This prediction is not in the log.")
    else:
        matching.count_due()
        messages.success(request, "Kept: it counts in the quality of its version.")
    return redirect("deployment_prediction", org=org, name=name, prediction_id=prediction_id)


# -- metrics of one's own -----------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
def metric_create(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "rule.write")
    form = MetricForm(request.POST or None)
    return _metric_page(request, deployment, form, None)


@login_required
@require_http_methods(["GET", "POST"])
def metric_change(request: HttpRequest, org: str, name: str, metric: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "rule.write")
    found = access.get(
        caller_of(request), CustomMetric.objects.filter(deployment=deployment), "rule.write", name=metric
    )
    found.deployment = deployment
    form = MetricForm(request.POST or None, initial={each: getattr(found, each) for each in services.FIELDS})
    form.fields["name"].disabled = True
    return _metric_page(request, deployment, form, found)


def _metric_page(
    request: HttpRequest, deployment: Deployment, form: MetricForm, found: CustomMetric | None
) -> HttpResponse:
    """Try it, or keep it; what is refused is told beside its field."""
    tried = None
    if request.method == "POST" and form.is_valid():
        wanted = dict(form.cleaned_data)
        try:
            if "try" in request.POST:
                asked = {each: wanted[each] for each in ("language", "source", "window_hours")}
                services.check_draft(deployment, **asked)
                tried = evaluation.tried(deployment, **asked)
            else:
                if found is None:
                    services.create(deployment, caller_of(request), **wanted)
                else:
                    services.change(
                        found, caller_of(request), **{key: value for key, value in wanted.items() if key != "name"}
                    )
                messages.success(request, f"The metric {wanted['name']} is computed each hour from now on.")
                return redirect("deployment_quality", org=deployment.organization.slug, name=deployment.name)
        except SlipwayError as error:
            form.refuse(error)
    version = deployment.live_version
    context = {
        "deployment": deployment,
        "form": form,
        "metric": found,
        "tried": tried,
        "columns": [each["name"] for each in ((version.schema or {}).get("inputs") or [])][:40] if version else [],
        "rows_tried": evaluation.TRIED_ROWS,
        "rows_hourly": MOST_ROWS,
        "python_example": _PYTHON,
    }
    return render(request, "monitoring/metric_form.html", context)


@login_required
@require_POST
def metric_delete(request: HttpRequest, org: str, name: str, metric: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "rule.write")
    found = access.get(
        caller_of(request), CustomMetric.objects.filter(deployment=deployment), "rule.write", name=metric
    )
    services.delete(found, caller_of(request))
    messages.success(request, f"The metric {metric} is gone, with its values.")
    return redirect("deployment_quality", org=org, name=name)
