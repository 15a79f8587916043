"""What monitoring needs of the prediction log's rows, told to serving, which thins them out and deletes them on request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Exists, OuterRef, Q

from mlops.core import storage
from monitoring import counting
from monitoring.models import DriftCheck, Feedback, Incident
from monitoring.quality import scoring
from serving import log_uses
from serving.models import Deployment


def connect() -> None:
    use = log_uses.Use(counting.counted, _judged, _forget_feedback, _forget_reports, _incidents)
    log_uses.register("monitoring", use)
    log_uses.register("monitoring.quality", log_uses.Use(counted=scoring.counted))


def _judged() -> Q:
    """Rows whose ground truth came: they are what quality and its causes are looked up in."""
    return Q(Exists(Feedback.objects.filter(deployment=OuterRef("deployment"), prediction_id=OuterRef("pk"))))


def _forget_feedback(deployment_id: int, ids: Sequence[UUID]) -> dict[str, int]:
    """Ground truth of these predictions, with what it kept of them. The sums it was counted in stay."""
    gone = Feedback.objects.filter(deployment=deployment_id, prediction_id__in=ids).delete()[1]
    return {"feedback": gone.get(Feedback._meta.label, 0)}


def _forget_reports(deployment: Deployment, since: datetime | None, until: datetime | None) -> dict[str, int]:
    """Drawn reports show rows: those of checks whose window touches the time go. The verdicts and counts stay."""
    drawn = DriftCheck.objects.filter(deployment=deployment).exclude(report_key="")
    if since is not None:
        drawn = drawn.filter(window_end__gte=since)
    if until is not None:
        drawn = drawn.filter(window_start__lt=until)
    count = 0
    for pk, key in list(drawn.values_list("pk", "report_key")):
        DriftCheck.objects.filter(pk=pk).update(
            report_key="", report_error="Removed: rows of its time were deleted on request. Check now draws a new one."
        )
        storage.delete(key)
        count += 1
    return {"reports": count}


def _incidents(deployment: Deployment, since: datetime) -> list[dict[str, Any]]:
    opened = Incident.objects.filter(deployment=deployment, opened_at__gte=since).order_by("opened_at")
    return [
        {"x": at.timestamp(), "label": f"incident #{pk}", "tone": "incident"}
        for pk, at in opened.values_list("pk", "opened_at")[:50]
    ]
