"""The one door to a row: a stranger sees 404, a low role 403 that says which role is needed."""

from __future__ import annotations

from typing import TypeVar

from django.db import models

from accounts.caller import Caller
from accounts.models import Organization
from accounts.roles import ACTIONS
from mlops.core import errors

Row = TypeVar("Row", bound=models.Model)


def organization(caller: Caller, slug: str, action: str = "org.view") -> Organization:
    """The organisation with this slug. Raises NotFound for strangers, Forbidden for a low role or a missing scope."""
    found = Organization.objects.filter(slug=slug, pk__in=caller.organization_ids).first()
    if found is None:
        raise errors.NotFound(f"There is no organisation {slug!r} that you belong to.")
    _require(caller, action, found)
    return found


def get(caller: Caller, rows: type[Row] | models.QuerySet[Row], action: str, **lookup: object) -> Row:
    """One organisation-owned row. Raises NotFound for missing and foreign rows alike, Forbidden for a low role."""
    queryset = rows.objects.all() if isinstance(rows, type) else rows
    found = queryset.visible_to(caller).filter(**lookup).first()
    if found is None:
        what = queryset.model._meta.verbose_name
        raise errors.NotFound(f"This {what} does not exist, or it belongs to someone else.")
    _require(caller, action, found.organization_id)
    return found


def _require(caller: Caller, action: str, organization: Organization | int) -> None:
    if caller.can(action, organization):
        return
    needed = ACTIONS[action]
    role = caller.role_in(organization)
    if role is not None and not role.at_least(needed.role):
        whose, hint = "yours", "Ask an admin of the organisation to raise your role."
        if caller.key is not None:  # a key's role may be lower than its maker's
            whose, hint = "this API key's", "Make a key with that role under Settings, API keys, or use another one."
        raise errors.Forbidden(
            f"This needs the role {needed.role.label.lower()}; {whose} is {role.label.lower()}.",
            code="role_too_low",
            hint=hint,
        )
    raise errors.Forbidden(
        f"This API key lacks the scope {needed.scope.value!r}.",
        code="scope_missing",
        hint="Make a key with that scope under Settings, API keys.",
    )
