"""Aliases: dev, staging and production point to one ready version each.

A promotion points the alias of its stage to what was promoted; by hand an alias goes to any version that may be in that stage.
"""

from __future__ import annotations

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import errors
from registry.models import Alias, ModelVersion, RegisteredModel, Stage
from registry.services import stages


def check_name(name: str) -> None:
    """Raises Invalid for anything but the three names."""
    if name not in Alias.NAMES:
        raise errors.Invalid(
            f"There is no alias {name[:60]!r}.", code="unknown_alias", hint=f"The aliases are {', '.join(Alias.NAMES)}."
        )


def set_alias(model: RegisteredModel, caller: Caller, *, name: str, version: ModelVersion) -> Alias:
    """Point ``name`` to a version of this model. Raises Conflict when that is not ready, or may not be in that stage."""
    check_name(name)
    stages.require_stage(version, Stage(name))
    with transaction.atomic():
        ready = ModelVersion.objects.deployable().select_for_update().filter(pk=version.pk, model=model).exists()
        if not ready:
            version.refresh_from_db()
            stages.refuse_revoked(version)  # meanwhile
            raise errors.Conflict(
                f"{version} is {version.get_status_display().lower()}, not ready.",
                code="version_not_ready",
                hint="Point the alias to a ready version.",
            )
        return point(model, caller, name=name, version=version)


def point(model: RegisteredModel, caller: Caller, *, name: str, version: ModelVersion) -> Alias:
    """The same for a version that is known to be ready and allowed; part of the caller's transaction."""
    alias = put(model, name=name, version=version)
    tell(model, caller, name=name, version=version)
    return alias


def put(model: RegisteredModel, *, name: str, version: ModelVersion) -> Alias:
    """The row alone: ``tell`` comes at the end of the transaction, as all that is written to the audit log does."""
    alias, _ = Alias.objects.update_or_create(
        organization=model.organization, model=model, name=name, defaults={"version": version}
    )
    return alias


def tell(model: RegisteredModel, caller: Caller, *, name: str, version: ModelVersion) -> None:
    audit.record(model.organization, caller, "alias.set", model, model=model.slug, alias=name, number=version.number)


def remove_alias(model: RegisteredModel, caller: Caller, *, name: str) -> None:
    """Raises NotFound when it is not set."""
    check_name(name)
    with transaction.atomic():
        removed, _ = Alias.objects.filter(model=model, name=name).delete()
        if not removed:
            raise errors.NotFound(f"{model.name} has no alias {name!r}.", hint="Nothing had to be removed.")
        audit.record(model.organization, caller, "alias.removed", model, model=model.slug, alias=name)
