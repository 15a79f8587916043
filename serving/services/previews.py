"""Previews: an address for one version beside the deployment's own. ``v3`` is there for every ready version; named ones are rows."""

from __future__ import annotations

import re
from datetime import timedelta

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, ids
from registry.models import ModelVersion
from serving.models import Deployment, Preview
from serving.services import deployments

DAYS, MOST_DAYS = 14, 90
MOST = 100  # of one deployment
_NUMBERED = re.compile(r"v[0-9]+")


def create(*, deployment: Deployment, name: str, version: ModelVersion, caller: Caller, days: int = DAYS) -> Preview:
    """A named address of ``version``. Raises Invalid (name, days), Conflict (taken, too many), NotDeployable."""
    _check_name(name)
    if not 1 <= days <= MOST_DAYS:
        raise errors.Invalid(f"A preview lives 1 to {MOST_DAYS} days.", fields={"days": [f"1 to {MOST_DAYS}."]})
    deployments.check_deployable(version, deployment.organization_id, deployment.model, deployment)
    try:
        with transaction.atomic():
            Deployment.objects.select_for_update().get(pk=deployment.pk)
            Preview.objects.filter(deployment=deployment, expires_at__lte=clock.now()).delete()
            if Preview.objects.filter(deployment=deployment).count() >= MOST:
                raise errors.Conflict(
                    f"{deployment.name} has {MOST} previews already.", code="too_many_previews", hint="Delete one."
                )
            row = Preview.objects.create(
                organization=deployment.organization, deployment=deployment, name=name, version=version,
                actor=caller.label, created_by=caller.person, expires_at=clock.now() + timedelta(days=days),
            )  # fmt: skip
            audit.record(
                deployment.organization, caller, "preview.create", deployment, preview=name, version=version.number
            )
    except IntegrityError as error:
        raise errors.Conflict(
            f"There is a preview {name!r} already.",
            code="name_taken",
            hint="Delete it first, or choose another name.",
            fields={"name": ["This name is taken."]},
        ) from error
    return row


def delete(row: Preview, caller: Caller) -> None:
    """Its address answers 404 from now on (within 5 seconds in other processes)."""
    with transaction.atomic():
        gone, _ = Preview.objects.filter(pk=row.pk).delete()
        if gone:
            audit.record(
                row.organization, caller, "preview.delete", row.deployment, preview=row.name, version=row.version.number
            )


def forget() -> int:
    """Delete what has expired. Returns how many."""
    count, _ = Preview.objects.filter(expires_at__lte=clock.now()).delete()
    return count


def path_of(deployment: Deployment, name: str) -> str:
    return f"{deployment.predict_path}/previews/{name}"


def _check_name(name: str) -> None:
    if ids.SLUG.match(name) and not _NUMBERED.fullmatch(name):
        return
    text = "Use 1 to 63 characters: a-z, 0-9 and -, not at the ends; v and a number is the address of that version."
    raise errors.Invalid(f"{name!r} cannot be the name of a preview.", hint=text, fields={"name": [text]})
