"""Connected repositories: connect one, watch its pushes, look what was wrong, change it, disconnect it."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.db.models import OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access
from accounts.caller import caller_of
from accounts.forms import tell
from mlops.core import errors
from registry import source_setup
from registry.git import address
from registry.models import PushStatus, Source, SourcePush
from registry.push_steps import steps_of
from registry.services import pushes, sources
from registry.source_forms import ConnectForm, SourceForm
from registry.views.models import PAGE

_DELIVERIES = 10
_SHOWN = ("app_id", "installation_id", "token_user")


def _source(request: HttpRequest, org: str, source_id: Any, action: str = "source.view") -> Source:
    rows = Source.objects.select_related("organization", "created_by")
    return access.get(caller_of(request), rows, action, organization__slug=org, pk=source_id)


def _frame(request: HttpRequest, source: Source) -> dict[str, Any]:
    caller = caller_of(request)
    return {
        "source": source,
        "organization": source.organization,
        "may_manage": caller.can("source.manage", source.organization),
        "may_deploy": caller.can("deployment.write", source.organization),
    }


def _to(source: Source) -> HttpResponse:
    return redirect("source_detail", org=source.organization.slug, source_id=source.pk)


def _pushes(source: Source) -> QuerySet[SourcePush]:
    return SourcePush.objects.filter(source=source).select_related("source", "version__model", "organization")


@login_required
@require_http_methods(["GET", "POST"])
def source_list(request: HttpRequest, org: str) -> HttpResponse:
    """And, by POST, connecting one: its secret is in the answer, this once."""
    post = request.method == "POST"
    organization = access.organization(caller_of(request), org, "source.manage" if post else "source.view")
    form = ConnectForm(request.POST or None)
    if post and form.is_valid():
        names = ("clone_url", "kind", "model", "deployment", "branch", "folder", "previews")
        given = {name: form.cleaned_data[name] for name in names}
        try:
            source, secret = sources.connect(organization, caller_of(request), **given, **form.credentials())
        except (errors.Invalid, errors.Conflict) as error:
            tell(form, error)
        else:
            return _shown_once(request, source, secret)
    newest = SourcePush.objects.filter(source=OuterRef("pk")).order_by("-pk")
    rows = Source.objects.filter(organization=organization).annotate(
        **{f"last_{name}": Subquery(newest.values(name)[:1]) for name in ("status", "branch", "created_at")}
    )
    context = {
        "organization": organization,
        "page": Paginator(rows.order_by("-pk"), PAGE).get_page(request.GET.get("page")),
        "form": form,
        "may_manage": caller_of(request).can("source.manage", organization),
    }
    return render(request, "registry/source_list.html", context, status=422 if form.errors else 200)


def _shown_once(request: HttpRequest, source: Source, secret: str) -> HttpResponse:
    context = {**_frame(request, source), "secret": secret, **_setup(source)}
    return render(request, "registry/source_secret.html", context, status=201)


def _setup(source: Source) -> dict[str, str]:
    return {
        "hook_url": source_setup.hook_url(source),
        "hook_settings_url": source_setup.hook_settings_url(source),
        "generic_call": source_setup.generic_call(source),
    }


@login_required
@require_GET
def source_detail(request: HttpRequest, org: str, source_id: Any) -> HttpResponse:
    """Its pushes, live while something goes on."""
    source = _source(request, org, source_id)
    page = Paginator(_pushes(source).order_by("-pk"), PAGE).get_page(request.GET.get("page"))
    for push in page:
        push.address = _address(push)
    context = {
        **_frame(request, source),
        **_setup(source),
        "page": page,
        "live": any(not push.ended for push in page),
        "trouble": _trouble(source),
        "deliveries": source.deliveries.all()[:_DELIVERIES],
        "tells": source.kind == Source.Kind.GITHUB and bool(source.token_sealed or source.app_id),
    }
    return render(request, "registry/_source_pushes.html" if request.htmx else "registry/source_detail.html", context)


def _trouble(source: Source) -> dict[str, Any] | None:
    """Why the git server was not told, when the newest report did not get through."""
    newest = SourcePush.objects.filter(source=source, report__told__isnull=False).order_by("-pk").first()
    failed = SourcePush.objects.filter(source=source, report__trouble__code__isnull=False).order_by("-pk").first()
    if failed is None or (newest is not None and newest.pk > failed.pk):
        return None
    return (failed.report or {}).get("trouble")


def _address(push: SourcePush) -> str:
    if push.status != PushStatus.LIVE:
        return ""
    path = f"/api/v1/predict/{push.organization.slug}/{push.source.deployment}"
    return settings.BASE_URL + (path if push.production else f"{path}/previews/{push.preview}")


@login_required
@require_GET
def source_push(request: HttpRequest, org: str, source_id: Any, push_id: int) -> HttpResponse:
    rows = _pushes(_source(request, org, source_id))
    push = access.get(caller_of(request), rows, "source.view", pk=push_id)
    facts = (push.report or {}).get("facts") or {}
    context = {
        **_frame(request, push.source),
        "push": push,
        "steps": steps_of(push),
        "live": not push.ended,
        "address": _address(push),
        "facts": facts,
        "trouble": (push.report or {}).get("trouble"),
    }
    return render(request, "registry/_source_push.html" if request.htmx else "registry/source_push.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def source_settings(request: HttpRequest, org: str, source_id: Any) -> HttpResponse:
    source = _source(request, org, source_id, "source.manage")
    shown = {name: getattr(source, name) for name in ("branch", "previews", *_SHOWN)}
    form = SourceForm(request.POST or None, initial=shown)
    if request.method == "POST" and form.is_valid():
        try:
            sources.change(source, caller_of(request), **form.changes())
        except errors.Invalid as error:
            tell(form, error)
            source.refresh_from_db()
        else:
            messages.success(request, "Saved.")
            return _to(source)
    context = {**_frame(request, source), "form": form}
    return render(request, "registry/source_settings.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def source_deploy(request: HttpRequest, org: str, source_id: Any) -> HttpResponse:
    source = _source(request, org, source_id, "deployment.write")
    branch = address.branch(request.POST.get("ref", "").strip() or source.branch)
    push, reason = pushes.receive(source, branch=branch, by=caller_of(request).person)
    if push is None:
        messages.info(request, f"Nothing to do: {reason}.")
        return _to(source)
    return redirect("source_push", org=org, source_id=source.pk, push_id=push.pk)


@login_required
@require_POST
def source_rotate(request: HttpRequest, org: str, source_id: Any) -> HttpResponse:
    source = _source(request, org, source_id, "source.manage")
    return _shown_once(request, source, sources.rotate_secret(source, caller_of(request)))


@login_required
@require_POST
def source_enable(request: HttpRequest, org: str, source_id: Any) -> HttpResponse:
    """``on`` (1) or off."""
    source = _source(request, org, source_id, "source.manage")
    on = request.POST.get("on") == "1"
    sources.change(source, caller_of(request), enabled=on)
    messages.success(request, "Pushes are deployed again." if on else "Switched off: its webhook is answered with 410.")
    return _to(source)


@login_required
@require_POST
def source_disconnect(request: HttpRequest, org: str, source_id: Any) -> HttpResponse:
    source = _source(request, org, source_id, "source.manage")
    sources.disconnect(source, caller_of(request))
    messages.success(request, "Disconnected. Its previews go; versions and the deployment stay.")
    return redirect("source_list", org=org)
