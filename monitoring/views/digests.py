"""Digest mails: what a person wants, what the next one would say, and leaving without signing in."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from csp.decorators import csp_exempt
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from accounts import access, time_zones
from accounts.caller import caller_of
from accounts.models import Membership, Organization
from mlops.core import clock, errors
from monitoring import digest_sending, digest_times, digests, links, people
from monitoring.digests import Digest
from monitoring.forms import DigestForm
from monitoring.models import DigestSubscription, Notification

MAILS_SHOWN = 20
_Frequency = DigestSubscription.Frequency
MAIL_CSP = "sandbox; default-src 'none'; frame-ancestors 'self'"


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def digest_settings(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org)
    subscription = people.subscription(organization, request.user)
    initial = {name: getattr(subscription, name) for name in ("frequency", "hour", "weekday", "alerts")}
    form = DigestForm(request.POST or None, initial=initial)
    if request.method == "POST" and form.is_valid():
        digest_sending.change_settings(subscription, **form.cleaned_data)
        messages.success(request, "Saved.")
        return redirect("digest_settings", org=org)
    verified = people.verified_members(organization).filter(pk=request.user.pk).exists()
    context = {
        "form": form,
        "subscription": subscription,
        "verified": verified,
        "mails": _mails(request, organization),
        "zone": time_zones.zone_of(request.user),
        "next_at": _next_at(subscription),
    }
    return render(request, "monitoring/digest_settings.html", context, status=422 if form.errors else 200)


def _next_at(subscription: DigestSubscription) -> datetime | None:
    if subscription.frequency == _Frequency.NEVER:
        return None
    return digest_times.following(digest_sending.times_of(subscription), clock.now())


def _mails(request: HttpRequest, organization: Organization) -> Any:
    """A person's own last mails; who manages the organisation sees everybody's, to notice the ones that failed."""
    rows = Notification.objects.filter(organization=organization, target__isnull=True).defer("text", "html")
    if not caller_of(request).can("org.manage", organization):
        rows = rows.filter(user=request.user)
    return rows[:MAILS_SHOWN]


def _frequency(request: HttpRequest) -> str:
    wanted = request.GET.get("frequency", _Frequency.WEEKLY)
    return wanted if wanted in digest_times.DAYS else _Frequency.WEEKLY


def _digest(request: HttpRequest, org: str) -> Digest:
    """What would be said if it were sent now: of the days up to now, not of the last whole ones."""
    organization = access.organization(caller_of(request), org)
    frequency, now = _frequency(request), clock.now()
    since = now - timedelta(days=digest_times.DAYS[frequency])
    return digests.compose(organization, frequency, since, now, time_zones.zone_of(request.user))


@login_required
@require_safe
def digest_preview(request: HttpRequest, org: str) -> HttpResponse:
    """The digest as it would read if it were sent now."""
    digest = _digest(request, org)
    context = {"digest": digest, "mail": digests.mail(digest, request.user), "frequency": digest.frequency}
    return render(request, "monitoring/digest_preview.html", context)


@login_required
@require_safe
@csp_exempt()
def digest_preview_mail(request: HttpRequest, org: str) -> HttpResponse:
    """The HTML part alone, for the preview's frame."""
    response = HttpResponse(digests.mail(_digest(request, org), request.user)["html"])
    response["Content-Security-Policy"] = MAIL_CSP
    response["X-Frame-Options"] = "SAMEORIGIN"
    return response


@csrf_exempt  # the signed link is the permission; mail programs post without a session (RFC 8058)
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def unsubscribe(request: HttpRequest, org: str, token: str) -> HttpResponse:
    """A look changes nothing (mail scanners follow links); the button, or the mail program's one click, does."""
    organization_id, user_id, what = links.read_unsubscribe(token)
    member = Membership.objects.filter(organization=organization_id, organization__slug=org, user=user_id)
    found = member.select_related("organization", "user").first()
    if found is None:
        raise errors.NotFound("You are no longer a member of this organisation, so it sends you nothing.")
    subscription = people.subscription(found.organization, found.user)
    wanted = subscription.alerts if what == "alerts" else subscription.frequency != _Frequency.NEVER
    done = "" if wanted else "left"
    if request.method == "POST":
        done = "again" if request.POST.get("again") else "left"
        _set(subscription, what, wanted=done == "again")
    context = {"organization": found.organization, "email": found.user.email, "what": what, "done": done}
    return render(request, "monitoring/unsubscribe.html", context)


def _set(subscription: DigestSubscription, what: str, *, wanted: bool) -> None:
    if what == "alerts":
        digest_sending.change_settings(subscription, alerts=wanted)
    else:
        digest_sending.change_settings(subscription, frequency=_Frequency.WEEKLY if wanted else _Frequency.NEVER)
