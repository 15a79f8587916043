"""What people do with a version: validate (again), describe, give a schema, archive, restore."""

from __future__ import annotations

import contextlib
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors
from mlops.jobs.models import Job
from mlops.jobs.queue import enqueue
from mlops.runtime.host import HostError, get_host
from registry.models import Finding, ModelVersion, VersionStatus
from registry.services import artifacts
from registry.signals import version_switched

EDITABLE = ("description", "metrics", "tags")


def start_validation(version: ModelVersion, caller: Caller) -> Job:
    """Received or failed -> validating, and the job. Raises Conflict in every other state."""
    with transaction.atomic():
        moved = any(
            ModelVersion.objects.move(version.pk, source, VersionStatus.VALIDATING)
            for source in (VersionStatus.RECEIVED, VersionStatus.FAILED)
        )
        if not moved:
            version.refresh_from_db()
            raise errors.Conflict(
                f"{version} is {version.get_status_display().lower()}; only a failed version can be validated again.",
                code="not_failed",
                hint="Push the model again to get a new version."
                if version.ended
                else "Wait for the validation that is running.",
            )
        Finding.objects.filter(version=version).delete()
        return enqueue(
            "validate_version",
            organization=version.organization,
            subject=version,
            args={"version_id": version.pk},
            created_by=caller.user or (caller.key.created_by if caller.key else None),
        )


def validate_again(version: ModelVersion, caller: Caller) -> Job:
    with transaction.atomic():
        job = start_validation(version, caller)
        audit.record(
            version.organization,
            caller,
            "version.validated_again",
            version,
            model=version.model.slug,
            number=version.number,
        )
    return job


def latest_job(version: ModelVersion) -> Job | None:
    """The validation that runs or ran last."""
    return (
        Job.objects.filter(subject_type="modelversion", subject_id=str(version.pk), kind="validate_version")
        .order_by("-pk")
        .first()
    )


def edit_version(version: ModelVersion, caller: Caller, **changes: Any) -> ModelVersion:
    """Change description, metrics or tags: what people say about a version. What was measured never changes."""
    if wrong := set(changes) - set(EDITABLE):
        raise ValueError(f"not editable: {wrong}")
    if not changes:
        return version
    with transaction.atomic():
        for name, value in changes.items():
            setattr(version, name, value)
        version.save(update_fields=list(changes))
        audit.record(
            version.organization,
            caller,
            "version.edited",
            version,
            model=version.model.slug,
            number=version.number,
            changed=sorted(changes),
        )
    return version


def switch_acceleration(version: ModelVersion, caller: Caller, *, on: bool) -> ModelVersion:
    """Whether its faster form answers; live deployments follow at once. Raises Conflict when there is none to switch on."""
    if version.accelerate == on:
        return version
    if on and not version.accelerated_sha256:
        reason = (version.acceleration or {}).get("reason") or "it was validated before there were any"
        raise errors.Conflict(
            f"{version} has no faster form: {reason}.", code="not_accelerated", hint="It answers with its own library."
        )
    version.accelerate = on
    if version.status == VersionStatus.READY and version.routes.exists():
        with contextlib.suppress(HostError):  # the other form is loaded before it is asked
            get_host().ensure(artifacts.spec_for(version))
    with transaction.atomic():
        version.save(update_fields=["accelerate"])
        version_switched.send(sender=ModelVersion, version=version)
        audit.record(
            version.organization,
            caller,
            "version.acceleration_switched",
            version,
            model=version.model.slug,
            number=version.number,
            on=on,
        )
    return version


def give_schema(version: ModelVersion, caller: Caller, schema: dict[str, Any] | None) -> ModelVersion:
    """Set (or with None take back) the schema its author gives. Raises Conflict once the version is ready: a ready version never changes."""
    with transaction.atomic():
        changed = ModelVersion.objects.filter(
            pk=version.pk, status__in=(VersionStatus.RECEIVED, VersionStatus.FAILED)
        ).update(given_schema=schema)
        if not changed:
            version.refresh_from_db()
            raise errors.Conflict(
                f"{version} is {version.get_status_display().lower()}: its schema cannot change any more.",
                code="schema_fixed",
                hint="Push the model again with the schema in its metadata."
                if version.ended
                else "Wait until this validation has ended.",
            )
        audit.record(
            version.organization,
            caller,
            "version.schema_given",
            version,
            model=version.model.slug,
            number=version.number,
        )
    version.given_schema = schema
    return version


def archive_version(version: ModelVersion, caller: Caller) -> ModelVersion:
    """Hide it from choices; its file stays. Raises Conflict while it answers calls, carries an alias or is validated."""
    with transaction.atomic():
        # Rows that point here from the app above; its foreign key protects the row, this protects what is live.
        if version.routes.exists():
            raise errors.Conflict(
                f"{version} is live.", code="version_live", hint="Deploy another version or stop the deployment first."
            )
        if version.rollouts_from.filter(ended_at=None).exists():
            raise errors.Conflict(
                f"{version} is what a rollout may go back to.",
                code="version_live",
                hint="Promote or abort the rollout first.",
            )
        if names := list(version.aliases.values_list("name", flat=True)):
            raise errors.Conflict(
                f"{version} is {', '.join(names)}.",
                code="version_aliased",
                hint="Point the alias to another version, or remove it.",
            )
        moved = any(
            ModelVersion.objects.move(version.pk, source, VersionStatus.ARCHIVED, archived_at=clock.now())
            for source in (VersionStatus.READY, VersionStatus.FAILED)
        )
        version.refresh_from_db()
        if not moved and version.status != VersionStatus.ARCHIVED:
            raise errors.Conflict(
                f"{version} is still being validated.", code="not_ended", hint="Wait until its validation has ended."
            )
        if moved:
            audit.record(
                version.organization,
                caller,
                "version.archived",
                version,
                model=version.model.slug,
                number=version.number,
            )
    return version


def restore_version(version: ModelVersion, caller: Caller) -> ModelVersion:
    """Back to what it was: ready if it ever was, else failed. Nothing happens to a version that is not archived."""
    target = VersionStatus.READY if version.ready_at is not None else VersionStatus.FAILED
    with transaction.atomic():
        if ModelVersion.objects.move(version.pk, VersionStatus.ARCHIVED, target, archived_at=None):
            audit.record(
                version.organization,
                caller,
                "version.restored",
                version,
                model=version.model.slug,
                number=version.number,
            )
    version.refresh_from_db()
    return version
