"""Marks for charts over time (docs/ui.md): what was live changed, an incident opened."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from serving import log_uses
from serving.models import Deployment, Release

_Kind = Release.Kind
_WORDS = {
    _Kind.DEPLOY: "v{}",
    _Kind.ROLLBACK: "back to v{}",
    _Kind.STOP: "stopped",
    _Kind.START: "started",
    _Kind.PAUSE: "paused",
    _Kind.RESUME: "resumed",
    _Kind.TRAFFIC: "traffic",
    _Kind.ROLLOUT: "rollout",
    _Kind.STEP: "rollout step",
    _Kind.PROMOTE: "v{}",
    _Kind.RETREAT: "back to v{}",
    _Kind.ABORT: "back to v{}",
}


def of(deployment: Deployment, since: datetime, step_s: int, last: float) -> list[dict[str, Any]]:
    """Since that moment. What happened after the chart's last point (``last``, Unix seconds), which stands for the time up to the next
    one, is marked on it: the chart ends there. Of several of a kind between two points of the chart the last one, else their labels cover each other."""
    changes = Release.objects.filter(deployment=deployment, at__gte=since).select_related("version").order_by("number")
    deploys = [
        {"x": each.at.timestamp(), "label": _WORDS[_Kind(each.kind)].format(each.version.number), "tone": "deploy"}
        for each in changes
    ]
    marks = [*deploys, *log_uses.marks(deployment, since)]
    marks = [mark | {"x": min(mark["x"], last)} for mark in marks if mark["x"] < last + step_s]
    return list({(mark["tone"], int(mark["x"]) // step_s): mark for mark in marks}.values())
