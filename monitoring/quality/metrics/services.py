"""Metrics of people's own: make, change, delete."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from accounts import audit
from accounts.caller import Caller
from mlops.core import clock, errors, ids
from mlops.core.storable import storable
from monitoring.models import AlertRule, CustomMetric
from monitoring.quality.metrics import evaluation, formulas, python_code
from serving.models import Deployment

AT_MOST = 20
WINDOW_HOURS = (1, 7 * 24)
UNIT_LENGTH = 20
FIELDS = ("name", "language", "source", "unit", "high_is_bad", "window_hours", "enabled")


def create(deployment: Deployment, caller: Caller, **fields: Any) -> CustomMetric:
    """name, language, source; unit, high_is_bad, window_hours, enabled as the model has them. Raises Invalid, Conflict."""
    made = CustomMetric(
        organization_id=deployment.organization_id, deployment=deployment, created_by=caller.label[:200], **fields
    )
    _check(made)
    with transaction.atomic():
        Deployment.objects.select_for_update().get(pk=deployment.pk)
        if CustomMetric.objects.filter(deployment=deployment).count() >= AT_MOST:
            raise errors.Conflict(
                f"{deployment.name} has {AT_MOST} metrics.",
                code="too_many_metrics",
                hint="Delete one you no longer need.",
            )
        _name_free(made)
        made.save()
        audit.record(deployment.organization, caller, "metric.created", deployment, metric=made.name)
        evaluation.request(made)
    return made


def change(found: CustomMetric, caller: Caller, **changes: Any) -> CustomMetric:
    """Set any of FIELDS but the name. Another formula begins a new series. Raises Invalid, naming what is wrong."""
    if "name" in changes and changes["name"] != found.name:
        raise errors.Invalid("The name of a metric is fixed: rules speak of it.", fields={"name": ["is fixed"]})
    before = {name: getattr(found, name) for name in changes}
    for name, value in changes.items():
        setattr(found, name, value)
    _check(found)
    with transaction.atomic():
        changed = sorted(name for name, value in before.items() if getattr(found, name) != value)
        if {"source", "language", "window_hours"} & set(changed):
            found.values.all().delete()
        found.changed_at, found.error = clock.now(), ""
        found.save()
        if changed:
            audit.record(
                found.organization, caller, "metric.changed", found.deployment, metric=found.name, fields=changed
            )
            if found.enabled:
                evaluation.request(found)
    return found


def delete(found: CustomMetric, caller: Caller) -> None:
    """With its values. Raises Conflict while a rule speaks of it."""
    rule = AlertRule.objects.filter(
        deployment=found.deployment, measure="custom_metric", params__metric=found.name
    ).first()
    if rule is not None:
        raise errors.Conflict(
            f"The rule {rule.title!r} watches this metric.", code="metric_watched", hint="Delete the rule first."
        )
    with transaction.atomic():
        audit.record(found.organization, caller, "metric.deleted", found.deployment, metric=found.name)
        found.delete()


def check_draft(deployment: Deployment, language: str, source: str, window_hours: int) -> None:
    """What is tried before it is kept. Raises Invalid."""
    _check(
        CustomMetric(deployment=deployment, name="draft", language=language, source=source, window_hours=window_hours)
    )


def _check(made: CustomMetric) -> None:
    if not isinstance(made.name, str) or not ids.SLUG.match(made.name) or len(made.name) > 40:
        raise _invalid("name", "is 1 to 40 lower-case letters, digits and dashes")
    if made.language not in CustomMetric.Language.values:
        raise _invalid("language", f"is one of {', '.join(CustomMetric.Language.values)}")
    low, high = WINDOW_HOURS
    hours = made.window_hours
    if isinstance(hours, bool) or not isinstance(hours, int) or not low <= hours <= high:
        raise _invalid("window_hours", f"is between {low} and {high}")
    if not isinstance(made.unit, str) or len(made.unit) > UNIT_LENGTH:
        raise _invalid("unit", f"is at most {UNIT_LENGTH} characters")
    if not isinstance(made.source, str):
        raise _invalid("source", "is a text")
    made.unit = storable(made.unit.strip())
    if made.language == CustomMetric.Language.FORMULA:
        formulas.read(made.deployment, made.source)
    else:
        python_code.check(made.source)
    made.source = storable(made.source)


def _name_free(made: CustomMetric) -> None:
    if CustomMetric.objects.filter(deployment=made.deployment, name=made.name).exists():
        raise errors.Conflict(
            f"There is a metric {made.name!r} already.", code="name_taken", hint="Choose another name."
        )


def _invalid(name: str, text: str) -> errors.Invalid:
    return errors.Invalid(f"{name}: {text}", fields={name: [text]})
