"""The prediction log as pages, for developers."""

from __future__ import annotations

import json
import uuid
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from accounts import access
from accounts.caller import caller_of
from serving import snippets
from serving.api.predictions import by_status
from serving.models import PredictionLog
from serving.views.deployments import get_deployment

PAGE_SIZE = 50


@login_required
@require_GET
def deployment_predictions(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """Newest first; ``?before=<id>`` goes on where a page ended."""
    row = get_deployment(request, org, name, "logs.view")
    status = request.GET.get("status", "")
    rows = by_status(PredictionLog.objects.filter(deployment=row).select_related("version").order_by("-pk"), status)
    before = _uuid(request.GET.get("before", ""))
    if before is not None:
        rows = rows.filter(pk__lt=before)
    found = list(rows[: PAGE_SIZE + 1])
    query = request.GET.copy()
    if len(found) > PAGE_SIZE:
        query["before"] = str(found[PAGE_SIZE - 1].pk)
    context = {
        "deployment": row,
        "predictions": found[:PAGE_SIZE],
        "status": status,
        "next_url": f"?{query.urlencode()}" if len(found) > PAGE_SIZE else "",
        "newest_url": f"?status={status}" if before is not None else "",
    }
    return render(request, "serving/deployment_predictions.html", context)


def _uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


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
        "chances": _chances(found),
        "shown": found.prediction
        if isinstance(found.prediction, str)
        else json.dumps(found.prediction, ensure_ascii=False),
    }
    if found.features:
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
