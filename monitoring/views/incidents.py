"""Incidents: the list, the story of one, and what people do about it."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import Case, IntegerField, Value, When
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import csv_lines, errors
from monitoring import incident_lists, incidents, notices, rule_charts, words
from monitoring.forms import CommentForm, MuteForm, SnoozeForm
from monitoring.models import Incident, IncidentStatus
from registry.models import ModelVersion
from serving.models import Deployment, DeploymentStatus
from serving.services import deployments

PER_PAGE = 25
_ROWS = Incident.objects.select_related("deployment", "version", "organization")
_CSV = (
    "number",
    "deployment",
    "version",
    "state",
    "what",
    "since",
    "opened_at",
    "last_seen_at",
    "resolved_at",
    "acknowledged_by",
    "address",
)
_FILTERS = ("state", "deployment", "range")


def _wanted(request: HttpRequest) -> dict[str, str]:
    """The filters of the address; without any, what is not resolved."""
    wanted = {name: request.GET[name] for name in _FILTERS if request.GET.get(name)}
    return wanted if request.GET.get("state") is not None else {"state": incident_lists.UNRESOLVED, **wanted}


@login_required
@require_safe
def incident_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "incident.view")
    wanted = _wanted(request)
    rows = incident_lists.chosen(organization, wanted)
    open_first = Case(When(status=IncidentStatus.OPEN, then=Value(0)), default=Value(1), output_field=IntegerField())
    everything = Incident.objects.filter(organization=organization)
    context = {
        "page": Paginator(rows.order_by(open_first, "-opened_at", "-pk"), PER_PAGE).get_page(request.GET.get("page")),
        "wanted": wanted,
        "states": incident_lists.STATES,
        "ranges": list(incident_lists.RANGES),
        "deployments": Deployment.objects.filter(pk__in=everything.values("deployment"))
        .order_by("name")
        .values_list("name", flat=True),
        "open": everything.filter(status=IncidentStatus.OPEN).count(),
        "quiet": everything.exclude(status__in=(IncidentStatus.OPEN, IncidentStatus.RESOLVED)).count(),
        "is_filtered": wanted != {"state": incident_lists.UNRESOLVED},
        "export_url": f"{reverse('incident_export', args=[org])}?{urlencode(wanted)}",
    }
    return render(request, "monitoring/incident_list.html", context)


@login_required
@require_safe
def incident_export(request: HttpRequest, org: str) -> StreamingHttpResponse:
    """What the filters show, all pages, as CSV."""
    organization = access.organization(caller_of(request), org, "incident.view")
    rows = incident_lists.chosen(organization, _wanted(request)).order_by("-opened_at", "-pk")
    host = request.build_absolute_uri("/").rstrip("/")

    def cells() -> Any:
        yield list(_CSV)
        for incident in rows.iterator(chunk_size=500):
            times = [incident.since, incident.opened_at, incident.last_seen_at, incident.resolved_at]
            yield [
                incident.pk,
                incident.deployment.name,
                incident.version.number if incident.version else None,
                incident.status,
                incident.title,
                *(at.astimezone(UTC).isoformat() if at else None for at in times),
                incident.acknowledged_by,
                f"{host}{reverse('incident_detail', args=[org, incident.pk])}",
            ]

    response = StreamingHttpResponse(csv_lines.lines(cells()), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{organization.slug}-incidents.csv"'
    response["Cache-Control"] = "no-store"
    return response


def _incident(request: HttpRequest, org: str, incident_id: int, action: str) -> Incident:
    return access.get(caller_of(request), _ROWS.all(), action, organization__slug=org, pk=incident_id)


@login_required
@require_safe
def incident_detail(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.view")
    return render(request, "monitoring/incident_detail.html", _shown(request, incident, CommentForm()))


def _shown(request: HttpRequest, incident: Incident, comment: CommentForm) -> dict[str, Any]:
    caller = caller_of(request)
    span = request.GET.get("range", "")
    if span and span not in incident_lists.RANGES:
        raise errors.Invalid(f"There is no range {span!r}.", hint=f"Choose {', '.join(incident_lists.RANGES)}.")
    charts = rule_charts.of_incident(incident, incident_lists.RANGES.get(span))
    may_act = caller.can("incident.act", incident.organization_id)
    return {
        "incident": incident,
        "sentence": words.first_sentence(incident),
        "signals": notices.signals_of(incident),
        "charts": [
            {"id": f"signal-{place}", "title": title, "data": data} for place, (title, data) in enumerate(charts)
        ],
        "range": span,
        "ranges": list(incident_lists.RANGES),
        "events": incident.events.order_by("-pk")[:200],
        "mails": incident.notifications.order_by("pk")[:100],
        "inspect_path": notices.inspect_path(incident, sees_log=caller.can("logs.view", incident.organization_id)),
        "untold": incident.events.filter(kind="untold").order_by("-pk").first(),
        "may_act": may_act,
        "may_write": caller.can("deployment.write", incident.organization_id),
        "previous": _previous(incident),
        "rules_path": _path("deployment_rules", incident),
        "new_normal_path": _path("baseline_new_normal", incident) if may_act else "",
        "retrain_path": _path("deployment_retrain", incident) if may_act else "",
        "snooze_form": SnoozeForm(),
        "mute_form": MuteForm(),
        "comment_form": comment,
    }


def _previous(incident: Incident) -> ModelVersion | None:
    """The version a rollback of the deployment as it is now leads to; None where there is nothing to roll back."""
    row = Deployment.objects.with_routes().get(pk=incident.deployment_id)
    return deployments.previous(row) if row.status == DeploymentStatus.LIVE else None


def _path(name: str, incident: Incident) -> str:
    """The page of that name about the incident's deployment; empty where the product has none."""
    try:
        return reverse(name, kwargs={"org": incident.organization.slug, "name": incident.deployment.name})
    except NoReverseMatch:
        return ""


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
def incident_mute(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.act")
    incidents.mute(incident, caller_of(request), MuteForm(request.POST).factor_chosen())
    messages.success(request, "Muted. If it gets worse, or something new begins, you are told again.")
    return redirect("incident_detail", org=org, incident_id=incident_id)


@login_required
@require_POST
def incident_comment(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.act")
    form = CommentForm(request.POST)
    if not form.is_valid():
        return render(request, "monitoring/incident_detail.html", _shown(request, incident, form), status=422)
    incidents.comment(incident, caller_of(request), form.cleaned_data["text"])
    return redirect("incident_detail", org=org, incident_id=incident_id)


@login_required
@require_POST
def incident_resolve(request: HttpRequest, org: str, incident_id: int) -> HttpResponse:
    incident = _incident(request, org, incident_id, "incident.act")
    incidents.resolve(incident, caller_of(request))
    messages.success(request, "Resolved.")
    return redirect("incident_detail", org=org, incident_id=incident_id)
