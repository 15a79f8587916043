"""A person's own account: the name others see, and the way to password, addresses and second factor."""

from __future__ import annotations

from allauth.mfa.utils import is_mfa_enabled
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts import services
from accounts.forms import AccountForm, tell
from accounts.models import Membership
from mlops.core import errors


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def account_settings(request: HttpRequest) -> HttpResponse:
    form = AccountForm(request.POST or None, initial={"name": request.user.name, "time_zone": request.user.time_zone})
    if request.method == "POST" and form.is_valid():
        try:
            services.change_user(request.user, **form.cleaned_data)
        except errors.Invalid as error:
            tell(form, error)
        else:
            messages.success(request, "Saved.")
            return redirect("account_settings")
    context = {
        "form": form,
        "verified": request.user.emailaddress_set.filter(email=request.user.email, verified=True).exists(),
        "mfa": is_mfa_enabled(request.user),
        "memberships": Membership.objects.filter(user=request.user)
        .select_related("organization")
        .order_by("organization__name"),
    }
    return render(request, "accounts/account_settings.html", context, status=422 if form.errors else 200)
