"""What has been done for a push, step by step, out of the jobs that did it."""

from __future__ import annotations

from typing import Any

from mlops.jobs.models import Job
from registry.models import PushStatus, SourcePush
from registry.services import versions
from registry.validation import LABELS

_LABELS = {
    "resolve": "Find the commit", "fetch": "Fetch", "pack": "Make a version", "warm": "Load", "switch": "Go live", "preview": "Make the preview",
}  # fmt: skip


def steps_of(push: SourcePush) -> list[dict[str, Any]]:
    """``[{"stage", "name", "label", "status", "seconds", "message"?, "hint"?}]``: fetched, validated, released. What is to come is not in it."""
    validation = versions.latest_job(push.version) if push.version is not None and push.fetched_at is not None else None
    found = []
    for stage, job in (("fetch", push.job), ("validate", validation), ("deploy", _release_job(push))):
        for step in job.steps if job is not None else []:
            label = LABELS.get(step["name"], "") if stage == "validate" else _LABELS.get(step["name"], "")
            found.append({**step, "stage": stage, "label": label or step["name"]})
    if push.status == PushStatus.FAILED and not any(step["status"] == "failed" for step in found):
        found.append({"stage": "", "name": "failed", "label": "Stopped", "status": "failed", "seconds": None})
    return found


def _release_job(push: SourcePush) -> Job | None:
    rows = Job.objects.filter(kind="release_push", subject_type="sourcepush", subject_id=str(push.pk))
    return rows.order_by("-pk").first()
