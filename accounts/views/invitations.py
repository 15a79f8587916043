"""Invitations: accept one (new people make an account on the way), send again, take back."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access, services
from accounts.adapter import INVITED_EMAIL
from accounts.caller import caller_of
from accounts.models import Invitation
from accounts.services.invitations import invited


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def invitation_accept(request: HttpRequest, token: str) -> HttpResponse:
    """A look shows who invites whom; the button joins. Signed out: sign in or make an account, then come back here."""
    invitation = services.find_invitation(token)
    if request.method == "POST":
        if not request.user.is_authenticated:
            return redirect_to_login(request.get_full_path())
        services.accept_invitation(invitation, request.user)
        messages.success(request, f"Welcome to {invitation.organization.name}.")
        return redirect("org_home", org=invitation.organization.slug)
    if (
        not request.user.is_authenticated
    ):  # who brings the token has read the mail: no second mail to confirm the address
        request.session[INVITED_EMAIL] = invitation.email
    back = urlencode({"next": request.path})
    context = {
        "invitation": invitation,
        "fits": request.user.is_authenticated and invited(invitation, request.user),
        "login_url": f"{reverse('account_login')}?{back}",
        "signup_url": f"{reverse('account_signup')}?{back}&{urlencode({'email': invitation.email})}",
    }
    return render(request, "accounts/invitation_accept.html", context)


def _invitation(request: HttpRequest, org: str, invitation_id: int) -> Invitation:
    rows = Invitation.objects.select_related("organization")
    return access.get(caller_of(request), rows, "members.manage", organization__slug=org, pk=invitation_id)


@login_required
@require_POST
def invitation_resend(request: HttpRequest, org: str, invitation_id: int) -> HttpResponse:
    invitation = _invitation(request, org, invitation_id)
    services.resend_invitation(invitation, caller_of(request))
    messages.success(request, f"Sent again to {invitation.email}; the link in the earlier mail no longer works.")
    return redirect("member_list", org=org)


@login_required
@require_POST
def invitation_revoke(request: HttpRequest, org: str, invitation_id: int) -> HttpResponse:
    invitation = _invitation(request, org, invitation_id)
    services.revoke_invitation(invitation, caller_of(request))
    messages.success(request, f"The invitation of {invitation.email} was taken back.")
    return redirect("member_list", org=org)
