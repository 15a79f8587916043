"""``{% load causes %}{% causes_of check %}``: why it drifts, as a card. Rows of the log only for those who may see it."""

from __future__ import annotations

from typing import Any

from django import template
from django.http import HttpRequest

from accounts.caller import caller_of
from monitoring.causes.shown import shown
from monitoring.models import DriftCheck, Incident

register = template.Library()


@register.inclusion_tag("monitoring/_causes.html", takes_context=True)
def causes_of(context: dict[str, Any], check: DriftCheck | None) -> dict[str, Any]:
    """Of one check; nothing where it has none."""
    if check is None:
        return {"causes": None}
    request: HttpRequest = context["request"]
    sees_log = caller_of(request).can("logs.view", check.organization_id)
    return {"causes": shown(check, sees_log=sees_log), "check": check, "current_org": context.get("current_org")}


@register.inclusion_tag("monitoring/_causes.html", takes_context=True)
def causes_of_signal(context: dict[str, Any], signal: dict[str, Any], incident: Incident) -> dict[str, Any]:
    """Of the check that an incident's signal stands on; nothing for other signals, or when the check is gone."""
    known = (signal.get("detail") or {}).get("check")
    if not known or "causes" not in signal["detail"]:
        return {"causes": None}
    rows = DriftCheck.objects.filter(pk=known, deployment=incident.deployment_id).select_related("deployment")
    return causes_of(context, rows.first())
