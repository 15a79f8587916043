"""The guest's pages: what others share with this organisation."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors
from registry.models import ModelVersion, Right, Share
from registry.services import sharing
from serving import guests, openapi, snippets

PAGE = 25


@login_required
@require_GET
def shared_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "model.view")
    rows = Share.objects.received_by(caller_of(request)).filter(grantee=organization)
    page = Paginator(rows.select_related("model", "version", "organization"), PAGE).get_page(request.GET.get("page"))
    return render(request, "serving/shared_list.html", {"organization": organization, "page": page})


@login_required
@require_GET
def shared_detail(request: HttpRequest, org: str, share_id: int) -> HttpResponse:
    caller = caller_of(request)
    organization = access.organization(caller, org, "model.view")
    share = sharing.received(caller, organization, share_id)
    versions = sharing.versions_of(share)
    context = {
        "organization": organization,
        "share": share,
        "versions": versions,
        "newest": versions[0] if versions else None,
        "endpoints": [_call(found) for found in guests.endpoints([share]).get(share.pk, [])],
        "may_predict": share.allows(Right.PREDICT),
        "may_copy": share.allows(Right.COPY) and caller.can("model.write", organization),
    }
    return render(request, "serving/shared_detail.html", context)


def _call(found: guests.Shared) -> dict[str, Any]:
    url = f"{settings.BASE_URL}{found.path}"
    said = openapi.example_request(found.version) if _described(found.version) else None
    return {"name": found.deployment.name, "version": found.version, "url": url, "code": _code(url, said)}


def _described(version: ModelVersion | None) -> bool:
    return version is not None and version.schema is not None


def _code(url: str, said: dict[str, Any] | None) -> dict[str, str]:
    return {"curl": snippets.curl(url, said), "python": snippets.python(url, said)} if said else {}


@login_required
@require_POST
def shared_copy(request: HttpRequest, org: str, share_id: int) -> HttpResponse:
    caller = caller_of(request)
    organization = access.organization(caller, org, "model.write")
    share = sharing.received(caller, organization, share_id, Right.COPY)
    number, model = request.POST.get("version", ""), request.POST.get("model", "").strip() or share.model.slug
    if not number.isascii() or not number.isdigit() or len(number) > 8:
        raise errors.Invalid("Which version?", fields={"version": ["Choose a version."]})
    version, _ = sharing.copy_version(share, caller, organization, number=int(number), model=model)
    messages.success(request, f"Copied as {version}: it is being validated here.")
    return redirect("version_validation", org=org, model=version.model.slug, number=version.number)
