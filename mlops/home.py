"""The first pages: where a signed-in person lands, and an organisation's overview."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import path
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from accounts.models import Organization
from mlops import overview, sample, welcome
from monitoring.services import attention

_LAST_ORG = "last_org"


@login_required
@require_safe
def home(request: HttpRequest) -> HttpResponse:
    """To the organisation looked at last, else to the first one."""
    caller = caller_of(request)
    mine = Organization.objects.filter(pk__in=caller.organization_ids)
    found = mine.filter(slug=request.session.get(_LAST_ORG, "")).first() or mine.order_by("personal", "name").first()
    return redirect("org_home", org=found.slug) if found else redirect("organization_create")


@login_required
@require_safe
def org_home(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org)
    request.session[_LAST_ORG] = organization.slug
    search = request.GET.get("q", "").strip()
    page, rows = overview.models_page(organization, search=search, number=request.GET.get("page", 1))
    context = {"organization": organization, "page": page, "rows": rows, "search": search}
    if request.htmx:
        return render(request, "home/_org_home_models.html", context)
    context["may_push"] = caller_of(request).can("model.write", organization)
    if not rows and not search and page.number == 1:
        return render(request, "home/welcome.html", context)
    return render(
        request,
        "home/org_home.html",
        {**context, "attention": attention(organization), "totals": overview.totals(organization)},
    )


@login_required
@require_POST
def push_sample(request: HttpRequest, org: str) -> HttpResponse:
    """The sample model that ships with the product, pushed like any other."""
    caller = caller_of(request)
    version = sample.push(access.organization(caller, org, "model.write"), caller)
    messages.success(request, "The sample model was pushed. It is checked now, then deployed.")
    return redirect("version_detail", org=org, model=version.model.slug, number=version.number)


urlpatterns = [
    path("", home, name="home"),
    path("welcome/<str:token>/", welcome.one_time_sign_in, name="one_time_sign_in"),
    path("<slug:org>/", org_home, name="org_home"),
    path("<slug:org>/sample/", push_sample, name="push_sample"),
]
