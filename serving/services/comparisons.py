"""Replaying what callers asked of the live version through another one, before it is promoted."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors
from mlops.jobs import queue
from mlops.jobs.models import JobStatus
from registry.models import ModelVersion, VersionStatus
from registry.services import stages
from serving.models import Comparison, Deployment
from serving.services import deployments

LAST, MOST = 1_000, 10_000
OPEN = (JobStatus.QUEUED, JobStatus.RUNNING)
KEPT = 50  # per deployment; older ones go with the next


def start(*, deployment: Deployment, candidate: ModelVersion, last: int, caller: Caller) -> Comparison:
    """Queue the comparison of ``candidate`` with the live version over the ``last`` logged rows. Raises Conflict, Invalid."""
    champion = deployment.live_version or deployments.last_version(deployment)
    if champion is None:
        raise errors.Conflict(
            f"{deployment.name} has never been live.",
            code="not_live",
            hint="There is nothing to compare with: deploy a version.",
        )
    if candidate.pk == champion.pk:
        raise errors.Invalid(
            f"Version {candidate.number} is the live one.",
            code="same_version",
            fields={"version": ["Choose another version."]},
        )
    if candidate.status != VersionStatus.READY:
        raise errors.Conflict(
            f"Version {candidate.number} is {candidate.get_status_display().lower()}, not ready.",
            code="version_not_ready",
            hint="Compare a version whose validation has passed.",
        )
    stages.refuse_revoked(candidate)
    with transaction.atomic():
        Deployment.objects.select_for_update().get(pk=deployment.pk)
        if Comparison.objects.filter(deployment=deployment, candidate=candidate, status__in=OPEN).exists():
            raise errors.Conflict(
                f"Version {candidate.number} is being compared already.", code="already_running", hint="Wait for it."
            )
        row = Comparison.objects.create(
            organization=deployment.organization,
            deployment=deployment,
            champion=champion,
            candidate=candidate,
            last=last,
            actor=caller.label,
            created_by=caller.person,
        )
        row.job = queue.enqueue(
            "compare_versions",
            organization=deployment.organization,
            subject=row,
            args={"comparison_id": row.pk},
            created_by=caller.person,
        )
        row.save(update_fields=["job"])
        _forget_oldest(deployment)
        audit.record(
            deployment.organization,
            caller,
            "deployment.compare",
            deployment,
            champion=champion.number,
            candidate=candidate.number,
            last=last,
        )
    return row


def _forget_oldest(deployment: Deployment) -> None:
    old = (
        Comparison.objects.filter(deployment=deployment)
        .exclude(status__in=OPEN)
        .order_by("-pk")
        .values_list("pk", flat=True)[KEPT:]
    )
    Comparison.objects.filter(pk__in=list(old)).delete()


def end_failed(error: dict[str, Any], comparison_id: int) -> None:
    """The job failed for good: so has the comparison, and says why."""
    Comparison.objects.filter(pk=comparison_id, status__in=OPEN).update(
        status=JobStatus.FAILED, error=error, finished_at=clock.now()
    )
