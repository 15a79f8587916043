"""The budget of false alarms of a deployment: read it, change it."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import errors
from monitoring.drift import policy as budget
from monitoring.models import WatchPolicy
from serving.models import Deployment

DAYS = (1, 3650)
FIXED_PSI = (0.01, 10.0)


def of(deployment: Deployment) -> WatchPolicy:
    """The deployment's policy; the default one, not stored, where nobody has changed it. Reading writes nothing."""
    found = WatchPolicy.objects.filter(deployment=deployment).first()
    return found or WatchPolicy(organization_id=deployment.organization_id, deployment=deployment)


def change(deployment: Deployment, caller: Caller, **changes: Any) -> WatchPolicy:
    """Set budget_days, fixed_psi (None: calibrated tests) or multivariate. Raises Invalid, naming every field that is wrong."""
    wrong = {name: text for name, value in changes.items() if (text := _wrong(name, value))}
    if wrong:
        name, text = next(iter(wrong.items()))
        raise errors.Invalid(f"{name}: {text}", fields={name: [text] for name, text in wrong.items()})
    with transaction.atomic():
        Deployment.objects.select_for_update().get(pk=deployment.pk)  # two first changes at once: one after the other
        found = of(deployment)
        detail = {
            name: [getattr(found, name), value] for name, value in changes.items() if getattr(found, name) != value
        }
        if detail:
            for name, value in changes.items():
                setattr(found, name, value)
            found.save()
            audit.record(deployment.organization, caller, "watch_policy.changed", deployment, **detail)
    return found


def _wrong(name: str, value: Any) -> str:
    if name == "multivariate":
        return "" if isinstance(value, bool) else "is true or false"
    if name == "fixed_psi" and value is None:
        return ""
    if name == "budget_days":
        if isinstance(value, bool) or not isinstance(value, int):
            return "is a whole number of days"
        return "" if DAYS[0] <= value <= DAYS[1] else f"is between {DAYS[0]} and {DAYS[1]}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is a number"
    return "" if FIXED_PSI[0] <= value <= FIXED_PSI[1] else f"is between {FIXED_PSI[0]:g} and {FIXED_PSI[1]:g}"


def spread(deployment: Deployment, policy: WatchPolicy) -> list[dict[str, Any]]:
    """How the budget is spread, for people: each part, its share, and the chance of a false alarm that one look may take."""
    versions = max(sum(not route.shadow for route in deployment.routes.all()), 1)
    names = {"columns": "Columns, each for itself", "multivariate": "Columns together", "quality": "Quality"}
    return [
        {
            "name": names[part],
            "share": budget.share_of(part, multivariate=policy.multivariate),
            "alpha": policy.alpha_for(part, versions=versions),
        }
        for part in budget.PARTS
    ]
