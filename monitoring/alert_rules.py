"""A deployment's alert rules: the defaults it has from its first deploy, and those of its people's own."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors
from mlops.core.storable import storable
from monitoring import baselines, columns, incidents, measures, windows
from monitoring.models import AlertRule
from serving.models import Deployment

_Kind = AlertRule.Kind
DEFAULTS: dict[str, dict[str, Any]] = {
    _Kind.DRIFT: {"threshold": 0.2, "window_minutes": 24 * 60, "minimum_rows": 300},
    _Kind.ERROR_RATE: {"threshold": 0.05, "window_minutes": 15, "minimum_rows": 20},
    _Kind.LATENCY: {"threshold": 2.0, "window_minutes": 15, "minimum_rows": 50},
    _Kind.NO_TRAFFIC: {"threshold": 24.0, "window_minutes": 24 * 60, "minimum_rows": 1, "enabled": False},
    _Kind.QUALITY: {"threshold": 0.03, "window_minutes": 7 * 24 * 60, "minimum_rows": 200},
    _Kind.ESTIMATE: {"threshold": 0.03, "window_minutes": 24 * 60, "minimum_rows": 500, "enabled": False},
}
# Per kind: least and greatest threshold that mean something.
THRESHOLDS: dict[str, tuple[float, float]] = {
    _Kind.DRIFT: (0.01, 10.0),
    _Kind.ERROR_RATE: (0.001, 1.0),
    _Kind.LATENCY: (1.0, 100.0),
    _Kind.NO_TRAFFIC: (1.0, 24.0 * 30),
    _Kind.QUALITY: (0.0, 1.0),
    _Kind.ESTIMATE: (0.0, 1.0),
}
WINDOW_MINUTES = (5, 7 * 24 * 60)
MINIMUM_ROWS = (1, 1_000_000)
NAME_LENGTH = 80
# Each own rule costs a query a minute.
OWN_AT_MOST = 50
_CHANGEABLE = ("threshold", "window_minutes", "minimum_rows", "enabled", "severity")
_OWN = ("name", "measure", "params", "direction")
_KEPT = ("recent", "flapping", "checked_at")


# -- reading ------------------------------------------------------------------------------------------------------


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
    """All of a deployment's rules: the defaults in the order of their kinds, then its own by name."""
    own = AlertRule.objects.filter(deployment=deployment, kind=_Kind.CUSTOM).order_by("name", "pk")
    return [rule(deployment, kind) for kind in DEFAULTS] + list(own)


def find(deployment: Deployment, key: str) -> AlertRule:
    """A rule by its key: the kind of a default, or ``rule-12`` for an own one. Raises NotFound."""
    if key in DEFAULTS:
        return rule(deployment, key)
    number = key.removeprefix("rule-")
    found = AlertRule.objects.filter(deployment=deployment, kind=_Kind.CUSTOM)
    own = found.filter(pk=int(number)).first() if number.isdecimal() and len(number) < 19 else None
    if own is None:
        raise errors.NotFound(f"There is no rule {key!r}.", hint=f"Rules: {', '.join(DEFAULTS)}, or rule-<number>.")
    return own


def column_names(deployment: Deployment) -> list[str]:
    """The columns a rule of one may be about: those of the live version's baseline, before there is one those of its schema."""
    version = deployment.live_version
    if version is None:
        return []
    baseline = baselines.of(deployment, version)
    if baseline is not None:
        return [column.name for column in windows.watched(baseline)]
    inputs = columns.input_names(version.schema)
    return [*inputs, columns.output_name("prediction", inputs)] if inputs else []


# -- changing -----------------------------------------------------------------------------------------------------


def draft(deployment: Deployment, **fields: Any) -> AlertRule:
    """An own rule as it would be, not stored: for a back-test, a test message, or to be kept. Raises Invalid."""
    made = AlertRule(organization_id=deployment.organization_id, deployment=deployment, kind=_Kind.CUSTOM, **fields)
    _check(made, {*_CHANGEABLE, *_OWN})
    return made


def changed(found: AlertRule, changes: dict[str, Any]) -> AlertRule:
    """A copy of a rule with these fields set, not stored. Raises Invalid, naming every field that is out of range."""
    copy = AlertRule(**{each.attname: getattr(found, each.attname) for each in AlertRule._meta.concrete_fields})
    copy.deployment = found.deployment
    fixed = sorted(set(changes) - {*_CHANGEABLE, *(_OWN if found.is_own else ())})
    if fixed:
        raise errors.Invalid(
            f"{fixed[0]} of a default rule is fixed.",
            hint="Make a rule of your own.",
            fields={name: ["is fixed for a default rule"] for name in fixed},
        )
    for name, value in changes.items():
        setattr(copy, name, value)
    _check(copy, set(changes))
    return copy


def create(deployment: Deployment, caller: Caller, **fields: Any) -> AlertRule:
    """A rule of people's own: name, measure, params, direction, threshold, window_minutes, minimum_rows, severity, enabled. Raises
    Invalid, Conflict."""
    made = draft(deployment, **fields)
    with transaction.atomic():
        own = AlertRule.objects.filter(deployment=deployment, kind=_Kind.CUSTOM)
        if own.count() >= OWN_AT_MOST:
            raise errors.Conflict(
                f"{deployment.name} has {OWN_AT_MOST} rules of its own.",
                code="too_many_rules",
                hint="Delete one you no longer need.",
            )
        _name_free(made)
        made.save()
        audit.record(made.organization, caller, "rule.created", deployment, rule=made.name, measure=made.measure)
    return made


