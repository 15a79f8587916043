"""A model's rule for promotions."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from accounts.roles import Role
from mlops.core import errors, ids
from registry.models import PromotionPolicy, RegisteredModel, Stage
from registry.models.promotion import MOST_APPROVALS
from registry.services import stages
from registry.validation import LABELS, READY

FIELDS = (
    "staging_approvals",
    "production_approvals",
    "author_may_approve",
    "approver_role",
    "required_checks",
    "places",
)
CHECK_NAMES = tuple(name for name in LABELS if name != READY[0])
MOST_PLACES = 50


def set_policy(model: RegisteredModel, caller: Caller, **changes: Any) -> PromotionPolicy:
    """Change what is named, keep the rest. Raises Invalid with every mistake."""
    if unknown := set(changes) - set(FIELDS):
        raise ValueError(f"not of a policy: {unknown}")
    _check(changes)
    with transaction.atomic():
        RegisteredModel.objects.select_for_update().get(pk=model.pk)
        policy = stages.policy_of(model)
        for name, value in changes.items():
            setattr(policy, name, value)
        policy.save()
        audit.record(model.organization, caller, "policy.set", model, model=model.slug, **changes)
    return policy


def _check(changes: dict[str, Any]) -> None:
    wrong: dict[str, list[str]] = {}
    for name in ("staging_approvals", "production_approvals"):
        if not 0 <= changes.get(name, 0) <= MOST_APPROVALS:
            wrong[name] = [f"0 to {MOST_APPROVALS} people."]
    if changes.get("approver_role", Role.ADMIN) not in (Role.DEVELOPER, Role.ADMIN, Role.OWNER):
        wrong["approver_role"] = ["developer, admin or owner."]
    if unknown := set(changes.get("required_checks", ())) - set(CHECK_NAMES):
        wrong["required_checks"] = [
            f"Not a check: {', '.join(sorted(unknown))[:100]}. There are {', '.join(CHECK_NAMES)}."
        ]
    places = changes.get("places", {})
    if len(places) > MOST_PLACES or not all(
        ids.SLUG.match(name) and stage in (Stage.DEV, Stage.STAGING) for name, stage in places.items()
    ):
        wrong["places"] = [f"At most {MOST_PLACES} deployments, each dev or staging; every other one is production."]
    if wrong:
        name, words = next(iter(wrong.items()))
        raise errors.Invalid(f"{name}: {words[0]}", code="invalid_policy", fields=wrong)
