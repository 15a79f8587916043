"""Background work of the registry: validate a version, clean up local files."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from mlops.core import clock, logs
from mlops.jobs.registry import job
from mlops.jobs.runner import JobRun
from registry import acceleration, pushing
from registry.checking import Validation
from registry.git import process
from registry.models import Finding, ModelVersion, VersionStatus
from registry.services import artifacts, environments, pushes, sources, sweeping
from registry.signals import version_ready
from registry.validation import READY, run_checks

log = logs.get(__name__)
_UNMEASURED: dict[str, Any] = {
    "format": "",
    "framework": "",
    "contents": None,
    "environment": None,
    "compatibility": None,
    "schema": None,
    "example": None,
    "profile": {},
    "signature": None,
    "acceleration": None,
    "accelerated_key": "",
    "accelerated_sha256": "",
    "accelerated_bytes": None,
}


def end_failed(error: dict[str, Any], version_id: int) -> None:
    """The job failed, crashed too often, ran too long or lost its workers: the version failed too, and says why."""
    if not ModelVersion.objects.move(version_id, VersionStatus.VALIDATING, VersionStatus.FAILED):
        return
    if not Finding.objects.filter(version_id=version_id, level=Finding.Level.ERROR).exists():
        Finding.objects.create(
            version_id=version_id,
            check_name="validation",
            level=Finding.Level.ERROR,
            message=error["detail"],
            hint=error.get("hint") or "",
        )
    pushes.version_failed(version_id)


@job("validate_version", timeout_s=510, on_failed=end_failed)
def validate_version(run: JobRun, version_id: int) -> None:
    """All checks, then ready. Starts from nothing each time: an attempt whose worker died leaves no half findings."""
    found = (
        ModelVersion.objects.select_related("model", "organization")
        .filter(pk=version_id, status=VersionStatus.VALIDATING)
        .first()
    )
    if found is None:
        return
    run.beat()
    Finding.objects.filter(version=found).delete()
    ModelVersion.objects.filter(pk=version_id, status=VersionStatus.VALIDATING).update(**_UNMEASURED)
    acceleration.forget(found)
    found.refresh_from_db()
    validation = Validation(found, run)
    try:
        run_checks(validation)
    finally:
        validation.end_runners()
    with run.step(READY[0]) as step:
        step["message"] = f"Version {found.number} of {found.model.name} can be deployed."
        _make_ready(validation)


def _make_ready(validation: Validation) -> None:
    version = validation.version
    with transaction.atomic():
        validation.run.beat()  # raises when another worker has taken over: then nothing of this happens
        if not ModelVersion.objects.move(
            version.pk, VersionStatus.VALIDATING, VersionStatus.READY, ready_at=clock.now()
        ):
            return
        version.refresh_from_db()
        version.model.save(update_fields=["updated_at"])
        Finding.objects.create(
            version=version, check_name=READY[0], level=Finding.Level.OK, message="Every check passed."
        )
        version_ready.send(sender=ModelVersion, version=version)
        pushes.version_ready(version)
    log.info("version_ready", version=version.pk, model=version.model.slug, number=version.number)


def _push_failed(error: dict[str, Any], push_id: int) -> None:
    pushes.fail(push_id, error)


@job("deploy_push", timeout_s=280, on_failed=_push_failed)
def deploy_push(run: JobRun, push_id: int) -> None:
    """Fetch a commit and make a version of it; validation and serving go on from there."""
    pushing.work(run, push_id)


def clear_git() -> None:
    """Hourly: what killed workers left of fetches, and notes of webhook calls that nobody can send again."""
    process.sweep()
    sources.forget_deliveries()


def forget_artifacts() -> None:
    """Daily: see ``services.artifacts.forget_artifacts``."""
    artifacts.forget_artifacts()


def sweep_storage() -> None:
    """Daily: see ``services.sweeping``."""
    sweeping.sweep()


def forget_uploads() -> None:
    """Hourly: see ``services.sweeping``."""
    sweeping.forget_uploads()


def forget_environments() -> None:
    """Daily: see ``services.environments.forget``."""
    environments.forget()
