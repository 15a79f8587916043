"""What people do with a registered model: make, describe, archive, restore."""

from __future__ import annotations

from typing import Any

from django.db import IntegrityError, transaction

from accounts import audit
from accounts.caller import Caller
from accounts.models import Organization
from mlops.core import clock, errors
from registry.metadata import slug as checked_slug
from registry.models import ModelVersion, Project, RegisteredModel


def create_model(
    organization: Organization,
    caller: Caller,
    *,
    slug: str,
    project: Project,
    name: str = "",
    description: str = "",
    tags: dict[str, str] | None = None,
) -> RegisteredModel:
    """An empty model, ready for its first push. Raises Invalid for a bad slug, Conflict for a taken one."""
    checked_slug(slug, "The model name", "slug")
    made_by = caller.user or (caller.key.created_by if caller.key else None)
    try:
        with transaction.atomic():
            model = RegisteredModel.objects.create(
                organization=organization,
                slug=slug,
                name=name or slug,
                project=project,
                description=description,
                tags=tags or {},
                created_by=made_by,
            )
            audit.record(organization, caller, "model.created", model, model=slug)
    except IntegrityError as error:
        raise errors.Conflict(
            f"There is already a model {slug!r}.",
            code="name_taken",
            hint="Push a new version to it, or choose another name.",
        ) from error
    return model


def edit_model(model: RegisteredModel, caller: Caller, **changes: Any) -> RegisteredModel:
    """Change name, description, tags, project: only what is given."""
    if not changes:
        return model
    with transaction.atomic():
        for name, value in changes.items():
            setattr(model, name, value)
        model.save(update_fields=[*changes, "updated_at"])
        audit.record(model.organization, caller, "model.edited", model, model=model.slug, changed=sorted(changes))
    return model


def archive_model(model: RegisteredModel, caller: Caller) -> RegisteredModel:
    """Hide the model; nothing is lost. Raises Conflict while one of its versions answers calls."""
    with transaction.atomic():
        if ModelVersion.objects.filter(model=model, routes__isnull=False).exists():
            raise errors.Conflict(
                f"{model.name} has a live version.",
                code="version_live",
                hint="Stop its deployments, or deploy another model there, then archive it.",
            )
        _set_archived(model, caller, archived=True)
    return model


def restore_model(model: RegisteredModel, caller: Caller) -> RegisteredModel:
    with transaction.atomic():
        _set_archived(model, caller, archived=False)
    return model


def _set_archived(model: RegisteredModel, caller: Caller, *, archived: bool) -> None:
    moment = clock.now() if archived else None
    changed = RegisteredModel.objects.filter(pk=model.pk, archived_at__isnull=archived).update(archived_at=moment)
    if changed:
        audit.record(
            model.organization, caller, "model.archived" if archived else "model.restored", model, model=model.slug
        )
    model.archived_at = moment
