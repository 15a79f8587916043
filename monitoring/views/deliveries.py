"""Deliveries: what was sent to channels, what each try was answered, and sending it again."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import csv_lines
from monitoring import channel_services, deliveries
from monitoring.channels import webhook
from monitoring.models import Channel, Notification

PER_PAGE = 25
_FILTERS = ("channel", "state", "type", "range")


def _wanted(request: HttpRequest) -> dict[str, str]:
    return {name: request.GET[name] for name in _FILTERS if request.GET.get(name)}


@login_required
@require_safe
def delivery_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "channel.view")
    wanted = _wanted(request)
    rows = deliveries.messages(organization, wanted).prefetch_related("tries")
    context = {
        "organization": organization,
        "page": Paginator(rows, PER_PAGE).get_page(request.GET.get("page")),
        "wanted": wanted,
        "channels": [
            (str(pk), name) for pk, name in Channel.objects.filter(organization=organization).values_list("pk", "name")
        ],
        "states": [(each.value, each.label) for each in deliveries.STATUSES],
        "types": deliveries.types(),
        "ranges": (("1d", "Last day"), ("7d", "Last 7 days"), ("30d", "Last 30 days")),
        "export_url": f"{reverse('delivery_export', args=[org])}?{urlencode(wanted)}",
        "kept_days": channel_services.KEPT.days,
    }
    return render(request, "monitoring/delivery_list.html", context)


@login_required
@require_safe
def delivery_export(request: HttpRequest, org: str) -> StreamingHttpResponse:
    """What the filters show, all pages, one line for each try, as CSV."""
    organization = access.organization(caller_of(request), org, "channel.view")
    rows = deliveries.lines(deliveries.messages(organization, _wanted(request)))
    response = StreamingHttpResponse(csv_lines.lines(rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{organization.slug}-deliveries.csv"'
    response["Cache-Control"] = "no-store"
    return response


def _delivery(request: HttpRequest, org: str, delivery_id: int, action: str) -> Notification:
    rows = Notification.objects.filter(target__isnull=False).select_related("target", "organization", "incident")
    return access.get(caller_of(request), rows, action, organization__slug=org, pk=delivery_id)


@login_required
@require_safe
def delivery_detail(request: HttpRequest, org: str, delivery_id: int) -> HttpResponse:
    """Live while it is under way."""
    delivery = _delivery(request, org, delivery_id, "channel.view")
    context: dict[str, Any] = {
        "organization": delivery.organization,
        "delivery": delivery,
        "channel": delivery.target,
        "tries": list(delivery.tries.all()),
        "body": deliveries.body_to_read(delivery),
        "message_id": webhook.message_id(delivery) if delivery.channel == Channel.Kind.WEBHOOK else "",
        "may_manage": caller_of(request).can("channel.manage", delivery.organization_id),
    }
    return render(request, f"monitoring/{'_delivery' if request.htmx else 'delivery_detail'}.html", context)


@login_required
@require_POST
def delivery_redeliver(request: HttpRequest, org: str, delivery_id: int) -> HttpResponse:
    delivery = _delivery(request, org, delivery_id, "channel.manage")
    channel_services.redeliver(delivery, caller_of(request))
    messages.info(request, "It is sent again, with the same id.")
    return redirect("delivery_detail", org=org, delivery_id=delivery_id)
