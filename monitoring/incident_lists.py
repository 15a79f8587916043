"""Which incidents a list shows: state, deployment and range of its address, for the page, its export and the API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django.db.models import Q, QuerySet

from accounts.models import Organization
from mlops.core import clock, errors
from monitoring.models import Incident, IncidentStatus

RANGES = {"24h": timedelta(hours=24), "7d": timedelta(days=7), "30d": timedelta(days=30), "90d": timedelta(days=90)}
UNRESOLVED = "unresolved"
STATES = (UNRESOLVED, *IncidentStatus.values)


def chosen(organization: Organization, query: Mapping[str, Any]) -> QuerySet[Incident]:
    """The organisation's incidents that the query asks for, newest first. Raises Invalid for a word that is none of its kind."""
    rows = Incident.objects.filter(organization=organization).select_related("deployment", "version", "organization")
    if state := query.get("state"):
        _known("state", state, STATES)
        rows = rows.filter(~Q(status=IncidentStatus.RESOLVED) if state == UNRESOLVED else Q(status=state))
    if deployment := query.get("deployment"):
        rows = rows.filter(deployment__name=deployment)
    if span := query.get("range"):
        _known("range", span, RANGES)
        rows = rows.filter(opened_at__gte=clock.now() - RANGES[span])
    return rows


def _known(name: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise errors.Invalid(f"{name} is one of {', '.join(choices)}.", fields={name: [f"{value!r} is none of them"]})
