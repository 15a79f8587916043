"""An organisation itself: make one, rename it, leave it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, services
from accounts.caller import caller_of
from accounts.forms import OrganizationForm, RenameForm, tell
from mlops.core import errors


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def organization_create(request: HttpRequest) -> HttpResponse:
    form = OrganizationForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            made = services.create_organization(caller_of(request), **form.cleaned_data)
        except (errors.Invalid, errors.Conflict) as error:
            tell(form, error)
        else:
            messages.success(request, f"{made.name} is yours. Invite the others under Settings, Members.")
            return redirect("org_home", org=made.slug)
    return render(request, "accounts/organization_create.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def organization_settings(request: HttpRequest, org: str) -> HttpResponse:
    caller = caller_of(request)
    organization = access.organization(caller, org, "org.manage" if request.method == "POST" else "org.view")
    form = RenameForm(request.POST or None, initial={"name": organization.name})
    if request.method == "POST" and form.is_valid():
        try:
            services.rename_organization(organization, caller, name=form.cleaned_data["name"])
        except errors.Invalid as error:
            tell(form, error)
        else:
            messages.success(request, "Renamed. Its address stays the same.")
            return redirect("organization_settings", org=org)
    context = {
        "form": form,
        "organization": organization,
        "may_manage": caller.can("org.manage", organization),
        "my_role": caller.role_in(organization),
    }
    return render(request, "accounts/organization_settings.html", context, status=422 if form.errors else 200)


@login_required
@require_POST
def organization_leave(request: HttpRequest, org: str) -> HttpResponse:
    caller = caller_of(request)
    organization = access.organization(caller, org)
    services.leave(organization, caller)
    messages.success(request, f"You left {organization.name}.")
    return redirect("home")