def change_rule(found: AlertRule, caller: Caller, **changes: Any) -> AlertRule:
    """Set threshold, window_minutes, minimum_rows, severity or enabled; of an own rule also name, measure, params, direction. Raises
    Invalid, naming every field that is out of range, and Conflict for a name that is taken."""
    wanted = changed(found, changes)
    detail = {
        name: [getattr(found, name), getattr(wanted, name)]
        for name in changes
        if getattr(found, name) != getattr(wanted, name)
    }
    with transaction.atomic():
        for name in changes:
            setattr(found, name, getattr(wanted, name))
        if "name" in detail:
            _name_free(found)
        again = ()
        if set(detail) - {"name", "severity"}:  # what it found before was another rule's
            found.recent, found.flapping, found.checked_at = [], False, None
            again = _KEPT
        found.save(update_fields=[*changes, *again])
        if detail:
            audit.record(
                found.organization,
                caller,
                "rule.changed",
                found.deployment,
                kind=found.kind,
                rule=found.title,
                **detail,
            )
        if not found.enabled:
            incidents.forget_signal(found.deployment, found.key, f"The rule was switched off by {caller.label}.")
    return found


def delete(found: AlertRule, caller: Caller) -> None:
    """An own rule goes, and its signal with it. Raises Conflict for a default."""
    if not found.is_own:
        raise errors.Conflict(f"{found.title} is a default rule.", code="default_rule", hint="Switch it off instead.")
    with transaction.atomic():
        incidents.forget_signal(found.deployment, found.key, f"The rule was deleted by {caller.label}.")
        audit.record(found.organization, caller, "rule.deleted", found.deployment, rule=found.name)
        found.delete()


def _name_free(found: AlertRule) -> None:
    others = AlertRule.objects.filter(deployment=found.deployment, name__iexact=found.name, kind=_Kind.CUSTOM)
    if others.exclude(pk=found.pk).exists():
        raise errors.Conflict(
            f"There is a rule {found.name!r} already.", code="name_taken", hint="Give it another name."
        )


# -- what may be set ----------------------------------------------------------------------------------------------


def _check(wanted: AlertRule, names: set[str]) -> None:
    wrong = {name: text for name in sorted(names) if (text := _wrong(wanted, name))}
    if wrong:
        name, text = next(iter(wrong.items()))
        raise errors.Invalid(
            f"{name.replace('_', ' ').capitalize()} {text}.", fields={name: [text] for name, text in wrong.items()}
        )
    if wanted.is_own and names & {"measure", "params", "window_minutes"}:
        _check_params(wanted, measures.known()[wanted.measure])


def _wrong(wanted: AlertRule, name: str) -> str:
    value = getattr(wanted, name)
    match name:
        case "enabled":
            return "" if isinstance(value, bool) else "is true or false"
        case "severity":
            levels = AlertRule.Severity.values
            return "" if value in levels or (not value and not wanted.is_own) else f"is one of {', '.join(levels)}"
        case "direction":
            return "" if value in AlertRule.Direction.values else "is above or below"
        case "name":
            return _wrong_name(wanted)
        case "measure":
            known = measures.known()
            return "" if value in known else f"is one of {', '.join(known)}"
        case "params":
            return "" if isinstance(value, dict) else "is an object"
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "is a number"
    if name == "threshold" and wanted.is_own:
        return _wrong_threshold(wanted)
    low, high = {
        "threshold": THRESHOLDS.get(wanted.kind, (0.0, math.inf)),
        "window_minutes": WINDOW_MINUTES,
        "minimum_rows": MINIMUM_ROWS,
    }[name]
    return "" if low <= value <= high else f"is between {low:g} and {high:g}"


def _wrong_name(wanted: AlertRule) -> str:
    if not isinstance(wanted.name, str) or not 0 < len(wanted.name.strip()) <= NAME_LENGTH:
        return f"is 1 to {NAME_LENGTH} characters long"
    wanted.name = " ".join(storable(wanted.name).split())
    return ""


def _wrong_threshold(wanted: AlertRule) -> str:
    """A threshold that can never be crossed, or always is, is no rule."""
    measure = measures.known().get(wanted.measure)
    if measure is None:
        return ""
    least, greatest = measure.least, measure.greatest
    if wanted.direction == AlertRule.Direction.BELOW:
        if least is not None and wanted.threshold <= least:
            return f"is above {least:g}: this measure is never below it"
        return f"is at most {greatest:g}" if greatest is not None and wanted.threshold > greatest else ""
    if greatest is not None and wanted.threshold >= greatest:
        return f"is below {greatest:g}: this measure is never above it"
    return f"is at least {least:g}" if least is not None and wanted.threshold < least else ""


def _check_params(wanted: AlertRule, measure: measures.Measure) -> None:
    """Only what the measure asks for, a column that there is, and whatever else the measure itself refuses."""
    wanted.params = storable({name: value for name, value in wanted.params.items() if value not in ("", None)})
    unknown = sorted(set(wanted.params) - set(measure.params))
    if unknown:
        takes = ", ".join(measure.params) or "nothing"
        raise errors.Invalid(
            f"{measure.title} takes {takes}, not {unknown[0]}.",
            fields={name: ["is not of this measure"] for name in unknown},
        )
    if "column" in measure.params:
        names = column_names(wanted.deployment)
        if wanted.params.get("column") not in names and (names or not wanted.params.get("column")):
            shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
            said = (
                f"There is no column {wanted.params['column']!r}."
                if wanted.params.get("column")
                else "Choose a column."
            )
            raise errors.Invalid(said, fields={"column": [f"One of {shown}."] if names else ["Name a column."]})
    now = clock.now()
    measure.read(wanted.deployment, None, now - timedelta(minutes=wanted.window_minutes), now, wanted.params)
