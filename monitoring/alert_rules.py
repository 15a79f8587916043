"""A deployment's alert rules: the defaults it has from its first deploy, and those of its people's own."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import errors
from monitoring import incidents
from monitoring.models import AlertRule
from serving.models import Deployment

_Kind = AlertRule.Kind
DEFAULTS: dict[str, dict[str, Any]] = {
    _Kind.DRIFT: {"threshold": 0.2, "window_minutes": 24 * 60, "minimum_rows": 300},
    _Kind.ERROR_RATE: {"threshold": 0.05, "window_minutes": 15, "minimum_rows": 20},
    _Kind.LATENCY: {"threshold": 2.0, "window_minutes": 15, "minimum_rows": 50},
    _Kind.NO_TRAFFIC: {"threshold": 24.0, "window_minutes": 24 * 60, "minimum_rows": 1, "enabled": False},
}
# Per kind: least and greatest threshold that mean something.
THRESHOLDS: dict[str, tuple[float, float]] = {
    _Kind.DRIFT: (0.01, 10.0),
    _Kind.ERROR_RATE: (0.001, 1.0),
    _Kind.LATENCY: (1.0, 100.0),
    _Kind.NO_TRAFFIC: (1.0, 24.0 * 30),
}
WINDOW_MINUTES = (5, 7 * 24 * 60)
MINIMUM_ROWS = (1, 1_000_000)


def ensure_rules(deployment: Deployment) -> None:
    """The rules every deployment has from its first deploy on; those its owner changed stay as they are."""
    rows = [
        AlertRule(organization_id=deployment.organization_id, deployment=deployment, kind=kind, **fields)
        for kind, fields in DEFAULTS.items()
    ]
    AlertRule.objects.bulk_create(rows, ignore_conflicts=True)


def rule(deployment: Deployment, kind: str) -> AlertRule:
    """The deployment's rule of a default kind."""
    found, _ = AlertRule.objects.get_or_create(
        deployment=deployment,
        kind=kind,
        defaults={"organization_id": deployment.organization_id, **DEFAULTS[kind]},
    )
    return found


def rules_of(deployment: Deployment) -> list[AlertRule]:
    """All of a deployment's rules in the order of their kinds."""
    return [rule(deployment, kind) for kind in DEFAULTS]


def change_rule(found: AlertRule, caller: Caller, **changes: Any) -> AlertRule:
    """Set threshold, window_minutes, minimum_rows or enabled. Raises Invalid, naming every field that is out of range."""
    wrong = {name: text for name, value in changes.items() if (text := _wrong(found.kind, name, value))}
    if wrong:
        name, text = next(iter(wrong.items()))
        raise errors.Invalid(f"{name}: {text}", fields={name: [text] for name, text in wrong.items()})
    before = {name: getattr(found, name) for name in changes}
    with transaction.atomic():
        for name, value in changes.items():
            setattr(found, name, value)
        found.save(update_fields=[*changes])
        detail = {name: [before[name], value] for name, value in changes.items() if before[name] != value}
        if detail:
            audit.record(found.organization, caller, "rule.changed", found.deployment, kind=found.kind, **detail)
        if not found.enabled:
            incidents.forget_signal(found.deployment, found.kind, f"The rule was switched off by {caller.label}.")
    return found


def _wrong(kind: str, name: str, value: Any) -> str:
    if name == "enabled":
        return "" if isinstance(value, bool) else "is true or false"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return "is a number"
    low, high = {"threshold": THRESHOLDS[kind], "window_minutes": WINDOW_MINUTES, "minimum_rows": MINIMUM_ROWS}[name]
    return "" if low <= value <= high else f"is between {low:g} and {high:g}"
