"""``{% load quality %}``."""

from __future__ import annotations

from typing import Any

from django import template

from monitoring.models import Feedback
from serving.models import PredictionLog

register = template.Library()


@register.simple_tag
def feedback_of(prediction: PredictionLog) -> dict[str, Any]:
    """What is known of a prediction's outcome (``kept``: its row of feedback, or None), and the classes it may be."""
    kept = Feedback.objects.filter(deployment=prediction.deployment_id, prediction_id=prediction.pk).first()
    output = (prediction.version.schema or {}).get("output") or {} if prediction.version else {}
    return {"kept": kept, "classes": output.get("classes") or []}
