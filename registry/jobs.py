"""Background work of the registry: validate a version, clean up local files."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from mlops.core import clock, logs
from mlops.jobs.registry import job
from mlops.jobs.runner import JobRun
from registry import acceleration
from registry.checking import Validation
from registry.models import Finding, ModelVersion, VersionStatus
from registry.services import artifacts
from registry.signals import version_ready
from registry.validation import READY, run_checks

log = logs.get(__name__)
_UNMEASURED: dict[str, Any] = {
    "format": "",
    "framework": "",
    "contents": None,
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


@job("validate_version", timeout_s=180, on_failed=end_failed)
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
    acceleration.forget(found)
    ModelVersion.objects.filter(pk=version_id, status=VersionStatus.VALIDATING).update(**_UNMEASURED)
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
    log.info("version_ready", version=version.pk, model=version.model.slug, number=version.number)


def forget_artifacts() -> None:
    """Daily: see ``services.artifacts.forget_artifacts``."""
    artifacts.forget_artifacts()
