"""Incidents: the list, the story of one, and what people do about it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Case, IntegerField, Q, Value, When
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from monitoring import incidents, notices
from monitoring.forms import SnoozeForm
from monitoring.models import Incident, IncidentStatus

PER_PAGE = 25
_ROWS = Incident.objects.select_related("deployment", "version", "organization")
FILTERS = {
    "unresolved": ~Q(status=IncidentStatus.RESOLVED),
    "resolved": Q(status=IncidentStatus.RESOLVED),
    "all": Q(),
}


@login_required
@require_safe
def incident_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "incident.view")
    rows = _ROWS.all().filter(organization=organization)
    counts = {name: rows.filter(which).count() for name, which in FILTERS.items()}
    shown = request.GET.get("show", "unresolved")
    if shown not in FILTERS:
        shown = "unresolved"
    open_first = Case(When(status=IncidentStatus.OPEN, then=Value(0)), default=Value(1), output_field=IntegerField())
    listed = rows.filter(FILTERS[shown]).order_by(open_first, "-opened_at", "-pk")
    page = Paginator(listed, PER_PAGE).get_page(request.GET.get("page"))
    context = {"page": page, "shown": shown, "counts": counts, "filters": list(FILTERS)}
    return render(request, "monitoring/incident_list.html", context)


def _incident(request: HttpRequest, org: str, incident_id: int, action: str) -> Incident:
    return access.get(caller_of(request), _ROWS.all(), action, organization__slug=org, pk=incident_id)


@login_required
@require_safe
def incident_detail(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.view")
    sees_log = caller_of(request).can("logs.view", incident.organization_id)
    context = {
        "incident": incident,
        "signals": notices.signals_of(incident),
        "events": incident.events.order_by("-pk"),
        "mails": incident.notifications.order_by("pk")[:100],
        "inspect_path": notices.inspect_path(incident, sees_log=sees_log),
        "untold": incident.events.filter(kind="untold").order_by("-pk").first(),
        "may_act": caller_of(request).can("incident.act", incident.organization_id),
        "snooze_form": SnoozeForm(),
    }
    return render(request, "monitoring/incident_detail.html", context)


@login_required
@require_POST
def incident_acknowledge(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.act")
    incidents.acknowledge(incident, caller_of(request))
    messages.success(request, "Acknowledged: no more reminders about this incident.")
    return redirect("incident_detail", org=org, incident_id=incident_id)


@login_required
@require_POST
def incident_snooze(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.act")
    form = SnoozeForm(request.POST)
    incidents.snooze(incident, caller_of(request), form.hours())
    messages.success(request, "Snoozed. If it still goes on then, you are told again.")
    return redirect("incident_detail", org=org, incident_id=incident_id)


@login_required
@require_POST
def incident_resolve(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.act")
    incidents.resolve(incident, caller_of(request))
    messages.success(request, "Resolved.")
    return redirect("incident_detail", org=org, incident_id=incident_id)
