"""Channels: where an organisation's news goes beside mail. Make one, try it, change it, switch it off."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from accounts.forms import tell
from mlops.core import errors
from monitoring import channel_services, receivers
from monitoring.channel_forms import ChannelForm, NewChannelForm
from monitoring.channels.addresses import LOOKS
from monitoring.models import Channel, Notification

RECENT = 10


def channel_of(request: HttpRequest, org: str, channel_id: Any, action: str = "channel.view") -> Channel:
    """The row an address names, seen through the caller."""
    rows = Channel.objects.select_related("organization", "created_by").prefetch_related("deployments")
    return access.get(caller_of(request), rows, action, organization__slug=org, pk=channel_id)


def _frame(request: HttpRequest, channel: Channel) -> dict[str, Any]:
    return {
        "channel": channel,
        "organization": channel.organization,
        "may_manage": caller_of(request).can("channel.manage", channel.organization_id),
    }


def _to(channel: Channel) -> HttpResponse:
    return redirect("channel_detail", org=channel.organization.slug, channel_id=channel.pk)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def channel_list(request: HttpRequest, org: str) -> HttpResponse:
    """And, by POST, a new one: the secret of a webhook is in the answer, this once."""
    post = request.method == "POST"
    organization = access.organization(caller_of(request), org, "channel.manage" if post else "channel.view")
    form = NewChannelForm(request.POST or None, organization=organization)
    if post and form.is_valid():
        try:
            channel, secret = channel_services.create(organization, caller_of(request), **form.changes())
        except errors.SlipwayError as error:
            tell(form, error)
        else:
            if secret:
                return _shown_once(request, channel, secret)
            messages.success(request, "The channel is there. Send a test to see whether it arrives.")
            return _to(channel)
    context = {
        "organization": organization,
        "channels": Channel.objects.filter(organization=organization).prefetch_related("deployments"),
        "form": form,
        "looks": [(Channel.Kind(kind).label, looks) for kind, looks in LOOKS.items()],
        "may_manage": caller_of(request).can("channel.manage", organization),
    }
    return render(request, "monitoring/channel_list.html", context, status=422 if form.errors else 200)


def _shown_once(request: HttpRequest, channel: Channel, secret: str) -> HttpResponse:
    context = {**_frame(request, channel), "secret": secret, "snippets": receivers.snippets()}
    return render(request, "monitoring/channel_secret.html", context, status=201)


@login_required
@require_safe
def channel_detail(request: HttpRequest, org: str, channel_id: Any) -> HttpResponse:
    """Its last messages, live while one is under way."""
    channel = channel_of(request, org, channel_id)
    rows = list(channel.notifications.defer("html", "text").prefetch_related("tries")[:RECENT])
    live = any(row.status == Notification.Status.SENDING or (row.type == "test" and row.waits) for row in rows)
    context = {
        **_frame(request, channel),
        "deliveries": rows,
        "deliveries_url": f"{reverse('delivery_list', args=[org])}?channel={channel.pk}",
        "live": live,
        "snippets": receivers.snippets(),
    }
    return render(request, f"monitoring/{'_channel_deliveries' if request.htmx else 'channel_detail'}.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def channel_settings(request: HttpRequest, org: str, channel_id: Any) -> HttpResponse:
    channel = channel_of(request, org, channel_id, "channel.manage")
    initial = {
        "name": channel.name,
        "events": channel.events,
        "least_severity": channel.least_severity,
        "deployments": [each.name for each in channel.deployments.all()],
    }
    form = ChannelForm(request.POST or None, initial=initial, organization=channel.organization, channel=channel)
    if request.method == "POST" and form.is_valid():
        try:
            channel_services.change(channel, caller_of(request), **form.changes())
        except errors.SlipwayError as error:
            tell(form, error)
        else:
            messages.success(request, "Saved.")
            return _to(channel)
    context = {**_frame(request, channel), "form": form}
    return render(request, "monitoring/channel_settings.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def channel_test(request: HttpRequest, org: str, channel_id: Any) -> HttpResponse:
    channel = channel_of(request, org, channel_id, "channel.manage")
    channel_services.send_test(channel, caller_of(request))
    messages.info(request, "A test is on its way. What came of it stands below.")
    return _to(channel)


@login_required
@require_POST
def channel_enable(request: HttpRequest, org: str, channel_id: Any) -> HttpResponse:
    """``on`` (1) or off."""
    channel = channel_of(request, org, channel_id, "channel.manage")
    on = request.POST.get("on") == "1"
    channel_services.change(channel, caller_of(request), enabled=on)
    messages.success(request, "Switched on." if on else "Switched off: nothing more is sent there.")
    return _to(channel)


@login_required
@require_POST
def channel_rotate(request: HttpRequest, org: str, channel_id: Any) -> HttpResponse:
    channel = channel_of(request, org, channel_id, "channel.manage")
    return _shown_once(request, channel, channel_services.rotate(channel, caller_of(request)))


@login_required
@require_POST
def channel_remove(request: HttpRequest, org: str, channel_id: Any) -> HttpResponse:
    channel = channel_of(request, org, channel_id, "channel.manage")
    channel_services.remove(channel, caller_of(request))
    messages.success(request, f"{channel.name} is removed, with its deliveries.")
    return redirect("channel_list", org=org)
