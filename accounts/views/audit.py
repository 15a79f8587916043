"""The audit log: filter, page, export, and a check that nobody changed it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC
from typing import Any

import orjson
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_safe

from accounts import access, audit
from accounts.caller import caller_of
from accounts.forms import AuditFilterForm
from accounts.models import AuditEvent, Organization
from mlops.core import csv_lines

PER_PAGE = 50
_COLUMNS = (
    "number",
    "at",
    "actor",
    "actor_ref",
    "action",
    "subject_type",
    "subject_id",
    "subject_label",
    "detail",
    "ip",
    "hash",
)


def _filtered(request: HttpRequest, organization: Organization) -> tuple[Any, dict[str, str]]:
    form = AuditFilterForm(request.GET)
    wanted = {name: value for name, value in form.cleaned_data.items() if value} if form.is_valid() else {}
    rows = AuditEvent.objects.filter(organization=organization).order_by("-number")
    return rows.filter(**wanted), wanted


@login_required
@require_safe
def audit_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "audit.view")
    rows, wanted = _filtered(request, organization)
    everything = AuditEvent.objects.filter(organization=organization).order_by()
    checked = "check" in request.GET
    context = {
        "organization": organization,
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "wanted": wanted,
        "export_url": f"{reverse('audit_export', args=[org])}?{urlencode(wanted)}",
        "actions": everything.values_list("action", flat=True).distinct().order_by("action"),
        "actors": everything.values_list("actor", flat=True).distinct().order_by("actor"),
        "checked": checked,
        "broken_at": audit.verify(organization) if checked else None,
    }
    return render(request, "accounts/audit_list.html", context)


def _lines(rows: Any) -> Iterator[list[Any]]:
    yield list(_COLUMNS)
    for event in rows.iterator(chunk_size=1000):
        at = event.at.astimezone(UTC).isoformat()
        detail = orjson.dumps(event.detail).decode()
        cells = {"at": at, "detail": detail}
        yield [cells.get(name, getattr(event, name)) for name in _COLUMNS]


@login_required
@require_safe
def audit_export(request: HttpRequest, org: str) -> StreamingHttpResponse:
    """What the filters show, all pages, as CSV."""
    organization = access.organization(caller_of(request), org, "audit.view")
    rows, _ = _filtered(request, organization)
    response = StreamingHttpResponse(csv_lines.lines(_lines(rows)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{organization.slug}-audit.csv"'
    response["Cache-Control"] = "no-store"
    return response
