"""The bell: how many lines wait, what they say, and that they were read. Each person's own."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from monitoring import bell

PER_PAGE = 25
SHOWN = 6


@login_required
@never_cache
@require_safe
def bell_count(request: HttpRequest, org: str) -> HttpResponse:
    """The number alone: fetched again now and then while a page is open."""
    organization = access.organization(caller_of(request), org)
    context = {"organization": organization, "unread": bell.unread(caller_of(request), organization)}
    return render(request, "monitoring/_bell_count.html", context)


@login_required
@never_cache
@require_safe
def notice_list(request: HttpRequest, org: str) -> HttpResponse:
    """A page; below the bell its newest lines."""
    organization = access.organization(caller_of(request), org)
    rows = bell.notices(caller_of(request), organization)
    context = {"organization": organization, "unread": rows.filter(read_at__isnull=True).count(), "kept": bell.KEPT}
    if request.htmx:
        return render(request, "monitoring/_bell_list.html", {**context, "notices": rows[:SHOWN]})
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    return render(request, "monitoring/notice_list.html", {**context, "page": page})


@login_required
@require_POST
def notice_open(request: HttpRequest, org: str, notice_id: int) -> HttpResponse:
    """Read, and on to what it is about; to the list when the line was forgotten in the meantime, or is somebody else's."""
    organization = access.organization(caller_of(request), org)
    mine = bell.notices(caller_of(request), organization).filter(pk=notice_id)
    path = mine.values_list("path", flat=True).first()
    bell.read(mine)
    return redirect(path or reverse("notice_list", args=[org]))


@login_required
@require_POST
def notice_read_all(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org)
    bell.read(bell.notices(caller_of(request), organization))
    messages.success(request, "All read.")
    return redirect("notice_list", org=org)
