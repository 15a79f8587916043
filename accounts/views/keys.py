"""API keys: make (shown once), limit, rotate with overlap, revoke."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, services
from accounts.caller import Caller, caller_of
from accounts.forms import KeyForm, KeyLimitForm, tell
from accounts.models import ApiKey, Organization
from accounts.services.keys import OVERLAP
from accounts.throttling import organization_limit
from mlops.core import errors

PER_PAGE = 25


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def key_list(request: HttpRequest, org: str) -> HttpResponse:
    """GET lists; POST makes a key, whose only showing is the answer itself: it is kept nowhere, not even in the session."""
    caller = caller_of(request)
    organization = access.organization(caller, org, "keys.manage" if request.method == "POST" else "keys.view")
    form = KeyForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        made = _make(organization, caller, form)
        if made is not None:
            return _shown_once(request, organization, *made)
    rows = ApiKey.objects.filter(organization=organization).select_related("created_by", "rotated_from")
    if not request.GET.get("all"):
        rows = rows.living()
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    manages_all = caller.can("org.manage", organization)
    for key in page.object_list:
        mine = manages_all or key.created_by_id == request.user.pk
        key.mine_to_manage = mine and key.status in ("active", "expiring")
    context = {
        "form": form,
        "organization": organization,
        "page": page,
        "all": bool(request.GET.get("all")),
        "overlap_hours": int(OVERLAP.total_seconds()) // 3600,
        "default_rate": settings.PREDICT_RATE,
        "organization_rate": organization_limit(organization),
    }
    return render(request, "accounts/key_list.html", context, status=422 if form.errors else 200)


def _make(organization: Organization, caller: Caller, form: KeyForm) -> tuple[ApiKey, str] | None:
    given = form.cleaned_data
    try:
        return services.create_key(
            organization,
            caller,
            name=given["name"],
            scopes=given["scopes"],
            expires_at=form.expires_at(),
            deployment=given["deployment"],
            calls_per_minute=given["calls_per_minute"],
        )
    except errors.Invalid as error:
        tell(form, error)
        return None


def _shown_once(request: HttpRequest, organization: Organization, key: ApiKey, plain: str) -> HttpResponse:
    old = key.rotated_from
    if old is not None:
        old.refresh_from_db(fields=["expires_at", "revoked_at"])
    export = f"export SLIPWAY_KEY={plain}"
    context = {"organization": organization, "key": key, "plain": plain, "old": old, "export": export}
    return render(request, "accounts/key_made.html", context, status=201)


def _key(request: HttpRequest, org: str, key_id: int) -> ApiKey:
    rows = ApiKey.objects.select_related("organization")
    return access.get(caller_of(request), rows, "keys.manage", organization__slug=org, pk=key_id)


@login_required
@require_POST
def key_limit(request: HttpRequest, org: str, key_id: int) -> HttpResponse:
    key, form = _key(request, org, key_id), KeyLimitForm(request.POST)
    if not form.is_valid():
        raise errors.Invalid("Predictions a minute is a whole number from 1, or empty.", fields=dict(form.errors))
    services.limit_key(key, caller_of(request), calls_per_minute=form.cleaned_data["calls_per_minute"])
    messages.success(request, f"The limit of {key.name} was changed: it holds everywhere within 5 seconds.")
    return redirect("key_list", org=org)


@login_required
@require_POST
def key_revoke(request: HttpRequest, org: str, key_id: int) -> HttpResponse:
    key = _key(request, org, key_id)
    services.revoke_key(key, caller_of(request))
    messages.success(request, f"The key {key.name} was revoked: it is refused everywhere within 5 seconds.")
    return redirect("key_list", org=org)


@login_required
@never_cache
@require_POST
def key_rotate(request: HttpRequest, org: str, key_id: int) -> HttpResponse:
    key = _key(request, org, key_id)
    made, plain = services.rotate_key(key, caller_of(request))
    return _shown_once(request, key.organization, made, plain)
