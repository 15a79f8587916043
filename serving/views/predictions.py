"""The prediction log as pages, for developers."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import access
from accounts.caller import caller_of
from registry.models import ModelVersion
from serving import log_export, log_filter, redaction, snippets
from serving.models import Deployment, PredictionLog, Release
from serving.periods import RANGES
from serving.views.deployments import get_deployment

PAGE_SIZE = 50


@login_required
@require_GET
def deployment_predictions(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """Newest first; ``?before=<id>`` goes on where a page ended. The filters are ``serving.log_filter``'s."""
    row = get_deployment(request, org, name, "logs.view")
    rows, chosen = log_filter.rows(row, request.GET)
    found = list(rows.select_related("version")[: PAGE_SIZE + 1])
    query = _query(request)
    query.pop("before", None)
    newest = query.urlencode()
    if len(found) > PAGE_SIZE:
        query["before"] = str(found[PAGE_SIZE - 1].pk)
    context = {
        "deployment": row,
        "predictions": found[:PAGE_SIZE],
        "filters": {key: request.GET.get(key, "") for key in ("status", "version", "find")},
        "ranges": list(RANGES),
        "period": chosen,
        "versions": _versions(row),
        "formats": log_export.FORMATS,
        "most_rows": log_export.MOST_ROWS,
        "query": newest,
        "next_url": f"?{query.urlencode()}" if len(found) > PAGE_SIZE else "",
        "newest_url": f"?{newest}" if request.GET.get("before") else "",
    }
    return render(request, "serving/deployment_predictions.html", context)


def _query(request: HttpRequest) -> QueryDict:
    """Without the fields that a form sent empty."""
    query = request.GET.copy()
    for key in [key for key, value in query.items() if not value]:
        del query[key]
    return query


def _versions(row: Deployment) -> list[int]:
    """Numbers of the versions that have been live here, newest first."""
    live = Release.objects.filter(deployment=row).values("version")
    return list(ModelVersion.objects.filter(pk__in=live).order_by("-number").values_list("number", flat=True)[:100])


@login_required
@require_GET
def deployment_predictions_export(request: HttpRequest, org: str, name: str) -> HttpResponseBase:
    row = get_deployment(request, org, name, "logs.view")
    rows, _ = log_filter.rows(row, request.GET)
    return log_export.answer(row, rows, request.GET.get("as", "csv"))


@login_required
@require_GET
def deployment_prediction(request: HttpRequest, org: str, name: str, prediction_id: uuid.UUID) -> HttpResponse:
    row = get_deployment(request, org, name, "logs.view")
    found = access.get(
        caller_of(request),
        PredictionLog.objects.filter(deployment=row).select_related("version"),
        "logs.view",
        pk=prediction_id,
    )
    context: dict[str, Any] = {
        "deployment": row,
        "prediction": found,
        "features": list((found.features or {}).items()),
        "redacted": redaction.redacted_columns(found.features),
        "chances": _chances(found),
        "shown": found.prediction
        if isinstance(found.prediction, str)
        else json.dumps(found.prediction, ensure_ascii=False),
    }
    if found.features and not context["redacted"]:
        url = request.build_absolute_uri(row.predict_path)
        version = f"?version={found.version.number}" if found.version else ""
        context["curl"] = snippets.curl(url + version, {"inputs": [found.features]})
    return render(request, "serving/deployment_prediction.html", context)


def _chances(found: PredictionLog) -> list[tuple[str, float]]:
    """Class and probability, likeliest first, ten at most."""
    chances = [value for value in found.probabilities or [] if isinstance(value, (int, float))]
    output = (found.version.schema or {}).get("output") or {} if found.version else {}
    names = output.get("classes") or range(len(chances))
    return sorted(zip(map(str, names), chances, strict=False), key=lambda pair: -pair[1])[:10]
